"""The networks, written once over `Ops`: vision tower with projector, embedding, decoder.

NOT aware of who interprets them or of which family a model belongs to.
"""

from typing import TypeVar

from export.families.spec import Decoder, Tower, Vlm
from export.ops import Ops

T = TypeVar("T")


def vision(ops: Ops[T], vlm: Vlm, pixels: T) -> T:
    """Tiles to decoder embeddings. pixels [T, C, h, w] -> [T, tokens_per_tile, text hidden]."""
    tower = vlm.vision
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
    tower, projector = vlm.vision, vlm.projector
    if projector.kind == "merge_mlp":
        merged = ops.merge_squares(x, tower)
        inner = ops.activation(ops.linear(merged, "mm.0", bias=True), "gelu")
        return ops.linear(inner, "mm.2", bias=True)
    if projector.norm_eps is None:
        return ops.linear(ops.pixel_shuffle(x, tower, projector.scale), "mm.model.fc")
    pooled = ops.average_pool(x, tower, projector.scale)
    normed = ops.norm(pooled, "mm.soft_emb_norm", "rms", projector.norm_eps)
    return ops.linear(normed, "mm.input_projection")


def embedding(ops: Ops[T], text: Decoder, ids: T) -> T:
    """Token ids [B, S] -> embeddings [B, S, H]."""
    return ops.embed(ids, "token_embd", text.embedding_scale)


def decoder(ops: Ops[T], text: Decoder, x: T) -> T:
    """Embeddings [B, S, H] after the cached positions -> logits [B, kept, vocab]."""
    normed = ops.norm(x, "blk.0.attn_norm", "rms", text.norm_eps)
    for i in range(text.layers):
        block = f"blk.{i}"
        parts = (f"{block}.attn_{part}" for part in "qkv")
        qkv = ops.linear(normed, *parts, bias=text.qkv_bias)
        norms = (f"{block}.attn_q_norm", f"{block}.attn_k_norm") if text.head_norms else None
        attended = ops.linear(ops.cached_attention(qkv, i, text, norms), f"{block}.attn_output")
        if text.post_norms:
            attended = ops.norm(attended, f"{block}.post_attention_norm", "rms", text.norm_eps)
        normed, x = ops.add_norm(attended, x, f"{block}.ffn_norm", "rms", text.norm_eps)
        inner = ops.gated(
            ops.linear(normed, f"{block}.ffn_gate", f"{block}.ffn_up"), text.activation
        )
        inner = ops.linear(inner, f"{block}.ffn_down")
        if text.post_norms:
            inner = ops.norm(inner, f"{block}.post_ffw_norm", "rms", text.norm_eps)
        after = f"blk.{i + 1}.attn_norm" if i + 1 < text.layers else "output_norm"
        normed, x = ops.add_norm(inner, x, after, "rms", text.norm_eps)
    head = "token_embd" if text.tied else "output"
    return ops.linear(ops.wanted(normed), head)
