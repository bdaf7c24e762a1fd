"""What is claimed, and does it hold? One file per claim or module, in the folders of what they test."""
