"""Moondream's forward pass in pieces: the project's own network with weights that learn.

transformers has no class of this family, so what is trained is export/network.py by the reference
interpreter, given packed questions' masks and positions. NOT aware of prompts, tasks or files.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from export import network
from export.families.geometry import Decoder
from export.families.moondream import MOONDREAM
from export.rotary import of_both_halves, rotary_tables
from export.shapes import component, shapes
from export.torch.run import Run
from export.torch.step import Step, Turns
from models.train import moondream_files as files

INITIAL = 0.02
TURNS = ("cos", "sin")
FREQUENCY = 2.0  # of the Fourier features, which stay as they are drawn


@dataclass(frozen=True, eq=False, kw_only=True)
class Given(Step):
    """A step of packed questions: who sees whom and where is given, for all layers."""

    mask: Tensor
    angles: Turns

    def seen(self, text: Decoder, layer: int, new: int) -> Tensor:
        return self.mask

    def turns(self, text: Decoder, layer: int, new: int) -> Turns:
        return self.angles


class Packed(Run):
    """The reference interpreter without decoding."""

    def cached_attention(
        self, qkv: Tensor, layer: int, text: Decoder, norms: tuple[str, str] | None = None
    ) -> Tensor:
        attended = super().cached_attention(qkv, layer, text, norms)
        self._cache.clear()
        return attended


class Moondream(nn.Module):
    """All parameters by canonical name, by the part that learns them; `ops` computes with them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.vlm = MOONDREAM.read(files.config(tokenizer))
        self.tokenizer = tokenizer
        # A name with "head" in it is for AdamW.
        self.parts = nn.ModuleDict(
            {part: nn.ParameterDict() for part in ("vision", "text", "head")}
        )
        for name, shape in shapes(self.vlm).items():
            self._dict(name)[name.replace(".", "/")] = _initial(name, shape)
        self.ops = Packed(self.parameter)
        text = self.vlm.text
        turns = of_both_halves(*rotary_tables(text.rope(0), text.context))
        for name, table in zip(TURNS, turns, strict=True):
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def parameter(self, name: str) -> Tensor:
        return cast(Tensor, self._dict(name)[name.replace(".", "/")])

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
        patches = network.vision(made.ops, made.vlm, pixels)
    return network.joined_projection(made.ops, torch.cat([patches, patches], dim=-1))


def attention(x: Tensor) -> AbstractContextManager[None]:
    """The plain one on a CPU, where the fused one's gradient is slow in bfloat16."""
    return nullcontext() if x.is_cuda else sdpa_kernel(SDPBackend.MATH)


def embed(model: nn.Module, ids: Tensor) -> Tensor:
    made = of(model)
    return network.embedding(made.ops, made.vlm.text, ids)


def hidden(model: nn.Module, embeddings: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """The decoder's states before the last norm, which is what the region heads read."""
    made = of(model)
    cos, sin = (made.get_buffer(name)[positions[0]] for name in TURNS)
    made.ops.step = Given(mask=mask == 0, angles=(cos, sin))
    with attention(embeddings):
        return network.decoder_and_state(made.ops, made.vlm.text, embeddings)[1]


def logits(model: nn.Module, hidden: Tensor) -> Tensor:
    made = of(model)
    text = made.vlm.text
    normed = made.ops.norm(hidden, "output_norm", text.norm, text.norm_eps)
    return made.ops.linear(normed, "output", bias=True)


def of(model: nn.Module) -> Moondream:
    return cast(Moondream, model)
