"""What do tests share? Stand-ins for stores and servers, and programs that tests start."""
