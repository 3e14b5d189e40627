"""Compares what an artifact computes with what its checkpoint computes."""
