"""Describes the machine of a measurement: hardware, software, ceilings, and a process's memory."""
