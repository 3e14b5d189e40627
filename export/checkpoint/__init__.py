"""Opens models by name, from checkpoint folders or from the hub: configuration, weights, tokens."""
