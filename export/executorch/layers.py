"""Holds a model's weights as the modules that ExecuTorch's XNNPACK backend looks for.

`LayerRun` interprets networks with them. Each module is made when the network is first run.
"""

import math
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, assert_never, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.arrays import FloatArray
from export.executorch.attention import OperatorState, masking, sdpa
from export.executorch.ledger import Ledger
from export.executorch.packing import Packing
from export.model import Model
from export.modeling.ops import Activation, Heads, NormKind, PatchOrder
from export.modeling.rotary import patch_rope, rotary_tables
from export.quantize.recipe import Recipe
from export.quantize.rounding import Rounding
from export.torch.attention import DecoderState
from export.torch.run import Run

T = TypeVar("T")
Patches = tuple[Tensor, Tensor]
"""Row and column, int64 [N] each, of the patches of an image of any size."""


class Layers(nn.Module):
    """Holds the weights of one network in torch modules, packed as a recipe says.

    `part`: the component it belongs to, under which `ledger` notes how each weight is stored.
    `edge`: the most rows or columns of patches of an image of any size.
    """

    def __init__(
        self, model: Model, recipe: Recipe, ledger: Ledger, part: str, edge: int = 0
    ) -> None:
        super().__init__()
        self._weights, self._ledger, self._part, self._edge = model.weights, ledger, part, edge
        self._packing = Packing(model.weights, recipe, ledger, part, Rounding(model.hessians))
        self._made = nn.ModuleDict()

    def ops(self, state: DecoderState | None = None, patches: Patches | None = None) -> Run:
        """Returns the interpreter for one pass (NetworkWeights)."""
        return LayerRun(self, state, patches)

    def linear(self, names: tuple[str, ...], bias: bool) -> nn.Module:
        """Returns the linear map of all rows of the weights `names`, made at the first call."""
        return self._once("+".join(names), lambda: self._packing.linear(names, bias))

    def embedding(self, name: str) -> nn.Module:
        """Returns the table whose rows are embeddings, made at the first call."""
        return self._once(f"{name} rows", lambda: self._packing.embedding(name))

    def mean(self, x: Tensor) -> Tensor:
        """Returns the mean of the last axis: [..., n] -> [..., 1], as XNNPACK can compute it."""
        width = x.shape[-1]
        mean: Tensor = self._once(f"mean of {width}", lambda: _mean_of(width))(x)
        return mean

    def vector(self, name: str) -> Tensor:
        """Returns a weight that is no matrix of a linear map, such as that of a norm."""
        return cast(Buffer, self._once(name, lambda: Buffer(self._read(name)))).values

    def patch_table(self, size: int) -> tuple[Tensor, Tensor]:
        """Returns rotary cosines and sines [edge, size / 4] of patches, for one axis."""
        tables = rotary_tables(patch_rope(size), self._edge)
        made = [
            cast(Buffer, self._once(f"patch {kind} {size}", lambda t=table: Buffer(t))).values  # type: ignore[misc]
            for kind, table in zip(("cos", "sin"), tables, strict=True)
        ]
        return made[0], made[1]

    def _once(self, key: str, make: Callable[[], nn.Module]) -> nn.Module:
        key = key.replace(".", "/")  # a module's name has no points
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _read(self, name: str) -> FloatArray:
        values = self._weights.read(name)
        self._ledger.add(self._part, values.size, "float32", values.nbytes)
        return values


def _mean_of(width: int) -> nn.Module:
    """Returns a linear map to the mean of `width` values.

    XNNPACK has means only over two axes of an image. Elsewhere they would end its part of a network
    at each norm.
    """
    mean = nn.Linear(width, 1, bias=False)
    mean.weight = nn.Parameter(torch.full((1, width), 1 / width), requires_grad=False)
    return mean


class Buffer(nn.Module):
    """Holds one tensor that is not trained."""

    def __init__(self, values: Any) -> None:
        super().__init__()
        self.values: Tensor
        self.register_buffer("values", torch.from_numpy(values))


class LayerRun(Run):
    """Carries out operations (Ops) with the modules of `Layers`, as XNNPACK can take them.

    What it writes otherwise than the reference: attention, rotation, norms and one activation.
    """

    def __init__(self, layers: Layers, state: DecoderState | None, patches: Patches | None) -> None:
        super().__init__(layers.vector)
        self._layers, self._decoder, self._patches = layers, state, patches
        self._tables: dict[Hashable, Any] = {}

    def linear(self, x: Tensor, *names: str, bias: bool = False) -> Tensor:
        mapped: Tensor = self._layers.linear(names, bias)(x)
        return mapped

    def embed(self, ids: Tensor, name: str, scale: float = 1.0) -> Tensor:
        rows: Tensor = self._layers.embedding(name)(ids)
        return rows if scale == 1.0 else rows * scale

    def norm(self, x: Tensor, name: str, kind: NormKind, eps: float) -> Tensor:
        match kind:
            case "layer":
                centred = x - self._layers.mean(x)
                scale = torch.rsqrt(self._layers.mean(centred * centred) + eps)
                weight = self._layers.vector(f"{name}.weight")
                bias = self._layers.vector(f"{name}.bias")
                return centred * scale * weight + bias
            case "rms":
                scale = torch.rsqrt(self._layers.mean(x * x) + eps)
                return x * scale * self._layers.vector(f"{name}.weight")
            case _:
                assert_never(kind)

    def activation(self, x: Tensor, kind: Activation) -> Tensor:
        if kind != "gelu_tanh":
            return super().activation(x, kind)
        # XNNPACK takes torch's approximation for GELU itself, which differs by up to 5e-4.
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))
        return 0.5 * x * (1.0 + torch.tanh(inner))

    def tile_attention(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        tiles, patches, width = q.shape
        size = width // heads
        # Not matmul: it copies its inputs by `expand`, which ends XNNPACK's part of the network.
        query, key, value = (
            x.view(tiles, patches, heads, size).transpose(1, 2).reshape(-1, patches, size)
            for x in (q, k, v)
        )
        scores = torch.bmm(query * size**-0.5, key.transpose(1, 2))
        attended = torch.bmm(functional.softmax(scores, -1), value)
        parted = attended.view(tiles, heads, patches, size)
        return parted.transpose(1, 2).reshape(tiles, patches, width)

    def image_attention(
        self, q: Tensor, k: Tensor, v: Tensor, order: PatchOrder, windowed: bool
    ) -> Tensor:
        size = order.width // order.heads
        shape = (1, q.shape[1], order.heads, size)
        query, key, value = (x.view(shape) for x in (q, k, v))
        cos, sin = self._once("turned", lambda: self._patch_rotation(size))
        query, key = (rotated(x, cos, sin) for x in (query, key))
        mask = None
        if windowed and order.window is not None:
            window = order.window
            mask = self._once("window", lambda: self._window(window))
        attended = sdpa(query, key, value, 0, mask, causal=False)
        return attended.reshape(1, q.shape[1], order.width)

    def cached_attention(
        self, qkv: Tensor, layer: int, heads: Heads, norms: tuple[str, str] | None = None
    ) -> Tensor:
        assert isinstance(self._decoder, OperatorState)
        new, rotating = qkv.shape[1], heads.heads + heads.kv_heads
        split = qkv.view(1, new, rotating + heads.kv_heads, heads.head_dim)
        query, key = split[:, :, : heads.heads], split[:, :, heads.heads : rotating]
        if norms is not None:
            query = self.norm(query, norms[0], "rms", heads.norm_eps)
            key = self.norm(key, norms[1], "rms", heads.norm_eps)
        cos, sin = self._decoder.turned(heads, new)
        query, key = rotated(query, cos, sin), rotated(key, cos, sin)
        value = split[:, :, rotating:]
        attended = self._decoder.attended(layer, heads, query, key, value)
        return attended.reshape(1, new, heads.heads * heads.head_dim)

    def _patch_rotation(self, size: int) -> tuple[Tensor, Tensor]:
        """Returns rotary factors [N, 1, size]: half of the pairs turn by row, half by column."""
        assert self._patches is not None
        cos, sin = (
            torch.cat([table[axis] for axis in self._patches], dim=-1)
            for table in self._layers.patch_table(size)
        )
        both = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
        return both[0][:, None], both[1][:, None]

    def _window(self, window: int) -> Tensor:
        """Returns what is added to scores [N, N], so that a patch attends to its window alone."""
        assert self._patches is not None
        rows, columns = (torch.div(x, window, rounding_mode="floor") for x in self._patches)
        same = (rows[:, None] == rows[None]) & (columns[:, None] == columns[None])
        return masking(same)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._tables:
            self._tables[key] = make()
        made: T = self._tables[key]
        return made


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the first `dims` values of each head of x [1, S, heads, d] by tables [S, 1, dims]."""
    dims = cos.shape[-1]
    turning = x[..., :dims] if dims < x.shape[-1] else x
    partner = torch.cat([turning[..., dims // 2 :], turning[..., : dims // 2]], dim=-1)
    turned = turning * cos + partner * sin
    return turned if dims == x.shape[-1] else torch.cat([turned, x[..., dims:]], dim=-1)
