"""Does each module keep its contract? One folder per wing; no server processes."""
