"""Other people's ways to run a text decoder, driven by our loop so that both are timed alike."""
