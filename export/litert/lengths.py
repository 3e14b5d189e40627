"""The lengths that a bundle's decoder is made for."""

from export.modeling.vlm import Vlm

CACHED_POSITIONS = 4096
"""Most positions of the key-value cache, whose memory is taken when a bundle is opened."""
TEXT_POSITIONS = 128
"""Positions of a prefill beside those of an image."""


def cached_positions(vlm: Vlm) -> int:
    """Returns how many positions the key-value cache has."""
    return min(vlm.text.context, CACHED_POSITIONS)


def prefill_positions(vlm: Vlm) -> int:
    """Returns how many positions one prefill takes: a power of two, or the whole cache.

    An image and TEXT_POSITIONS fit into it, as an image whose positions attend to each other must
    not be cut. There is only one length: the runner would cut a prompt to fill shorter ones.
    """
    image = 0 if vlm.vision is None else vlm.vision.tokens_per_tile
    least = image + TEXT_POSITIONS
    return min(1 << (least - 1).bit_length(), cached_positions(vlm))
