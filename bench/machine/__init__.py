"""The machine a measurement is taken on: what it is, what it can do, what it gives to a process."""
