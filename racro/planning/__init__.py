"""What will a training cost? Time, memory, bytes and money, before anything runs."""
