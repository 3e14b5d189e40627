"""Runs artifacts of the layout transformers.js in Chromium."""
