"""The parts of a model, one file each: numbers, tensors, arithmetic and rules for the numbers."""
