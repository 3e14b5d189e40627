"""Rejects models that llama.cpp would compute wrongly, before a GGUF file is written.

llama.cpp has some of a model's numbers as constants in its code. It loads a file of a model with
other numbers without an error, and computes something different. Sources: tools/mtmd/clip.cpp,
tools/mtmd/models/*.cpp and src/models/gemma3.cpp of llama.cpp.
"""

import math
from collections.abc import Iterator
from typing import assert_never

from export.errors import UserError
from export.families.spec import Gguf
from export.images import ImageRecipe
from export.modeling.decoder import Decoder
from export.modeling.qwen_vit import QwenVit
from export.modeling.vision import ImageVision, TileVision
from export.modeling.vlm import Vlm

WINDOW_PIXELS = 112
"""Edge, in pixels, of the attention windows of Qwen2.5-VL's tower: a constant in clip.cpp."""
MERGE_SIZE, FRAMES = 2, 2
"""spatial_merge_size and temporal_patch_size of the same tower."""

HEAD_KEY = "attention.key_length"


def expect_decoder(text: Decoder, facts: Gguf) -> None:
    """Raises UserError if llama.cpp would scale or divide this decoder's attention differently.

    `facts` are its conventions for the family: some architectures have no key for the heads' size.
    """
    if text.head_dim * text.heads != text.hidden and HEAD_KEY not in facts.stated:
        raise UserError(
            f"config.json: head_dim {text.head_dim} is not hidden_size {text.hidden} / "
            f"num_attention_heads {text.heads}, which llama.cpp's {facts.arch} uses in its place; "
            f"export for the onnx target instead"
        )
    scale = text.attention_scale
    if scale is not None and not math.isclose(scale, text.head_dim**-0.5, rel_tol=1e-6):
        raise UserError(
            f"config.json: query_pre_attn_scalar {scale**-2:.6g} is not head_dim {text.head_dim}, "
            f"which llama.cpp uses in its place; export for the onnx target instead"
        )


def expect_mmproj(vlm: Vlm, image: ImageRecipe) -> None:
    """Raises UserError if llama.cpp would compute the vision tower or its pixels differently.

    An mmproj file, llama.cpp's file for the tower, has no keys for some of their numbers.
    """
    if not math.isclose(image.rescale, 1 / 255, rel_tol=1e-6):
        raise UserError(
            f"preprocessor_config.json: rescale_factor is {image.rescale}, but llama.cpp "
            f"always uses 1/255; export for the onnx target instead"
        )
    vision = vlm.require_vision()
    match vision:
        case TileVision():
            if vision.crops and image.most_tiles > 1:
                raise UserError(
                    f"{vlm.family} cuts an image into up to {image.most_tiles - 1} crops, but "
                    f"llama.cpp does not; export with --layout onnx-vision, or with --max-tiles 1"
                )
        case ImageVision():
            _expect_qwen_vit(vision.tower)
        case _:
            assert_never(vision)


def _expect_qwen_vit(tower: QwenVit) -> None:
    """Raises UserError if a number of the tower differs from llama.cpp's constant for it."""
    for found, expected in _qwen_vit(tower):
        if found != expected:
            raise UserError(
                f"config.json: vision_config has {found}, but llama.cpp computes {expected}; "
                f"export for the onnx target or with --layout onnx-vision"
            )


def _qwen_vit(tower: QwenVit) -> Iterator[tuple[str, str]]:
    """Yields, for each of llama.cpp's constants, the tower's number and llama.cpp's.

    Both are texts with the key of config.json, such as "window_size 112".
    """
    pixels = (tower.window or 0) * tower.patch_size
    yield f"window_size {pixels}", f"window_size {WINDOW_PIXELS}"
    yield f"spatial_merge_size {tower.spatial_merge_size}", f"spatial_merge_size {MERGE_SIZE}"
    frames = tower.temporal_patch_size
    yield f"temporal_patch_size {frames}", f"temporal_patch_size {FRAMES}"
    full = tower.full_attention_layers
    every = full[0] + 1 if full else tower.layers + 1
    periodic = tuple(range(every - 1, tower.layers, every))
    yield f"fullatt_block_indexes {list(full)}", f"fullatt_block_indexes {list(periodic)}"
