"""Artifacts held against their checkpoints."""
