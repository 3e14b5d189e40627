"""Runs ONNX artifacts with OpenVINO."""
