"""What rounding needs to know of a model's inputs."""
