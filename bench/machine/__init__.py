"""The machine of a measurement: its environment, its limits, and the memory of a process."""
