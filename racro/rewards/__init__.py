"""What is a caption worth? One file per kind of reward."""
