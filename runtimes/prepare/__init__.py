"""Prepares a request for a model: turns images into pixel values and a question into prompt ids."""
