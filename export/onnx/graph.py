"""The graphs of a model with the inputs and outputs that clients know by name.

vision_encoder: pixel_values and, for images of any size, image_grid_thw -> image_features;
embed_tokens: input_ids -> inputs_embeds; decoder_model_merged: inputs_embeds, attention_mask,
past_key_values.*, num_logits_to_keep and, where some positions see later ones, image_numbers, where
they have rows and columns, position_ids -> logits, present.*. One decoder
graph serves prefill and decode; past and present may be the same buffer of the maximum length
(GroupQueryAttention then appends in place). Models that join crops have vision_projection behind
vision_encoder; those that read and write places of an image have region_heads. What a layout has
otherwise is said in export/onnx/layouts.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

import onnx_ir as ir

from export import network
from export.families.geometry import Decoder, Vlm
from export.onnx.adapt import Adapter
from export.onnx.emit import Emit
from export.onnx.grid import PatchGrid
from export.onnx.half import HalfEmit
from export.onnx.layouts import Layout
from export.onnx.mask import Masks
from export.onnx.nodes import MICROSOFT
from export.onnx.parameters import Parameters

# opset 21: blocked int4 DequantizeLinear. IR 10 goes with it.
OPSETS: Mapping[str, int] = {"": 21, MICROSOFT: 1}
IR_VERSION = 10

Axis = int | str
FLOAT, INT64, INT32 = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.INT32
BOOL = ir.DataType.BOOL


def vision_encoder(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """pixel_values float32 [num_tiles, 3, h, w] -> image_features [num_tiles, tokens, hidden].

    Where crops of one image are joined, hidden is the tower's own width.
    A rotary tower takes the patches of one image, [num_patches, values], and image_grid_thw int64
    [1, 3], frames, rows and columns of patches; its image_features are [1, tokens, hidden].
    """
    v, projector = vlm.sight
    ops = _tower_ops(parameters, layout)
    if v.positions == "rotary":
        return _vision_of_any_size(vlm, ops, parameters, layout)
    adapter, shape = Adapter(ops.nodes, parameters), (v.channels, v.image_size, v.image_size)
    batch: list[Axis] = ["batch_size", "num_images"] if layout.padded_tiles else ["num_tiles"]
    pixels = _value("pixel_values", FLOAT, [*batch, *shape])
    inputs = [pixels]
    if layout.padded_tiles:
        inputs.append(_value("pixel_attention_mask", BOOL, [*batch, *shape[1:]]))
        pixels = adapter.real_tiles(pixels, inputs[1], shape)
    features = ops.wide(network.vision(ops, vlm, pixels))
    width = v.hidden if projector.kind == "crops" else layout.width(vlm)
    if layout.marks(vlm):
        features = adapter.marked(features, 1.0)
    _name(features, "image_features", FLOAT, ["num_tiles", vlm.tokens_per_tile, width])
    return _model("vision_encoder", ops, inputs, [features], parameters)


def _vision_of_any_size(vlm: Vlm, ops: Emit, parameters: Parameters, layout: Layout) -> ir.Model:
    tower, _ = vlm.sight
    patches = _value("pixel_values", FLOAT, ["num_patches", tower.patch_values])
    sizes = _value("image_grid_thw", INT64, [1, 3])
    ops.grid = PatchGrid(ops.nodes, parameters, sizes, tower, ops.kept)
    features = ops.wide(network.vision(ops, vlm, patches))
    shape: list[Axis] = ["num_image_tokens", vlm.text.hidden]
    if layout.flat:
        features = Adapter(ops.nodes, parameters).rows(features, vlm.text.hidden)
    _name(features, "image_features", FLOAT, shape if layout.flat else [1, *shape])
    return _model("vision_encoder", ops, [patches, sizes], [features], parameters)


def vision_projection(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """patches float32 [num_images, tokens, 2 of the tower's width] -> image_features [.., hidden].

    The whole image's patches and, beside them, those of its crops.
    """
    (tower, _), tokens = vlm.sight, vlm.tokens_per_tile
    ops = _tower_ops(parameters, layout)
    patches = _value("patches", FLOAT, ["num_images", tokens, 2 * tower.hidden])
    features = ops.wide(network.joined_projection(ops, patches))
    _name(features, "image_features", FLOAT, ["num_images", tokens, vlm.text.hidden])
    return _model("vision_projection", ops, [patches], [features], parameters)


def region_heads(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """Four heads in one graph; rows [n, ..] of each input give as many rows of its output.

    coordinates [n, 1] -> coordinate_embeds, sizes [n, 2] -> size_embeds [n, hidden];
    coordinate_states -> coordinate_logits [n, bins], size_states -> size_logits [n, 2 bins] from
    the decoder's state [n, hidden]. An input of no rows costs nothing.
    """
    assert vlm.region is not None
    ops, hidden = Emit(parameters), vlm.text.hidden
    bins = {"coord": vlm.region.coord_bins, "size": 2 * vlm.region.size_bins}
    inputs, outputs = [], []
    for head, name, numbers in (("coord", "coordinate", 1), ("size", "size", 2)):
        rows, states = f"num_{name}s", f"num_{name}_states"
        inputs.append(_value(f"{name}s", FLOAT, [rows, numbers]))
        outputs.append(network.place_embedding(ops, head, inputs[-1]))
        _name(outputs[-1], f"{name}_embeds", FLOAT, [rows, hidden])
        inputs.append(_value(f"{name}_states", FLOAT, [states, hidden]))
        outputs.append(network.place_logits(ops, head, inputs[-1]))
        _name(outputs[-1], f"{name}_logits", FLOAT, [states, bins[head]])
    return _model("region_heads", ops, inputs, outputs, parameters)


def embed_tokens(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """input_ids int64 [batch_size, sequence_length] -> inputs_embeds [.., hidden].

    A merging layout also takes image_features of any rank, whose rows go where image tokens are.
    """
    ops, width = _ops(parameters, layout), layout.width(vlm)
    adapter = Adapter(ops.nodes, parameters)
    ids = _value("input_ids", INT64, ["batch_size", "sequence_length"])
    inputs = [ids]
    embeds = network.embedding(ops, vlm.text, ids)
    if layout.marks(vlm):
        embeds = adapter.marked(embeds, 0.0)
    if layout.merged and vlm.image_token_id is not None:
        features = ir.Value(name="image_features", type=ir.TensorType(FLOAT))
        inputs.append(features)
        embeds = adapter.placed(embeds, ids, features, vlm.image_token_id, width)
    _name(embeds, "inputs_embeds", FLOAT, ["batch_size", "sequence_length", width])
    return _model("embed_tokens", ops, inputs, [embeds], parameters)


def decoder_model_merged(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """Embeddings after `past` cached positions -> logits of the last positions, and the cache.

    attention_mask int64 [batch_size, total_sequence_length] counts the valid positions, past ones
    included. num_logits_to_keep int64 []: 0 gives the logits of every position. image_numbers int64
    [batch_size, total_sequence_length] numbers the positions of images from 1, text is 0.
    position_ids int64 [3, batch_size, sequence_length]: time, row and column of the new positions.
    state [batch_size, num_logits, hidden], for region heads only, is what the output norm reads.
    Where embeddings have marks (Layout), image_numbers are made of those and are no input.
    """
    if layout.device:
        return _stepped_decoder(vlm, parameters, layout)
    text, ops, width = vlm.text, Emit(parameters), layout.width(vlm)
    embeds = _value("inputs_embeds", FLOAT, ["batch_size", "sequence_length", width])
    mask = _value("attention_mask", INT64, ["batch_size", "total_sequence_length"])
    ops.past = list(_past(text, FLOAT))
    if not layout.last_only:
        ops.inputs["num_logits_to_keep"] = _value("num_logits_to_keep", INT64, [])
    inputs = [embeds, mask, *ops.inputs.values(), *chain.from_iterable(ops.past)]
    _lengths(ops, mask, parameters.integers(1))
    if text.sees_ahead:
        new = ops.nodes.add("Shape", [embeds], {"start": 1, "end": 2})
        numbers = _value("image_numbers", INT64, ["batch_size", "total_sequence_length"])
        if layout.marks(vlm):
            adapter = Adapter(ops.nodes, parameters)
            embeds, marks = adapter.unmarked(embeds, text.hidden)
            numbers = adapter.image_numbers(marks, mask)
        else:
            inputs.append(numbers)
        ops.masks = Masks(ops.nodes, parameters, numbers, new)
    if text.rope_sections is not None:
        positions = _value("position_ids", INT64, [3, "batch_size", "sequence_length"])
        ops.inputs["position_ids"] = positions
        inputs.append(positions)
    outputs = _decoded(vlm, ops, embeds, 1 if layout.last_only else "num_logits")
    return _model("decoder_model_merged", ops, inputs, outputs, parameters)


def _stepped_decoder(vlm: Vlm, parameters: Parameters, layout: Layout) -> ir.Model:
    """As decoder_model_merged, of one batch, told what that derives from an attention mask.

    seqlens_k int32 [1] is the last valid index of the cache, total_sequence_length int32 [1] the
    positions that attention looks at, valid or behind the valid ones; it is read on the host.
    Where images see ahead, cache_positions int64 [sequence_length] are the new positions' indices.
    token int64 [1, 1] is the index of the largest logit.
    """
    text, ops = vlm.text, HalfEmit(parameters)
    embeds = _value("inputs_embeds", FLOAT, [1, "sequence_length", text.hidden])
    ops.past = list(_past(text, ops.kept, 1))
    for name in ("seqlens_k", "total_sequence_length"):
        ops.inputs[name] = _value(name, INT32, [1])
    if text.sees_ahead:
        numbers = _value("image_numbers", INT64, [1, "total_sequence_length"])
        places = _value("cache_positions", INT64, ["sequence_length"])
        ops.inputs |= {"image_numbers": numbers, "cache_positions": places}
        ops.masks = Masks(ops.nodes, parameters, numbers, places=places, kept=ops.kept)
    if text.rope_sections is not None:
        ops.inputs["position_ids"] = _value("position_ids", INT64, [3, 1, "sequence_length"])
    inputs = [embeds, *ops.inputs.values(), *chain.from_iterable(ops.past)]
    logits, *others = _decoded(vlm, ops, embeds, 1, 1)
    token = ops.nodes.add("ArgMax", [logits], {"axis": -1, "keepdims": 0})
    _name(token, "token", INT64, [1, 1])
    return _model("decoder_model_merged", ops, inputs, [logits, token, *others], parameters)


def _decoded(
    vlm: Vlm, ops: Emit, embeds: ir.Value, kept: Axis, batch: Axis = "batch_size"
) -> list[ir.Value]:
    """Logits, the state where it is wanted, and the cache, as a graph's outputs."""
    text = vlm.text
    logits, state = network.decoder_and_state(ops, text, embeds)
    logits = ops.wide(logits)
    outputs = [logits]
    if vlm.region is not None:
        outputs.append(ops.wanted(state))
        _name(outputs[-1], "state", FLOAT, [batch, kept, text.hidden])
    _name(logits, "logits", FLOAT, [batch, kept, text.vocab])
    shape: list[Axis] = [batch, text.kv_heads, "total_sequence_length", text.head_dim]
    for n, present in enumerate(ops.presents):
        _name(present, f"present.{n // 2}.{_KINDS[n % 2]}", ops.kept, shape)
    return [*outputs, *ops.presents]


def _ops(parameters: Parameters, layout: Layout) -> Emit:
    return HalfEmit(parameters) if layout.device else Emit(parameters)


def _tower_ops(parameters: Parameters, layout: Layout) -> Emit:
    return HalfEmit(parameters) if layout.device else Emit(parameters, int8_matmul=True)


def _past(
    text: Decoder, dtype: ir.DataType, batch: Axis = "batch_size"
) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Cached keys and values of each layer."""
    shape: list[Axis] = [batch, text.kv_heads, "past_sequence_length", text.head_dim]
    for i in range(text.layers):
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
"""Components that compute in float32 in every layout: their inputs are places, which float16 blurs,
and they take less than a thousandth of a step."""
_KINDS = ("key", "value")


def graphs_of(vlm: Vlm) -> tuple[str, ...]:
    """The components (keys of GRAPHS) that a model has."""
    lacking = set() if vlm.vision else {"vision"}
    lacking |= set() if vlm.projector and vlm.projector.kind == "crops" else {"projection"}
    lacking |= set() if vlm.region else {"region"}
    return tuple(component for component in GRAPHS if component not in lacking)


def graphs_beside_decoder(vlm: Vlm) -> tuple[str, ...]:
    """Those that feed or read the decoder, whoever decodes: the tower, heads of places."""
    return tuple(component for component in graphs_of(vlm) if component not in DECODER_GRAPHS)


def _lengths(ops: Emit, mask: ir.Value, one: ir.Value) -> None:
    """What GroupQueryAttention wants to know: last valid index per row, and the total length."""
    valid = ops.node("ReduceSum", [mask, one], {"keepdims": 0})[0]
    last = ops.node("Sub", [valid, one])[0]
    total = ops.node("Shape", [mask], {"start": 1, "end": 2})[0]
    for name, value in (("seqlens_k", last), ("total_sequence_length", total)):
        ops.inputs[name] = ops.node("Cast", [value], {"to": int(INT32)})[0]


def _model(
    name: str,
    ops: Emit,
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    parameters: Parameters,
) -> ir.Model:
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=ops.nodes,
        initializers=list(parameters.values.values()),
        opset_imports=dict(OPSETS),
        name=name,
    )
    _leave_out_unread(ops)
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="pocket-vlm")


def _leave_out_unread(ops: Emit) -> None:
    """Optional outputs that nobody reads have no name, so that kernels do not make them."""
    for node in ops.nodes:
        if node.op_type.startswith("Skip"):
            for output in node.outputs[1:]:
                if not output.uses() and not output.is_graph_output():
                    output.name = ""


def _value(name: str, dtype: ir.DataType, shape: Sequence[Axis]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))


def _name(value: ir.Value, name: str, dtype: ir.DataType, shape: Sequence[Axis]) -> None:
    value.name, value.shape, value.type = name, ir.Shape(shape), ir.TensorType(dtype)
