"""Lists the methods of an ExecuTorch program: their networks, example inputs and dynamic shapes.

The names are those that ExecuTorch's runner of multimodal models looks for; the others are our own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import torch
from torch import nn
from torch.export import Dim

from export.executorch.attention import OperatorCache
from export.executorch.layers import Layers
from export.executorch.metadata import cached_positions, most_patches, new_positions
from export.model import Model
from export.modeling.region_heads import Head
from export.modeling.vision import ImageVision, TileVision, Vision
from export.modeling.vlm import Vlm
from export.torch.modules import (
    BinsModule,
    DecoderModule,
    EmbeddingModule,
    ImageModule,
    JoinModule,
    NumberModule,
    TileModule,
)

EXAMPLE = 5
"""Positions of the example inputs. Neither 0 nor 1, which torch.export takes for fixed."""
MakeLayers = Callable[[str, int], Layers]
"""Makes the weights' modules for a component's network and the most rows of patches of an image."""


@dataclass(frozen=True, eq=False)
class Method:
    """One method of a program: a torch module, and what torch.export traces it with.

    inputs: examples by the names of the module's parameters, in the method's order. shapes: which
    axes of an input are of any length (torch.export's dynamic_shapes).
    """

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    shapes: Mapping[str, Any]

    @classmethod
    def fixed(cls, module: nn.Module, name: str, example: torch.Tensor) -> "Method":
        """Returns a method with one input, which always has the example's shape."""
        return cls(module, {name: example}, {name: {}})


def methods(model: Model, make: MakeLayers) -> Mapping[str, Method]:
    """Returns the methods of a model's program by name."""
    vlm = model.vlm
    found = {} if vlm.vision is None else dict(_of_images(model, vlm.vision, make))
    found["token_embedding"] = _embedding(vlm, make)
    found["text_decoder"] = _decoder(vlm, make)
    if vlm.region is not None:
        found |= _of_regions(vlm, make)
    return found


def _of_images(model: Model, vision: Vision, make: MakeLayers) -> Mapping[str, Method]:
    match vision:
        case ImageVision(tower=tower):
            most, square = most_patches(model), tower.spatial_merge_size**2
            patches = square * Dim("squares", min=1, max=most // square)
            module = ImageModule(vision, make("vision", most // tower.spatial_merge_size))
            count = square * EXAMPLE
            inputs = {"patches": torch.zeros(count, tower.patch_values), **_places(count)}
            shapes = {name: {0: patches} for name in inputs}
            return {"vision_encoder": Method(module, inputs, shapes)}
        case TileVision(tower=tower):
            tile = torch.zeros(1, tower.channels, tower.image_size, tower.image_size)
            encoder = Method.fixed(TileModule(vision, make("vision", 0)), "pixels", tile)
            if vision.crops is None:
                return {"vision_encoder": encoder}
            stitched = torch.zeros(1, tower.patches, 2 * tower.hidden)
            joining = Method.fixed(JoinModule(vision, make("vision", 0)), "patches", stitched)
            return {"vision_encoder": encoder, "projection": joining}
        case _:
            assert_never(vision)


def _places(count: int) -> Mapping[str, torch.Tensor]:
    """Returns rows and columns of `count` patches of an example image."""
    index = torch.arange(count)
    return {"rows": index // 2, "columns": index % 2}


def _embedding(vlm: Vlm, make: MakeLayers) -> Method:
    new = Dim("new", min=1, max=new_positions(vlm))
    ids = torch.zeros(1, EXAMPLE, dtype=torch.int64)
    return Method(EmbeddingModule(vlm, make("embedding", 0)), {"ids": ids}, {"ids": {1: new}})


def _decoder(vlm: Vlm, make: MakeLayers) -> Method:
    text, length = vlm.text, cached_positions(vlm)
    new = Dim("new", min=1, max=new_positions(vlm))
    inputs = {"embeds": torch.zeros(1, EXAMPLE, text.hidden), "indices": torch.arange(EXAMPLE)}
    shapes: dict[str, Any] = {"embeds": {1: new}, "indices": {0: new}}
    if text.rope_sections:
        inputs["positions"] = torch.zeros(3, EXAMPLE, dtype=torch.int64)
        shapes["positions"] = {1: new}
    if text.sees_later_positions:
        inputs["image_ids"] = torch.zeros(length, dtype=torch.int64)
        shapes["image_ids"] = {}
    cache = OperatorCache(text, length)
    return Method(DecoderModule(vlm, make("decoder", 0), cache), inputs, shapes)


def _of_regions(vlm: Vlm, make: MakeLayers) -> Mapping[str, Method]:
    region = vlm.region
    assert region is not None
    heads: tuple[tuple[Head, str, int], ...] = (("coord", "coordinate", 1), ("size", "size", 2))
    found = {}
    for head, word, count in heads:
        numbers, state = torch.zeros(1, count), torch.zeros(1, vlm.text.hidden)
        encoder = NumberModule(region, head, make("region", 0))
        decoder = BinsModule(region, head, make("region", 0))
        found[f"{word}_embedding"] = Method.fixed(encoder, "numbers", numbers)
        found[f"{word}_bins"] = Method.fixed(decoder, "state", state)
    return found
