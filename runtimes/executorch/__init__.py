"""Runs ExecuTorch programs (.pte) with ExecuTorch's runtime in Python."""
