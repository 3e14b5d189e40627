"""Trains the tiny twins: small checkpoints in the hub's exact file format."""
