"""Reads settings that preprocessor_config.json has in the same way for every family."""

from export.families.section import Section
from export.images.pixels import Triple

PREPROCESSOR = "preprocessor_config.json"
HALF: Triple = (0.5, 0.5, 0.5)


def channels(preprocessor: Section, key: str, default: Triple = HALF) -> Triple:
    """Reads the three numbers under `key`, for red, green and blue. Raises UserError."""
    red, green, blue = preprocessor.numbers(key, default, length=3)
    return red, green, blue


def rescale(preprocessor: Section) -> float:
    """Reads rescale_factor, by which each pixel's value is multiplied; 1/255 if it is absent."""
    return preprocessor.number("rescale_factor", 1 / 255)
