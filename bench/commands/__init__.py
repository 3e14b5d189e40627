"""The commands of `bench`: each module has a `run(arguments)` that returns the exit code."""
