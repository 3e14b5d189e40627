"""Builds the ONNX graphs of a model, with the input and output names that clients expect.

| graph | inputs | outputs | when |
| --- | --- | --- | --- |
| vision_encoder | pixel_values; images of any size: image_grid_thw | image_features | images |
| vision_projection | patches | image_features | crops are joined |
| embed_tokens | input_ids | inputs_embeds | always |
| decoder_model_merged | inputs_embeds, attention_mask, past_key_values.*, num_logits_to_keep; \
image tokens that see later ones: image_numbers; three-axis rotary positions: position_ids | \
logits, present.* \
| always |
| region_heads | coordinates, sizes, their states | their embeddings and logits | region heads |

One decoder graph serves prefill and decode; past and present may be the same buffer of the maximum
length (GroupQueryAttention then appends in place). The layouts in export/onnx/layouts.py change
these graphs for other clients.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import assert_never

import onnx_ir as ir

from export.modeling.decoder import Decoder
from export.modeling.region_heads import Head
from export.modeling.vision import ImageVision, TileVision
from export.modeling.vlm import Vlm
from export.onnx.adapt import Adapter
from export.onnx.attention import CachedAttention
from export.onnx.emit import Emit
from export.onnx.grid import PatchGrid
from export.onnx.layouts import Layout
from export.onnx.mask import Masks
from export.onnx.nodes import MICROSOFT, SINGLE, Nodes
from export.onnx.parameters import Parameters

# opset 21: blocked int4 DequantizeLinear. IR 10 goes with it.
OPSETS: Mapping[str, int] = {"": 21, MICROSOFT: 1}
IR_VERSION = 10

Axis = int | str
FLOAT, INT64, INT32 = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.INT32
BOOL = ir.DataType.BOOL


def vision_encoder(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """Builds the graph of the vision tower, of one of two kinds.

    A tower for square tiles: pixel_values float32 [num_tiles, 3, h, w] -> image_features
    [num_tiles, tokens, hidden]. hidden is the tower's width if crops of an image are joined later
    (`vision_projection`), otherwise the decoder's.
    A tower for images of any size: pixel_values [num_patches, values] of one image and
    image_grid_thw int64 [1, 3], its frames, rows and columns of patches -> image_features
    [1, tokens, hidden].
    """
    vision = vlm.require_vision()
    match vision:
        case TileVision():
            return _tile_encoder(vlm, vision, parameters, layout)
        case ImageVision():
            return _image_encoder(vlm, vision, parameters, layout)
        case _:
            assert_never(vision)


def _tile_encoder(vlm: Vlm, vision: TileVision, parameters: Parameters, layout: Layout) -> ir.Model:
    tower, nodes = vision.tower, Nodes(layout.precision)
    adapter, shape = Adapter(nodes, parameters), (tower.channels, *(tower.image_size,) * 2)
    batch: list[Axis] = ["batch_size", "num_images"] if layout.padded_tiles else ["num_tiles"]
    pixels = _value("pixel_values", FLOAT, [*batch, *shape])
    inputs = [pixels]
    if layout.padded_tiles:
        inputs.append(_value("pixel_attention_mask", BOOL, [*batch, *shape[1:]]))
        pixels = adapter.real_tiles(pixels, inputs[1], shape)
    features = nodes.wide(vision.forward(_tower_ops(layout, nodes, parameters), pixels))
    width = tower.hidden if vision.crops else layout.width(vlm)
    if layout.marks(vlm):
        features = adapter.marked(features, 1.0)
    _name(features, "image_features", FLOAT, ["num_tiles", vision.tokens_per_tile, width])
    return _model("vision_encoder", nodes, inputs, [features], parameters)


def _image_encoder(
    vlm: Vlm, vision: ImageVision, parameters: Parameters, layout: Layout
) -> ir.Model:
    tower, nodes = vision.tower, Nodes(layout.precision)
    patches = _value("pixel_values", FLOAT, ["num_patches", tower.patch_values])
    sizes = _value("image_grid_thw", INT64, [1, 3])
    grid = PatchGrid(nodes, parameters, sizes, tower.order)
    features = nodes.wide(vision.forward(_tower_ops(layout, nodes, parameters, grid), patches))
    shape: list[Axis] = ["num_image_tokens", vlm.text.hidden]
    if layout.flat:
        features = Adapter(nodes, parameters).rows(features, vlm.text.hidden)
    _name(features, "image_features", FLOAT, shape if layout.flat else [1, *shape])
    return _model("vision_encoder", nodes, [patches, sizes], [features], parameters)


def vision_projection(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """Builds the graph that joins the features of an image with those of its crops.

    patches float32 [num_images, tokens, 2 * the tower's width], the whole image's features side by
    side with its crops' -> image_features [num_images, tokens, hidden].
    """
    vision, nodes = vlm.require_vision(), Nodes(layout.precision)
    assert vision.crops is not None
    tokens, width = vision.tokens_per_tile, 2 * vision.tower.hidden
    patches = _value("patches", FLOAT, ["num_images", tokens, width])
    features = nodes.wide(vision.crops.join(_tower_ops(layout, nodes, parameters), patches))
    _name(features, "image_features", FLOAT, ["num_images", tokens, vlm.text.hidden])
    return _model("vision_projection", nodes, [patches], [features], parameters)


def region_heads(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """Builds the graph of the heads that encode and predict points and box sizes.

    It has four independent heads; each maps its n rows to n rows, and n = 0 costs nothing:
    coordinates [n, 1] -> coordinate_embeds [n, hidden], sizes [n, 2] -> size_embeds [n, hidden],
    coordinate_states [n, hidden] -> coordinate_logits [n, bins], size_states [n, hidden] ->
    size_logits [n, 2 bins]. States come from the decoder. All layouts compute it in float32,
    because float16 blurs coordinates, and the heads take less than a thousandth of a step.
    """
    heads, nodes, hidden = vlm.region, Nodes(SINGLE), vlm.text.hidden
    assert heads is not None
    ops = Emit(nodes, parameters)
    kinds: tuple[tuple[Head, str, int, int], ...] = (
        ("coord", "coordinate", 1, heads.coord_bins),
        ("size", "size", 2, 2 * heads.size_bins),
    )
    inputs, outputs = [], []
    for head, name, numbers, bins in kinds:
        rows, states = f"num_{name}s", f"num_{name}_states"
        inputs.append(_value(f"{name}s", FLOAT, [rows, numbers]))
        outputs.append(heads.embed(ops, head, inputs[-1]))
        _name(outputs[-1], f"{name}_embeds", FLOAT, [rows, hidden])
        inputs.append(_value(f"{name}_states", FLOAT, [states, hidden]))
        outputs.append(heads.logits(ops, head, inputs[-1]))
        _name(outputs[-1], f"{name}_logits", FLOAT, [states, bins])
    return _model("region_heads", nodes, inputs, outputs, parameters)


def embed_tokens(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """Builds the token embedding's graph: input_ids int64 [B, S] -> inputs_embeds [B, S, width].

    With Layout.merged it also takes image_features of any rank, whose rows replace the embeddings
    of image tokens in order.
    """
    nodes, width = Nodes(layout.precision), layout.width(vlm)
    adapter = Adapter(nodes, parameters)
    ids = _value("input_ids", INT64, ["batch_size", "sequence_length"])
    inputs = [ids]
    embeds = vlm.text.embed(Emit(nodes, parameters, portable=layout.portable), ids)
    if layout.marks(vlm):
        embeds = adapter.marked(embeds, 0.0)
    if layout.merged and vlm.image_token_id is not None:
        features = ir.Value(name="image_features", type=ir.TensorType(FLOAT))
        inputs.append(features)
        embeds = adapter.placed(embeds, ids, features, vlm.image_token_id, width)
    _name(embeds, "inputs_embeds", FLOAT, ["batch_size", "sequence_length", width])
    return _model("embed_tokens", nodes, inputs, [embeds], parameters)


def decoder_model_merged(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """Builds the decoder's graph: embeddings and cache -> logits, and cache with the new positions.

    attention_mask int64 [B, total length] is 1 at valid positions, cached ones included.
    num_logits_to_keep int64 []: logits of so many last positions; 0: of every new one.
    image_numbers int64 [B, total length]: 0 for text, and from 1 the number of the image that a
    position belongs to; with Layout.marked the graph computes them itself. position_ids int64
    [3, B, new length]: time, row and column. The output state [B, num_logits, hidden], for models
    with region heads, is the input of the last norm.
    """
    if layout.device:
        return _stepped_decoder(vlm, parameters, layout)
    text, nodes, width = vlm.text, Nodes(layout.precision), layout.width(vlm)
    embeds = _value("inputs_embeds", FLOAT, ["batch_size", "sequence_length", width])
    mask = _value("attention_mask", INT64, ["batch_size", "total_sequence_length"])
    past = list(_past(text, FLOAT))
    keep = None if layout.last_only else _value("num_logits_to_keep", INT64, [])
    inputs = [embeds, mask, *([keep] if keep else []), *chain.from_iterable(past)]
    lengths = _lengths(nodes, mask, parameters.integers(1))
    masks, positions = None, None
    if text.sees_later_positions:
        new = nodes.add("Shape", [embeds], {"start": 1, "end": 2})
        numbers = _value("image_numbers", INT64, ["batch_size", "total_sequence_length"])
        if layout.marks(vlm):
            adapter = Adapter(nodes, parameters)
            embeds, marks = adapter.unmarked(embeds, text.hidden)
            numbers = adapter.image_numbers(marks, mask)
        else:
            inputs.append(numbers)
        masks = Masks(nodes, parameters, numbers, new)
    if text.rope_sections is not None:
        positions = _value("position_ids", INT64, [3, "batch_size", "sequence_length"])
        inputs.append(positions)
    attention = CachedAttention(
        nodes,
        parameters,
        context=text.context,
        past=past,
        lengths=lengths,
        keep=keep,
        masks=masks,
        position_ids=positions,
    )
    outputs = _decoded(
        vlm, nodes, parameters, attention, embeds, 1 if layout.last_only else "num_logits"
    )
    return _model("decoder_model_merged", nodes, inputs, outputs, parameters)


def _stepped_decoder(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """Builds the decoder's graph for GPUs: one sequence, and lengths instead of an attention mask.

    seqlens_k int32 [1] is the index of the last valid position; total_sequence_length int32 [1],
    read on the host, is the number of positions that attention covers, and may exceed the valid
    ones. cache_positions int64 [new length], only for decoders in which image tokens see later
    ones, are the indices of the new positions. The output token int64 [1, 1] is the index of the
    largest logit. The rest is as in `decoder_model_merged`.
    """
    text, nodes = vlm.text, Nodes(layout.precision)
    embeds = _value("inputs_embeds", FLOAT, [1, "sequence_length", text.hidden])
    past = list(_past(text, nodes.precision.compute, 1))
    lengths = _value("seqlens_k", INT32, [1]), _value("total_sequence_length", INT32, [1])
    inputs = [embeds, *lengths]
    masks, positions = None, None
    if text.sees_later_positions:
        numbers = _value("image_numbers", INT64, [1, "total_sequence_length"])
        indices = _value("cache_positions", INT64, ["sequence_length"])
        inputs += [numbers, indices]
        masks = Masks(nodes, parameters, numbers, indices=indices)
    if text.rope_sections is not None:
        positions = _value("position_ids", INT64, [3, 1, "sequence_length"])
        inputs.append(positions)
    attention = CachedAttention(
        nodes,
        parameters,
        context=text.context,
        past=past,
        lengths=lengths,
        masks=masks,
        position_ids=positions,
        own_rows=True,
    )
    inputs += chain.from_iterable(past)
    logits, *others = _decoded(vlm, nodes, parameters, attention, embeds, 1, 1)
    token = nodes.add("ArgMax", [logits], {"axis": -1, "keepdims": 0})
    _name(token, "token", INT64, [1, 1])
    return _model("decoder_model_merged", nodes, inputs, [logits, token, *others], parameters)


def _decoded(
    vlm: Vlm,
    nodes: Nodes,
    parameters: Parameters,
    attention: CachedAttention,
    embeds: ir.Value,
    kept: Axis,
    batch: Axis = "batch_size",
) -> list[ir.Value]:
    """Adds the decoder's layers and returns the graph's outputs: logits, state, keys and values.

    The state is there only for models with region heads. `kept`: how many positions have logits, as
    a number or the name of an axis.
    """
    text = vlm.text
    ops = Emit(nodes, parameters, attention=attention)
    logits, state = text.forward(ops, embeds)
    logits = nodes.wide(logits)
    outputs = [logits]
    if vlm.region is not None:
        outputs.append(ops.last_tokens(state))
        _name(outputs[-1], "state", FLOAT, [batch, kept, text.hidden])
    _name(logits, "logits", FLOAT, [batch, kept, text.vocab])
    for n, present in enumerate(attention.presents):
        layer, kind = divmod(n, 2)
        shape = _cache_shape(text, layer, batch, "total_sequence_length")
        _name(present, f"present.{layer}.{_KINDS[kind]}", nodes.precision.compute, shape)
    return [*outputs, *attention.presents]


def _tower_ops(
    layout: Layout, nodes: Nodes, parameters: Parameters, grid: PatchGrid | None = None
) -> Emit:
    integer = nodes.precision == SINGLE
    return Emit(nodes, parameters, integer_matmul=integer, portable=layout.portable, grid=grid)


def _cache_shape(text: Decoder, layer: int, batch: Axis, length: str) -> list[Axis]:
    state = text.state(layer)
    return [batch, state.heads, length, state.head_dim]


def _past(
    text: Decoder, dtype: ir.DataType, batch: Axis = "batch_size"
) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Yields the graph inputs for the cached keys and values of each layer, as pairs."""
    for i in range(text.layers):
        shape = _cache_shape(text, i, batch, "past_sequence_length")
        key, value = (_value(f"past_key_values.{i}.{kind}", dtype, shape) for kind in _KINDS)
        yield key, value


GRAPHS: Mapping[str, Callable[[Vlm, Parameters, Layout], ir.Model]] = {
    "vision": vision_encoder,
    "projection": vision_projection,
    "embedding": embed_tokens,
    "decoder": decoder_model_merged,
    "region": region_heads,
}
DECODER_GRAPHS = ("embedding", "decoder")
WIDE = frozenset({"region"})
"""Components that compute in float32 in every layout; `region_heads` says why."""
_KINDS = ("key", "value")


def graphs_of(vlm: Vlm) -> tuple[str, ...]:
    """Returns the components of a model that become ONNX graphs: keys of GRAPHS, in its order."""
    lacking = set() if vlm.vision else {"vision"}
    lacking |= set() if vlm.vision and vlm.vision.crops else {"projection"}
    lacking |= set() if vlm.region else {"region"}
    return tuple(component for component in GRAPHS if component not in lacking)


def graphs_beside_decoder(vlm: Vlm) -> tuple[str, ...]:
    """Returns the graphs of a model (keys of GRAPHS) without those of its decoder and embedding.

    They serve a decoder in another format, such as GGUF: vision tower, projection, region heads.
    """
    return tuple(component for component in graphs_of(vlm) if component not in DECODER_GRAPHS)


def _lengths(nodes: Nodes, mask: ir.Value, one: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Computes GroupQueryAttention's length inputs from an attention mask [B, total length].

    They are int32: the index of the last valid position of each sequence, and the total length.
    """
    valid = nodes.add("ReduceSum", [mask, one], {"keepdims": 0})
    last = nodes.add("Sub", [valid, one])
    total = nodes.add("Shape", [mask], {"start": 1, "end": 2})
    seqlens_k = nodes.add("Cast", [last], {"to": int(INT32)})
    return seqlens_k, nodes.add("Cast", [total], {"to": int(INT32)})


def _model(
    name: str,
    nodes: Nodes,
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    parameters: Parameters,
) -> ir.Model:
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=nodes,
        initializers=list(parameters.values.values()),
        opset_imports=dict(OPSETS),
        name=name,
    )
    _leave_out_unread(nodes)
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="pocket-vlm")


def _leave_out_unread(nodes: Nodes) -> None:
    """Removes the names of optional outputs that nothing reads, so that kernels skip them."""
    for node in nodes:
        if node.op_type.startswith("Skip"):
            for output in node.outputs[1:]:
                if not output.uses() and not output.is_graph_output():
                    output.name = ""


def _value(name: str, dtype: ir.DataType, shape: Sequence[Axis]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))


def _name(value: ir.Value, name: str, dtype: ir.DataType, shape: Sequence[Axis]) -> None:
    value.name, value.shape, value.type = name, ir.Shape(shape), ir.TensorType(dtype)
