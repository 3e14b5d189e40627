"""Canonical tensors of a model: name -> shape, for every family.

Canonical names are GGUF's; shapes are in torch's order (rows = outputs first). The single truth for
the checkpoint check, the synthetic weights, the writers, the footprint and the tiny twins.
"""

from collections.abc import Iterator

from export.families.spec import Decoder, Shape, Tower, Vlm

COMPONENTS = ("vision", "embedding", "decoder")


def shapes(vlm: Vlm) -> dict[str, Shape]:
    """Every tensor of the model in the order in which the network uses them."""
    return dict([*_tower(vlm.vision), *_projector(vlm), *_decoder(vlm.text)])


def component(name: str) -> str:
    """The part of the model (COMPONENTS) that a canonical tensor belongs to."""
    if name.startswith(("v.", "mm.")):
        return "vision"
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


def _norm(name: str, v: Tower) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (v.hidden,)
    if v.norm == "layer":
        yield f"{name}.bias", (v.hidden,)


def _projector(vlm: Vlm) -> Iterator[tuple[str, Shape]]:
    hidden = vlm.vision.hidden
    if vlm.projector.kind == "merge_mlp":
        merged = hidden * vlm.projector.scale**2
        for name, rows in (("mm.0", merged), ("mm.2", vlm.text.hidden)):
            yield f"{name}.weight", (rows, merged)
            yield f"{name}.bias", (rows,)
    elif vlm.projector.kind == "average_pool":
        yield "mm.soft_emb_norm.weight", (hidden,)
        yield "mm.input_projection.weight", (vlm.text.hidden, hidden)
    else:
        yield "mm.model.fc.weight", (vlm.text.hidden, hidden * vlm.projector.scale**2)


def _decoder(t: Decoder) -> Iterator[tuple[str, Shape]]:
    yield "token_embd.weight", (t.vocab, t.hidden)
    for i in range(t.layers):
        block = f"blk.{i}"
        yield f"{block}.attn_norm.weight", (t.hidden,)
        for part, heads in (("q", t.heads), ("k", t.kv_heads), ("v", t.kv_heads)):
            yield f"{block}.attn_{part}.weight", (heads * t.head_dim, t.hidden)
            if t.qkv_bias:
                yield f"{block}.attn_{part}.bias", (heads * t.head_dim,)
        if t.head_norms:
            yield f"{block}.attn_q_norm.weight", (t.head_dim,)
            yield f"{block}.attn_k_norm.weight", (t.head_dim,)
        yield f"{block}.attn_output.weight", (t.hidden, t.heads * t.head_dim)
        if t.post_norms:
            yield f"{block}.post_attention_norm.weight", (t.hidden,)
        yield f"{block}.ffn_norm.weight", (t.hidden,)
        yield f"{block}.ffn_gate.weight", (t.intermediate, t.hidden)
        yield f"{block}.ffn_up.weight", (t.intermediate, t.hidden)
        yield f"{block}.ffn_down.weight", (t.hidden, t.intermediate)
        if t.post_norms:
            yield f"{block}.post_ffw_norm.weight", (t.hidden,)
    yield "output_norm.weight", (t.hidden,)
    if not t.tied:
        yield "output.weight", (t.vocab, t.hidden)
