"""The lengths that an ExecuTorch program is made for, and what it says of itself.

A program's constant methods are read by ExecuTorch's runners before anything else.
"""

from collections.abc import Mapping

from export.model import Model
from export.modeling.vision import ImageVision
from export.modeling.vlm import Vlm

PROGRAM = "model.pte"
"""Name of the file in an artifact."""
CACHED_POSITIONS = 4096
"""Most positions of a program's key-value cache, whose memory is taken when it is loaded."""
NEW_POSITIONS = 1024
"""Most positions that a decoder takes at once. Their memory is planned when the program is made;
that of 4096 would be half as large as SmolVLM's key-value cache."""
MOST_PATCHES = 4096
"""Most patches of an image of any size, whose memory is planned when the program is made."""


def cached_positions(vlm: Vlm) -> int:
    """Returns how many positions the key-value cache of a model's program has."""
    return min(vlm.text.context, CACHED_POSITIONS)


def new_positions(vlm: Vlm) -> int:
    """Returns the most positions that one call of the decoder takes.

    Positions that attend to each other in both directions have to come together.
    """
    return min(cached_positions(vlm), max(NEW_POSITIONS, vlm.text.prefix))


def most_patches(model: Model) -> int:
    """Returns the most patches that an image may have, a multiple of a square's.

    It is the recipe's limit, but at most MOST_PATCHES. The model takes images of any size.
    """
    vision, image = model.vlm.vision, model.image
    assert isinstance(vision, ImageVision)
    assert image is not None
    assert image.kind == "patches"
    square = vision.tower.spatial_merge_size**2
    allowed = image.most_pixels // vision.tower.patch_size**2
    return min(allowed, MOST_PATCHES) // square * square


def constants(model: Model) -> Mapping[str, int | bool | list[int]]:
    """Returns the constant methods of a model's program: name -> value."""
    text = model.vlm.text
    found: dict[str, int | bool | list[int]] = {
        "get_max_seq_len": new_positions(model.vlm),
        "get_max_context_len": cached_positions(model.vlm),
        "get_vocab_size": text.vocab,
        "get_n_layers": text.layers,
        "get_eos_ids": list(model.vlm.stop_token_ids),
        "use_kv_cache": True,
        "enable_dynamic_shape": True,
        "use_sdpa_with_kv_cache": True,
    }
    if model.vlm.bos_token_id is not None:
        found["get_bos_id"] = model.vlm.bos_token_id
    return found
