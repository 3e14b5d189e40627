"""Baselines for our runtimes: other ways to run a text decoder, timed in our generation loop."""
