"""Claims about model folders: which files count, which folders are refused."""
