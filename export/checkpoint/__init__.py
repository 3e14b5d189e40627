"""What is read: models by name, checkpoint folders and the hub, tokenizers, weights."""
