"""Runs the reference on questions, to decide how the weights of a model are rounded."""
