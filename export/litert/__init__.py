"""Writes LiteRT-LM bundles: networks as .tflite models, tokenizer and metadata in one file."""
