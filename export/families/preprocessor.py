"""Reads preprocessor_config.json: settings that a recipe can express, or a one-line error."""

from export.families.section import Section
from export.images.pixels import Triple

PREPROCESSOR = "preprocessor_config.json"
HALF: Triple = (0.5, 0.5, 0.5)


def channels(preprocessor: Section, key: str, default: Triple = HALF) -> Triple:
    """A number for red, green and blue."""
    red, green, blue = preprocessor.numbers(key, default, length=3)
    return red, green, blue


def rescale(preprocessor: Section) -> float:
    """The factor of a pixel's value, 1/255 by default."""
    return preprocessor.number("rescale_factor", 1 / 255)
