"""What survives a crash, a full disk or a failing store? Processes are killed, stores answer with errors."""
