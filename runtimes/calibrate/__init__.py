"""Runs the reference on questions, to choose how each matrix is rounded."""
