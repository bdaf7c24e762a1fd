"""What keeps running in the background? Servers and workers of `racro up`, and their registration."""
