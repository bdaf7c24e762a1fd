"""What can be typed? The command `racro`: reads options, calls a flow, prints tables."""
