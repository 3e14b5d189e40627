"""Builds models with other projects' exporters, and compares their programs with our runtimes."""
