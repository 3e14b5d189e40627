"""The reference implementation of the networks, in eager torch."""
