"""What runtimes share that run the ONNX graphs of an artifact, each with its own library."""
