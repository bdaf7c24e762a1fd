"""What does `racro doctor` look at? One file per kind of check."""
