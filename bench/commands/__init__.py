"""The commands of `bench`: each module has `run(arguments) -> exit code`."""
