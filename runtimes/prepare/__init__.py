"""Prepares a request for a model: from images to pixel values, from a question to prompt ids."""
