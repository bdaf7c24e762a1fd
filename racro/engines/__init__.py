"""Who generates text? One protocol and several engines behind it."""
