"""The embedded world: synthetic problems, two tiny models, and the recipe that rebuilds them from nothing."""
