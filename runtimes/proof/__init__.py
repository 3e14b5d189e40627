"""Proves an artifact: compares what it computes with what its checkpoint computes."""
