"""Job files: bytes in, a checked `JobSpec` or complaints that name file, line, key and remedy out. No file access."""
