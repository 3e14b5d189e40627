"""Programs that run in environments of other projects: they import neither us nor each other."""
