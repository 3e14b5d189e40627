"""A rotary text decoder with grouped-query attention: Llama's, Qwen's, Gemma's and Phi's blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Activation, Heads, Ops
from export.modeling.rotary import Rope
from export.modeling.state import KeyValues, LayerState
from export.modeling.tensors import Tensors, linear, norm

T = TypeVar("T")


@dataclass(frozen=True)
class SlidingWindow:
    """Settings of the layers (by index) in which a position attends only to the last `window` ones.

    The window includes the position itself. rope_theta: the rotary base of these layers.
    """

    layers: tuple[int, ...]
    window: int
    rope_theta: float


@dataclass(frozen=True)
class Decoder:
    """Hyperparameters of a pre-norm text decoder; the defaults describe Llama's.

    norm: kind of the norms of blocks and output; "layer" norms have biases. parallel: attention and
    feed-forward both read the block's one norm. fused_qkv: query, key and value are one tensor.
    biases: all linear maps have a bias; qkv_bias: query, key and value have one. gated: the
    feed-forward is down(act(gate(x)) * up(x)), otherwise down(act(up(x))). head_norms: each head's
    query and key get an RMS norm. post_norms: what attention and feed-forward add to the residual
    gets an RMS norm. tied: the output head is the token embedding.

    attention_scale: factor of the scores; None: head_dim^-0.5. rope_dims: how many of a head's
    first values rotate; None: all. rope_sections: how many pairs of a head rotate by a position's
    time, its row and its column in an image (Qwen2-VL report, 2024); None: all rotate by the index
    in the prompt.

    bidirectional_images: all positions of one image attend to each other. prefix: so do the first
    `prefix` positions of a prompt that begins with an image.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    rope_theta: float
    norm_eps: float
    activation: Activation
    tied: bool
    rope_factor: float = 1.0
    sliding: SlidingWindow | None = None
    head_norms: bool = False
    post_norms: bool = False
    attention_scale: float | None = None
    embedding_scale: float = 1.0
    bidirectional_images: bool = False
    qkv_bias: bool = False
    rope_sections: tuple[int, int, int] | None = None
    prefix: int = 0
    rope_dims: int | None = None
    norm: Literal["rms", "layer"] = "rms"
    parallel: bool = False
    fused_qkv: bool = False
    biases: bool = False
    gated: bool = True

    @property
    def sees_later_positions(self) -> bool:
        """Whether some positions attend to later ones, so that attention needs a mask."""
        return self.bidirectional_images or self.prefix > 0

    def window(self, layer: int) -> int | None:
        """Returns how many of the last positions a layer attends to; None: all."""
        return self.sliding.window if self.sliding and layer in self.sliding.layers else None

    @property
    def rotated(self) -> int:
        """How many values of each head are rotated by their position."""
        return self.rope_dims or self.head_dim

    def rope(self, layer: int) -> Rope:
        """Returns the rotary position settings of the layer with this index."""
        if self.sliding and layer in self.sliding.layers:
            return Rope(self.sliding.rope_theta, self.rotated)
        return Rope(self.rope_theta, self.rotated, self.rope_factor)

    def attention(self, layer: int) -> Heads:
        """Returns the attention settings of the layer with this index."""
        return Heads(
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.rope(layer),
            self.attention_scale,
            self.rope_sections,
            self.window(layer),
            self.sees_later_positions,
            self.norm_eps,
        )

    def state(self, layer: int) -> LayerState:
        """Describes what the layer with this index caches of earlier positions."""
        return KeyValues(self.kv_heads, self.head_dim)

    @property
    def states(self) -> tuple[LayerState, ...]:
        """Describes what each layer caches of earlier positions, in the order of the layers."""
        return tuple(self.state(layer) for layer in range(self.layers))

    def tensors(self) -> Tensors:
        """Yields name and shape of every weight tensor, in the order of use."""
        yield "token_embd.weight", (self.vocab, self.hidden)
        for i in range(self.layers):
            yield from self._block(f"blk.{i}")
        yield from self._norm("output_norm")
        if not self.tied:
            yield from linear("output", self.vocab, self.hidden, self.biases)

    def _norm(self, name: str) -> Tensors:
        yield from norm(name, self.hidden, bias=self.norm == "layer")

    def _block(self, block: str) -> Tensors:
        heads, kv_heads = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield from self._norm(f"{block}.attn_norm")
        if self.fused_qkv:
            yield from linear(f"{block}.attn_qkv", heads + 2 * kv_heads, self.hidden, self.biases)
        else:
            for part, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
                bias = self.biases or self.qkv_bias
                yield from linear(f"{block}.attn_{part}", rows, self.hidden, bias)
        if self.head_norms:
            yield f"{block}.attn_q_norm.weight", (self.head_dim,)
            yield f"{block}.attn_k_norm.weight", (self.head_dim,)
        yield from linear(f"{block}.attn_output", self.hidden, heads, self.biases)
        if self.post_norms:
            yield f"{block}.post_attention_norm.weight", (self.hidden,)
        yield from self._feed_forward_tensors(block)

    def _feed_forward_tensors(self, block: str) -> Tensors:
        if not self.parallel:
            yield from self._norm(f"{block}.ffn_norm")
        if self.gated:
            yield from linear(f"{block}.ffn_gate", self.intermediate, self.hidden, self.biases)
        yield from linear(f"{block}.ffn_up", self.intermediate, self.hidden, self.biases)
        yield from linear(f"{block}.ffn_down", self.hidden, self.intermediate, self.biases)
        if self.post_norms:
            yield f"{block}.post_ffw_norm.weight", (self.hidden,)

    def embed(self, ops: Ops[T], ids: T) -> T:
        """Maps token ids [batch B, positions S] to embeddings [B, S, hidden]."""
        return ops.embed(ids, "token_embd", self.embedding_scale)

    def forward(self, ops: Ops[T], x: T) -> tuple[T, T]:
        """Runs embeddings `x` [B, S, hidden] of new positions through all layers.

        Returns logits [B, n, vocab] of the n positions that `ops.last_tokens` selects, and the
        residual stream [B, S, hidden] after the last block, which region heads read.
        """
        kind, eps = self.norm, self.norm_eps
        normed = ops.norm(x, "blk.0.attn_norm", kind, eps)
        for i in range(self.layers):
            following = f"blk.{i + 1}.attn_norm" if i + 1 < self.layers else "output_norm"
            attended = self._attended(ops, i, normed)
            if self.parallel:
                inner = ops.add(attended, self._feed_forward(ops, i, normed))
            else:
                normed, x = ops.add_norm(attended, x, f"blk.{i}.ffn_norm", kind, eps)
                inner = self._feed_forward(ops, i, normed)
            normed, x = ops.add_norm(inner, x, following, kind, eps)
        head = "token_embd" if self.tied else "output"
        bias = self.biases and not self.tied
        return ops.linear(ops.last_tokens(normed), head, bias=bias), x

    def _attended(self, ops: Ops[T], layer: int, normed: T) -> T:
        """Computes what a layer's attention adds to the residual stream: [B, S, hidden]."""
        block = f"blk.{layer}"
        parts = ("qkv",) if self.fused_qkv else ("q", "k", "v")
        names = (f"{block}.attn_{part}" for part in parts)
        qkv = ops.linear(normed, *names, bias=self.biases or self.qkv_bias)
        norms = (f"{block}.attn_q_norm", f"{block}.attn_k_norm") if self.head_norms else None
        attended = ops.cached_attention(qkv, layer, self.attention(layer), norms)
        attended = ops.linear(attended, f"{block}.attn_output", bias=self.biases)
        if self.post_norms:
            name = f"{block}.post_attention_norm"
            attended = ops.norm(attended, name, self.norm, self.norm_eps)
        return attended

    def _feed_forward(self, ops: Ops[T], layer: int, normed: T) -> T:
        """Computes what a layer's feed-forward adds to the residual stream: [B, S, hidden]."""
        block, bias = f"blk.{layer}", self.biases
        if self.gated:
            both = ops.linear(normed, f"{block}.ffn_gate", f"{block}.ffn_up", bias=bias)
            inner = ops.gated(both, self.activation)
        else:
            inner = ops.linear(normed, f"{block}.ffn_up", bias=bias)
            inner = ops.activation(inner, self.activation)
        inner = ops.linear(inner, f"{block}.ffn_down", bias=bias)
        if self.post_norms:
            inner = ops.norm(inner, f"{block}.post_ffw_norm", self.norm, self.norm_eps)
        return inner

    def problems(self) -> Iterator[str]:
        """Yields a message for each invalid hyperparameter, with its name in config.json."""
        yield from self._head_problems()
        yield from self._rope_problems()
        if not 0 < self.norm_eps < 1:
            yield f"rms_norm_eps {self.norm_eps} is not between 0 and 1"
        if self.attention_scale is not None and not 0 < self.attention_scale <= 1e3:
            yield f"the scale of attention {self.attention_scale} is not between 0 and 1000"
        if not 0 < self.embedding_scale <= 1e4:
            yield f"the scale of embeddings {self.embedding_scale} is not between 0 and 10000"
        if not 0 <= self.prefix <= self.context:
            yield f"a prefix of {self.prefix} positions does not fit a context of {self.context}"
        if self.parallel and self.post_norms:
            yield "a parallel block with norms after its parts is not supported"
        if self.sliding is not None:
            yield from self._sliding_problems(self.sliding)

    def _head_problems(self) -> Iterator[str]:
        if self.hidden % self.heads:
            yield (
                f"hidden_size {self.hidden} is not a multiple of num_attention_heads {self.heads}"
            )
        if self.heads % self.kv_heads:
            yield (
                f"num_attention_heads {self.heads} is not a multiple of num_key_value_heads "
                f"{self.kv_heads}"
            )
        if self.head_dim % 2:
            yield f"head_dim {self.head_dim} is odd, but is rotated by pairs"

    def _rope_problems(self) -> Iterator[str]:
        if not 1 <= self.rope_theta <= 1e12:
            yield f"rope_theta {self.rope_theta} is not between 1 and 1e12"
        if not 1 <= self.rope_factor <= 1e6:
            yield f"the rope's factor {self.rope_factor} is not between 1 and 1e6"
        if not 2 <= self.rotated <= self.head_dim or self.rotated % 2:
            yield f"{self.rotated} of {self.head_dim} dimensions of a head cannot be rotated"
        if self.rope_sections is not None:
            pairs = self.head_dim // 2
            if min(self.rope_sections) < 0 or sum(self.rope_sections) != pairs:
                yield (
                    f"mrope_section {list(self.rope_sections)} does not add up to half of head_dim "
                    f"{self.head_dim}"
                )

    def _sliding_problems(self, sliding: SlidingWindow) -> Iterator[str]:
        if not 1 <= sliding.window <= 1 << 24:
            yield f"sliding_window {sliding.window} is not between 1 and 16777216"
        if not 1 <= sliding.rope_theta <= 1e12:
            yield f"the rope_theta {sliding.rope_theta} of local layers is not between 1 and 1e12"
        if not all(0 <= i < self.layers for i in sliding.layers):
            yield f"layers {list(sliding.layers)} are local, but the text model has {self.layers}"
