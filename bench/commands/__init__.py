"""The commands of `bench`, each a module with `run(arguments) -> exit code`."""
