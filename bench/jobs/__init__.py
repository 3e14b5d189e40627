"""Plans the jobs of `bench run`, and runs each in its own process until it has a record."""
