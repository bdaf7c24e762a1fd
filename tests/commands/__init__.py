"""Do the commands do what their help says? Each one is run as a user runs it."""
