"""Is the documentation true? Its commands run, its code is parsed, its map and links are checked."""
