"""Records as something to read: pure functions from records to documents and figures."""
