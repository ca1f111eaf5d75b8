"""What Bitcoin is: bytes to columns. Pure: no files, no clock, nothing of ours but the error types."""
