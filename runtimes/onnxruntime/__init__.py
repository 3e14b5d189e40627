"""Runs ONNX artifacts with ONNX Runtime."""
