"""Several machines: a Ray cluster of three nodes, all of them on this machine."""
