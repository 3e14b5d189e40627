"""The networks, written once over `Ops`: vision tower with projector, embedding, decoder, and the
heads that read and write places of an image.

NOT aware of who interprets them or of which family a model belongs to.
"""

from typing import TypeVar

from export.families.geometry import Decoder, Tower, Vlm
from export.ops import Ops

T = TypeVar("T")


def vision(ops: Ops[T], vlm: Vlm, pixels: T) -> T:
    """Tiles to decoder embeddings. pixels [T, C, h, w] -> [T, tokens_per_tile, text hidden].

    Where crops of one image are joined they stay patches [T, N, H] (see `joined_projection`).
    """
    tower, _ = vlm.sight
    learned = tower.positions == "learned"
    x = ops.linear(ops.patches(pixels, tower), "v.patch_embd", bias=learned)  # [T, N, H]
    if learned:
        x = ops.add_parameter(x, "v.position_embd")
    normed = ops.norm(x, "v.blk.0.ln1", tower.norm, tower.norm_eps)
    for i in range(tower.layers):
        block = f"v.blk.{i}"
        q, k, v = (ops.linear(normed, f"{block}.attn_{part}", bias=True) for part in "qkv")
        attended = ops.patch_attention(q, k, v, tower, i)
        attended = ops.linear(attended, f"{block}.attn_out", bias=True)
        normed, x = ops.add_norm(attended, x, f"{block}.ln2", tower.norm, tower.norm_eps)
        inner = ops.linear(_activated(ops, tower, normed, block), f"{block}.ffn_down", bias=True)
        after = f"v.blk.{i + 1}.ln1" if i + 1 < tower.layers else "v.post_ln"
        normed, x = ops.add_norm(inner, x, after, tower.norm, tower.norm_eps)
    return _projected(ops, vlm, normed)


def _activated(ops: Ops[T], tower: Tower, x: T, block: str) -> T:
    """The inner vector of a tower's feed-forward: [T, N, H] -> [T, N, intermediate]."""
    if tower.gated:
        both = ops.linear(x, f"{block}.ffn_gate", f"{block}.ffn_up", bias=True)
        return ops.gated(both, tower.activation)
    return ops.activation(ops.linear(x, f"{block}.ffn_up", bias=True), tower.activation)


def _projected(ops: Ops[T], vlm: Vlm, x: T) -> T:
    """Patches [T, N, H] -> [T, tokens_per_tile, text hidden]."""
    tower, projector = vlm.sight
    if projector.kind == "merge_mlp":
        merged = ops.merge_squares(x, tower)
        inner = ops.activation(ops.linear(merged, "mm.0", bias=True), "gelu")
        return ops.linear(inner, "mm.2", bias=True)
    if projector.kind == "crops":
        return x
    if projector.norm_eps is None:
        return ops.linear(ops.pixel_shuffle(x, tower, projector.scale), "mm.model.fc")
    pooled = ops.average_pool(x, tower, projector.scale)
    normed = ops.norm(pooled, "mm.soft_emb_norm", "rms", projector.norm_eps)
    return ops.linear(normed, "mm.input_projection")


def joined_projection(ops: Ops[T], x: T) -> T:
    """The whole image's patches beside its crops' [1, N, 2 H] -> [1, N, text hidden]."""
    inner = ops.activation(ops.linear(x, "mm.0", bias=True), "gelu_tanh")
    return ops.linear(inner, "mm.1", bias=True)


def embedding(ops: Ops[T], text: Decoder, ids: T) -> T:
    """Token ids [B, S] -> embeddings [B, S, H]."""
    return ops.embed(ids, "token_embd", text.embedding_scale)


def decoder(ops: Ops[T], text: Decoder, x: T) -> T:
    """Embeddings [B, S, H] after the cached positions -> logits [B, kept, vocab]."""
    return decoder_and_state(ops, text, x)[0]


def decoder_and_state(ops: Ops[T], text: Decoder, x: T) -> tuple[T, T]:
    """As `decoder`, and what the output norm reads: [B, S, H]."""
    normed = ops.norm(x, "blk.0.attn_norm", text.norm, text.norm_eps)
    for i in range(text.layers):
        after = f"blk.{i + 1}.attn_norm" if i + 1 < text.layers else "output_norm"
        attended = _attended(ops, text, i, normed)
        if text.parallel:
            inner = ops.add(attended, _feed_forward(ops, text, i, normed))
        else:
            normed, x = ops.add_norm(attended, x, f"blk.{i}.ffn_norm", text.norm, text.norm_eps)
            inner = _feed_forward(ops, text, i, normed)
        normed, x = ops.add_norm(inner, x, after, text.norm, text.norm_eps)
    head = "token_embd" if text.tied else "output"
    return ops.linear(ops.wanted(normed), head, bias=text.biases and not text.tied), x


def _attended(ops: Ops[T], text: Decoder, layer: int, normed: T) -> T:
    """What attention adds to the residual: [B, S, H]."""
    block = f"blk.{layer}"
    parts = ("qkv",) if text.fused_qkv else ("q", "k", "v")
    names = (f"{block}.attn_{part}" for part in parts)
    qkv = ops.linear(normed, *names, bias=text.biases or text.qkv_bias)
    norms = (f"{block}.attn_q_norm", f"{block}.attn_k_norm") if text.head_norms else None
    attended = ops.cached_attention(qkv, layer, text, norms)
    attended = ops.linear(attended, f"{block}.attn_output", bias=text.biases)
    if text.post_norms:
        attended = ops.norm(attended, f"{block}.post_attention_norm", text.norm, text.norm_eps)
    return attended


def _feed_forward(ops: Ops[T], text: Decoder, layer: int, normed: T) -> T:
    """What the feed-forward adds to the residual: [B, S, H]."""
    block, bias = f"blk.{layer}", text.biases
    if text.gated:
        both = ops.linear(normed, f"{block}.ffn_gate", f"{block}.ffn_up", bias=bias)
        inner = ops.gated(both, text.activation)
    else:
        inner = ops.activation(ops.linear(normed, f"{block}.ffn_up", bias=bias), text.activation)
    inner = ops.linear(inner, f"{block}.ffn_down", bias=bias)
    if text.post_norms:
        inner = ops.norm(inner, f"{block}.post_ffw_norm", text.norm, text.norm_eps)
    return inner


def place_embedding(ops: Ops[T], part: str, numbers: T) -> T:
    """Coordinates [n, 1] (part "coord") or widths and heights [n, 2] ("size") -> [n, text hidden].

    Random Fourier features (Tancik et al. 2020) through a linear map.
    """
    features = ops.fourier(ops.linear(numbers, f"region.{part}_features"))
    return ops.linear(features, f"region.{part}_encoder", bias=True)


def place_logits(ops: Ops[T], part: str, state: T) -> T:
    """The decoder's states [n, text hidden] -> logits [n, bins], both sizes' side by side."""
    inner = ops.linear(state, f"region.{part}_decoder.0", bias=True)
    return ops.linear(ops.activation(inner, "gelu_tanh"), f"region.{part}_decoder.1", bias=True)
