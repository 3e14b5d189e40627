"""GGUF artifacts on llama.cpp."""
