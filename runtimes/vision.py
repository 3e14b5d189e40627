"""What a vision tower is to a backend: images in, rows for the decoder out.

A decoder may take rows of another library's tower, so towers are opened apart from decoders.
NOT aware of libraries, prompts or caches.
"""

from typing import Protocol

from export.images.pixels import Pixels
from runtimes.base import FloatArray


class Tower(Protocol):
    """A loaded vision tower with its projector."""

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Features of the images in order, one row per image token: [tokens, hidden]."""

    def close(self) -> None:
        """Free it; twice is fine."""
