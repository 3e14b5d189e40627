"""The parts of a network, one file each: hyperparameters, tensors, forward pass and checks."""
