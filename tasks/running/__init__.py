"""How does a stage run? Cache, retries, locks, engines, progress, clean-up."""
