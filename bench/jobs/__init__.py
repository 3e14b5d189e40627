"""Jobs: which to run, and each one in its own process, from start to record."""
