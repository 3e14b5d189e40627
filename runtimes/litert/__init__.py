"""Runs the .tflite models of LiteRT-LM bundles (.litertlm) with LiteRT in Python."""
