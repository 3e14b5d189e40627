"""Cuts a model to its first layers, so that what every kind of layer computes fits less memory."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from export.modeling.decoder import Decoder
from export.modeling.qwen_vit import QwenVit
from export.modeling.vision import ImageVision, TileVision, Vision
from export.modeling.vit import Vit
from export.modeling.vlm import Vlm

LEAST = 2
"""Layers that are kept even if all are of one kind: the second reads what the first one wrote."""


@dataclass(frozen=True)
class Depth:
    """How many layers the text decoder and the vision tower have; vision 0: there is no tower."""

    text: int
    vision: int


def whole(vlm: Vlm) -> Depth:
    """Returns the depth of a model."""
    return Depth(vlm.text.layers, 0 if vlm.vision is None else vlm.vision.tower.layers)


def least(vlm: Vlm) -> Depth:
    """Returns the fewest first layers, LEAST or more, among which is every kind of layer."""
    text = [(vlm.text.attention(i), vlm.text.state(i)) for i in range(vlm.text.layers)]
    vision = [] if vlm.vision is None else _tower_kinds(vlm.vision.tower)
    return Depth(_first_with_all(text), _first_with_all(vision))


def cut(vlm: Vlm, depth: Depth) -> Vlm:
    """Returns a model of only the first layers; its tensors are a part of the whole model's."""
    vision = None if vlm.vision is None else _cut_vision(vlm.vision, depth.vision)
    return replace(vlm, text=_cut_text(vlm.text, depth.text), vision=vision)


def _first_with_all(kinds: Sequence[Hashable]) -> int:
    first = [kinds.index(kind) + 1 for kind in set(kinds)]
    return min(len(kinds), max([LEAST, *first]))


def _tower_kinds(tower: Vit | QwenVit) -> Sequence[Hashable]:
    match tower:
        case Vit():
            return [()] * tower.layers
        case QwenVit():
            return [i in tower.full_attention_layers for i in range(tower.layers)]
        case _:
            assert_never(tower)


def _cut_text(text: Decoder, layers: int) -> Decoder:
    sliding = text.sliding and replace(text.sliding, layers=_below(text.sliding.layers, layers))
    return replace(text, layers=layers, sliding=sliding)


def _cut_vision(vision: Vision, layers: int) -> Vision:
    match vision:
        case TileVision():
            return replace(vision, tower=replace(vision.tower, layers=layers))
        case ImageVision(tower=tower):
            full = _below(tower.full_attention_layers, layers)
            cut = replace(tower, layers=layers, full_attention_layers=full)
            return replace(vision, tower=cut)
        case _:
            assert_never(vision)


def _below(layers: Sequence[int], end: int) -> tuple[int, ...]:
    return tuple(layer for layer in layers if layer < end)
