"""Baselines for our runtimes: bare loops, and other projects' programs in their environments."""
