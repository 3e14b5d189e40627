"""What a transformers model takes for a prompt that we prepared, for every family it has."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from export.arrays import FloatArray, IntArray
from export.images.pixels import Pixels
from export.modeling.vlm import Vlm

Inputs = dict[str, torch.Tensor]
Images = tuple[Pixels, ...]


def _tiles(images: Images, ids: torch.Tensor, vlm: Vlm) -> Inputs:
    if not images:
        return {}
    values = torch.from_numpy(np.concatenate([image.values for image in images]))[None]
    seen = torch.ones(1, values.shape[1], *values.shape[-2:], dtype=torch.bool)
    return {"pixel_values": values, "pixel_attention_mask": seen}


def _stretched(images: Images, ids: torch.Tensor, vlm: Vlm) -> Inputs:
    inputs = {"token_type_ids": (ids == vlm.image_token_id).long()}
    if images:
        inputs["pixel_values"] = torch.from_numpy(np.concatenate([one.values for one in images]))
    return inputs


def _patches(images: Images, ids: torch.Tensor, vlm: Vlm) -> Inputs:
    if not images:
        return {}
    grids = [image.token_grid for image in images if image.token_grid]
    return {
        "pixel_values": torch.from_numpy(np.concatenate([image.values for image in images])),
        "image_grid_thw": torch.tensor([[1, 2 * rows, 2 * cols] for rows, cols in grids]),
        "mm_token_type_ids": (ids == vlm.image_token_id).int(),
    }


def _aspect_tiles(images: Images, ids: torch.Tensor, vlm: Vlm) -> Inputs:
    if not images:
        return {}
    return {"pixel_values": torch.from_numpy(np.concatenate([image.values for image in images]))}


_MORE: Mapping[str, Callable[[Images, torch.Tensor, Vlm], Inputs]] = {
    "smolvlm": _tiles,
    "gemma3": _stretched,
    "qwen2_5_vl": _patches,
    "internvl": _aspect_tiles,
}


def inputs_of(vlm: Vlm, ids: IntArray, images: Images) -> dict[str, Any]:
    """Arguments of the model's forward and generate, a batch of one."""
    batch = torch.from_numpy(np.asarray(ids, np.int64)[None])
    return {"input_ids": batch, **_MORE[vlm.family](images, batch, vlm)}


def logits_of(hf: PreTrainedModel, vlm: Vlm, ids: IntArray, images: Images) -> FloatArray:
    """Logits [n, vocab] of every position, in one pass."""
    found: FloatArray = hf(**inputs_of(vlm, ids, images)).logits[0].numpy()
    return found


def greedy_of(
    hf: PreTrainedModel, vlm: Vlm, ids: IntArray, images: Images, most: int
) -> tuple[int, ...]:
    """The tokens that `generate` answers with."""
    inputs = inputs_of(vlm, ids, images)
    made = hf.generate(
        **inputs,
        attention_mask=torch.ones_like(inputs["input_ids"]),
        do_sample=False,
        max_new_tokens=most,
        eos_token_id=list(vlm.stop_token_ids),
        pad_token_id=0,
    )
    return tuple(made[0, len(ids) :].tolist())
