"""Runs GGUF artifacts with llama.cpp."""
