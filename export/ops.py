"""The operations a network is written in. NOT aware of torch, ONNX or any weights' values.

A network (export/network.py) is a plain function over `Ops[T]`; an interpreter decides what a `T`
is: a torch tensor (export/torch/run.py), a node output of an ONNX graph (export/onnx/emit.py) or a
bare shape (export/count.py). The operations are as coarse as the fused kernels that runtimes have,
so that each interpreter can pick its best one. Weights are named, never passed: the interpreter
knows where they come from. Shapes in comments: B batch, S new positions, T tiles, N patches,
H hidden.
"""

from typing import Protocol, TypeVar

from export.families.geometry import Activation, Decoder, NormKind, Tower

T = TypeVar("T")


class Ops(Protocol[T]):
    """One interpretation of the operations; `name`s are canonical tensor names without suffix."""

    def linear(self, x: T, *names: str, bias: bool = False) -> T:
        """x [..., in] -> [..., rows of `{name}.weight`], side by side for several names."""

    def norm(self, x: T, name: str, kind: NormKind, eps: float) -> T:
        """Layer normalisation (weight and bias) or RMS normalisation (weight) of the last axis."""

    def add_norm(self, x: T, residual: T, name: str, kind: NormKind, eps: float) -> tuple[T, T]:
        """s = x + residual, as (norm(s), s)."""

    def add(self, x: T, y: T) -> T:
        """x + y, of one shape."""

    def fourier(self, x: T) -> T:
        """[..., n] -> cos(2 pi x) | sin(2 pi x): [..., 2 n]."""

    def activation(self, x: T, kind: Activation) -> T:
        """silu (x * sigmoid(x)), gelu (x * Phi(x)) or gelu_tanh (its tanh approximation)."""

    def gated(self, x: T, kind: Activation) -> T:
        """x [..., 2 n] = gate | up -> activation(gate) * up, [..., n]."""

    def patches(self, pixels: T, vision: Tower) -> T:
        """Tiles [T, C, h, w] -> their patches, row by row: [T, N, C * patch_size^2].

        Of a rotary tower, pixels are the patches of one image, [N, patch_values] -> [1, N, …].
        """

    def add_parameter(self, x: T, name: str) -> T:
        """x + `{name}.weight`, broadcast over the leading axes."""

    def pixel_shuffle(self, x: T, vision: Tower, scale: int) -> T:
        """scale x scale neighbours side by side: [T, N, H] -> [T, N / scale^2, H * scale^2]."""

    def average_pool(self, x: T, vision: Tower, scale: int) -> T:
        """The mean of scale x scale neighbours: [T, N, H] -> [T, N / scale^2, H]."""

    def merge_squares(self, x: T, vision: Tower) -> T:
        """The patches of a square side by side: [T, N, H] -> [T, N / square^2, H * square^2]."""

    def patch_attention(self, q: T, k: T, v: T, vision: Tower, layer: int) -> T:
        """Every patch attends to every other. q, k, v and the result are [T, N, H].

        In a rotary tower queries and keys first turn by the patch's row (first half of the pairs)
        and column, and layers with a `reach` attend within windows. How many rows and columns an
        image has the interpreter is told with the pixels.
        """

    def cached_attention(
        self, qkv: T, layer: int, text: Decoder, norms: tuple[str, str] | None = None
    ) -> T:
        """Grouped-query attention over cached and new positions, with rotary positions.

        qkv [B, S, (heads + 2 kv_heads) * head_dim] -> [B, S, heads * head_dim]; the new keys and
        values join the cache of `layer`. Of the first d dimensions of a head, rotation pairs i with
        i + d / 2 (RoFormer, Su et al. 2021, in the half-split layout of GPT-NeoX). `norms` names
        the RMS norms of each head's query and key before it. A position sees those before it, where
        `text.sees_ahead` says so also the later ones of its image, and of all these only the
        layer's window; which positions are an image's the interpreter is told with the ids.
        """

    def embed(self, ids: T, name: str, scale: float = 1.0) -> T:
        """ids [B, S] -> rows of `{name}.weight`, times `scale`: [B, S, H]."""

    def wanted(self, x: T) -> T:
        """The positions [B, S, H] whose logits are asked for, as [B, kept, H]."""
