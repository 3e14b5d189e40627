"""Moondream's forward pass in pieces: the project's own network with weights that learn.

transformers has no class of this family, so what is trained is the family's parts
(export/modeling/) by the reference interpreter, with the masks and positions of packed questions.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from export.families.moondream import MOONDREAM
from export.families.section import Section
from export.modeling.ops import Heads
from export.modeling.region_heads import RegionHeads
from export.modeling.rotary import full_tables, rotary_tables
from export.modeling.vlm import component, shapes
from export.torch.attention import Rotation
from export.torch.run import Run
from models.train import moondream_files as files

INITIAL = 0.02
TABLES = ("cos", "sin")
FREQUENCY = 2.0  # of the Fourier features, which stay as they are drawn


@dataclass(frozen=True, eq=False)
class PackedState:
    """export.torch.attention.DecoderState of packed questions: one mask and rotation, no cache."""

    given_mask: Tensor
    given_rotation: Rotation

    def rotation(self, heads: Heads, new: int) -> Rotation:
        return self.given_rotation

    def mask(self, heads: Heads, new: int) -> Tensor:
        return self.given_mask

    def extended(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return key, value

    def last_tokens(self, x: Tensor) -> Tensor:
        return x[:, -1:]


class Moondream(nn.Module):
    """All parameters by canonical name, grouped by how they learn; `ops` computes with them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.vlm = MOONDREAM.read(Section(files.config(tokenizer), "config.json"))
        self.tokenizer = tokenizer
        # A name with "head" in it is for AdamW.
        self.parts = nn.ModuleDict(
            {part: nn.ParameterDict() for part in ("vision", "text", "head")}
        )
        for name, shape in shapes(self.vlm).items():
            self._dict(name)[name.replace(".", "/")] = _initial(name, shape)
        self.ops = Run(self.parameter)
        text = self.vlm.text
        tables = full_tables(*rotary_tables(text.rope(0), text.context))
        for name, table in zip(TABLES, tables, strict=True):
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def parameter(self, name: str) -> Tensor:
        return cast(Tensor, self._dict(name)[name.replace(".", "/")])

    @property
    def heads(self) -> RegionHeads:
        assert self.vlm.region is not None
        return self.vlm.region

    def _dict(self, name: str) -> nn.ParameterDict:
        is_head = name.startswith("output.") or "_decoder.1." in name
        part = "head" if is_head else "vision" if component(name) == "vision" else "text"
        return cast(nn.ParameterDict, self.parts[part])


def _initial(name: str, shape: tuple[int, ...]) -> nn.Parameter:
    if name.endswith("_features.weight"):
        return nn.Parameter(FREQUENCY * torch.randn(shape), requires_grad=False)
    if name.endswith("bias"):
        return nn.Parameter(torch.zeros(shape))
    return nn.Parameter(torch.ones(shape) if len(shape) == 1 else INITIAL * torch.randn(shape))


def image_tokens(model: nn.Module, pixels: Tensor) -> Tensor:
    """(batch, 3, 64, 64) in [-1, 1] to (batch, 64, width): one crop, which is the whole image."""
    made = of(model)
    with attention(pixels):
        patches = made.vlm.require_vision().forward(made.ops, pixels)
    crops = made.vlm.require_vision().crops
    assert crops is not None
    return crops.join(made.ops, torch.cat([patches, patches], dim=-1))


def attention(x: Tensor) -> AbstractContextManager[None]:
    """The plain one on a CPU, where the fused one's gradient is slow in bfloat16."""
    return nullcontext() if x.is_cuda else sdpa_kernel(SDPBackend.MATH)


def embed(model: nn.Module, ids: Tensor) -> Tensor:
    made = of(model)
    return made.vlm.text.embed(made.ops, ids)


def hidden(model: nn.Module, embeddings: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """The decoder's states before the last norm, which is what the region heads read."""
    made = of(model)
    cos, sin = (made.get_buffer(name)[positions[0]] for name in TABLES)
    state = PackedState(mask == 0, (cos, sin))
    with attention(embeddings):
        return made.vlm.text.forward(Run(made.parameter, state=state), embeddings)[1]


def logits(model: nn.Module, hidden: Tensor) -> Tensor:
    made = of(model)
    text = made.vlm.text
    normed = made.ops.norm(hidden, "output_norm", text.norm, text.norm_eps)
    return made.ops.linear(normed, "output", bias=True)


def of(model: nn.Module) -> Moondream:
    return cast(Moondream, model)
