"""Canonical tensors of a model: name -> shape, for every family.

Canonical names are GGUF's; shapes are in torch's order (rows = outputs first). The single truth for
the checkpoint check, the synthetic weights, the writers, the footprint and the tiny twins.
"""

from collections.abc import Iterator

from export.families.geometry import Decoder, Region, Tower, Vlm
from export.families.spec import Shape

COMPONENTS = ("vision", "embedding", "decoder", "region")


def shapes(vlm: Vlm) -> dict[str, Shape]:
    """Every tensor of the model in the order in which the network uses them."""
    parts = [] if vlm.vision is None else [*_tower(vlm.vision), *_projector(vlm)]
    parts += _decoder(vlm.text)
    return dict(parts + ([*_region(vlm.region, vlm.text.hidden)] if vlm.region else []))


def component(name: str) -> str:
    """The part of the model (COMPONENTS) that a canonical tensor belongs to."""
    if name.startswith(("v.", "mm.")):
        return "vision"
    if name.startswith("region."):
        return "region"
    return "embedding" if name == "token_embd.weight" else "decoder"


def _tower(v: Tower) -> Iterator[tuple[str, Shape]]:
    patch = (v.patch_size, v.patch_size)
    frames = (v.frames,) if v.frames > 1 else ()
    yield "v.patch_embd.weight", (v.hidden, v.channels, *frames, *patch)
    if v.positions == "learned":
        yield "v.patch_embd.bias", (v.hidden,)
        yield "v.position_embd.weight", (v.patches, v.hidden)
    for i in range(v.layers):
        block = f"v.blk.{i}"
        for norm in ("ln1", "ln2"):
            yield from _norm(f"{block}.{norm}", v)
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield f"{block}.{part}.weight", (v.hidden, v.hidden)
            yield f"{block}.{part}.bias", (v.hidden,)
        for part in ("ffn_gate", "ffn_up") if v.gated else ("ffn_up",):
            yield f"{block}.{part}.weight", (v.intermediate, v.hidden)
            yield f"{block}.{part}.bias", (v.intermediate,)
        yield f"{block}.ffn_down.weight", (v.hidden, v.intermediate)
        yield f"{block}.ffn_down.bias", (v.hidden,)
    yield from _norm("v.post_ln", v)


def _norm(name: str, of: Tower | Decoder) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (of.hidden,)
    if of.norm == "layer":
        yield f"{name}.bias", (of.hidden,)


def _projector(vlm: Vlm) -> Iterator[tuple[str, Shape]]:
    tower, projector = vlm.sight
    hidden = tower.hidden
    if projector.kind == "merge_mlp":
        merged = hidden * projector.scale**2
        for name, rows in (("mm.0", merged), ("mm.2", vlm.text.hidden)):
            yield f"{name}.weight", (rows, merged)
            yield f"{name}.bias", (rows,)
    elif projector.kind == "average_pool":
        yield "mm.soft_emb_norm.weight", (hidden,)
        yield "mm.input_projection.weight", (vlm.text.hidden, hidden)
    elif projector.kind == "crops":
        yield from _linear("mm.0", projector.inner, 2 * hidden)
        yield from _linear("mm.1", vlm.text.hidden, projector.inner)
    else:
        yield "mm.model.fc.weight", (vlm.text.hidden, hidden * projector.scale**2)


def _decoder(t: Decoder) -> Iterator[tuple[str, Shape]]:
    yield "token_embd.weight", (t.vocab, t.hidden)
    for i in range(t.layers):
        yield from _block(f"blk.{i}", t)
    yield from _norm("output_norm", t)
    if not t.tied:
        yield from _linear("output", t.vocab, t.hidden, t.biases)


def _block(block: str, t: Decoder) -> Iterator[tuple[str, Shape]]:
    heads, kv_heads = t.heads * t.head_dim, t.kv_heads * t.head_dim
    yield from _norm(f"{block}.attn_norm", t)
    if t.fused_qkv:
        yield from _linear(f"{block}.attn_qkv", heads + 2 * kv_heads, t.hidden, t.biases)
    else:
        for part, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            yield from _linear(f"{block}.attn_{part}", rows, t.hidden, t.biases or t.qkv_bias)
    if t.head_norms:
        yield f"{block}.attn_q_norm.weight", (t.head_dim,)
        yield f"{block}.attn_k_norm.weight", (t.head_dim,)
    yield from _linear(f"{block}.attn_output", t.hidden, heads, t.biases)
    if t.post_norms:
        yield f"{block}.post_attention_norm.weight", (t.hidden,)
    if not t.parallel:
        yield from _norm(f"{block}.ffn_norm", t)
    if t.gated:
        yield from _linear(f"{block}.ffn_gate", t.intermediate, t.hidden, t.biases)
    yield from _linear(f"{block}.ffn_up", t.intermediate, t.hidden, t.biases)
    yield from _linear(f"{block}.ffn_down", t.hidden, t.intermediate, t.biases)
    if t.post_norms:
        yield f"{block}.post_ffw_norm.weight", (t.hidden,)


def _region(r: Region, hidden: int) -> Iterator[tuple[str, Shape]]:
    for part, numbers, features, bins in (
        ("coord", 1, r.coord_features, r.coord_bins),
        ("size", 2, r.size_features, r.size_bins),
    ):
        yield f"region.{part}_features.weight", (features, numbers)
        yield from _linear(f"region.{part}_encoder", hidden, 2 * features)
        yield from _linear(f"region.{part}_decoder.0", r.inner, hidden)
        yield from _linear(f"region.{part}_decoder.1", numbers * bins, r.inner)


def _linear(name: str, rows: int, columns: int, bias: bool = True) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (rows, columns)
    if bias:
        yield f"{name}.bias", (rows,)
