"""Reads settings that preprocessor_config.json has in the same way for every family."""

from export.errors import UserError
from export.families.section import Json, Section
from export.images.pixels import Triple

PREPROCESSOR = "preprocessor_config.json"
HALF: Triple = (0.5, 0.5, 0.5)
# CLIP's statistics (Radford et al. 2021).
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)


def steps(resample: int, *processors: str) -> Json:
    """Returns the keys of steps that are always taken, with the only values that are supported.

    resample: PIL's number of the filter. processors: classes of transformers that take these steps.
    """
    names = tuple(f"{name}{backend}" for name in processors for backend in ("", "Fast", "Pil"))
    return {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_processor_type": names,
        "resample": resample,
    }


def channels(preprocessor: Section, key: str, default: Triple = HALF) -> Triple:
    """Reads the three numbers under `key`, for red, green and blue. Raises UserError."""
    red, green, blue = preprocessor.numbers(key, default, length=3)
    return red, green, blue


def rescale(preprocessor: Section) -> float:
    """Reads rescale_factor, by which each pixel's value is multiplied; 1/255 if it is absent."""
    return preprocessor.number("rescale_factor", 1 / 255)


def expect_size(preprocessor: Section, edge: int) -> None:
    """Raises UserError unless images are resized to squares of `edge` pixels (the default)."""
    size = preprocessor.section("size", {"height": edge, "width": edge})
    size.expect({"longest_edge": None, "shortest_edge": None})
    if (size.integer("height", None), size.integer("width", None)) != (edge, edge):
        raise UserError(
            f"{preprocessor.file}: size is not height and width {edge}, the vision tower's "
            f"image_size of config.json; take both files from the same checkpoint"
        )
