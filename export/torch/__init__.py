"""The reference interpreter of the networks, in eager torch."""
