"""Logits and greedy tokens of a transformers model for a prompt that we prepared."""

import torch
from transformers import PreTrainedModel

from export.arrays import FloatArray, IntArray
from export.images.pixels import Pixels
from export.model import Model
from runtimes.proof.transformers_model import inputs_of


def logits_of(
    hf: PreTrainedModel, model: Model, ids: IntArray, images: tuple[Pixels, ...]
) -> FloatArray:
    """Logits [n, vocab] of every position, in one pass."""
    inputs = inputs_of(model, ids, images)
    found: FloatArray = hf(**inputs).logits[0].numpy()
    return found


def greedy_of(
    hf: PreTrainedModel, model: Model, ids: IntArray, images: tuple[Pixels, ...], most: int
) -> tuple[int, ...]:
    """The tokens that `generate` answers with."""
    inputs = inputs_of(model, ids, images)
    made = hf.generate(
        **inputs,
        attention_mask=torch.ones_like(inputs["input_ids"]),
        do_sample=False,
        max_new_tokens=most,
        eos_token_id=list(model.vlm.stop_token_ids),
        pad_token_id=0,
    )
    return tuple(made[0, len(ids) :].tolist())
