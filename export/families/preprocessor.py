"""Reads preprocessor_config.json: settings that a recipe can express, or a one-line error.

NOT aware of families; each says which steps its recipe always takes.
"""

from typing import Any

from export.errors import UserError
from export.families.spec import Json
from export.files import short

PREPROCESSOR = "preprocessor_config.json"
HALF = (0.5, 0.5, 0.5)


def channels(preprocessor: Json, key: str) -> tuple[float, float, float]:
    """Three numbers, by default a half each."""
    match preprocessor.get(key, list(HALF)):
        case [int() | float() as red, int() | float() as green, int() | float() as blue]:
            return float(red), float(green), float(blue)
        case found:
            raise UserError(f"{PREPROCESSOR}: {key} is {short(str(found))}, expected three numbers")


def rescale(preprocessor: Json) -> float:
    """What a pixel's value is multiplied by, 1/255 by default."""
    factor: Any = preprocessor.get("rescale_factor", 1 / 255)
    if isinstance(factor, (int, float)):
        return float(factor)
    raise UserError(f"{PREPROCESSOR}: rescale_factor is {short(str(factor))}, expected a number")
