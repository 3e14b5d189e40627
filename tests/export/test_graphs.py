"""Every graph of every family and recipe: clean, named, and as artifact.json describes it."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import onnx
import pytest
from random_checkpoint import save
from tiny_configs import CONFIGS, PREPROCESSORS

from export.__main__ import main
from export.checkpoint.registry import open_model
from export.manifest import signed_name
from export.quantize.recipe import RECIPES
from export.targets import TARGETS

# Casts that a graph may have: of a stored weight, or of the output of a node.
HALF = "float16 weight to float"  # stored in 16 bits, computed with in 32; a tied head's scales
PACKED = "uint4 weight to uint8"  # these two are folded once, when a session loads
FACTORS = "int8 weight to float"
SIGNED = {"uint4 weight to int8", "BitwiseXor to int8"}
CASTS = {
    "vision_encoder": {HALF, PACKED, FACTORS},
    "vision_projection": {HALF, PACKED, FACTORS},
    "vision_encoder_signed": {HALF, FACTORS, *SIGNED},
    "vision_projection_signed": {HALF, FACTORS, *SIGNED},
    # The rows of 16 bits that were asked for.
    "embed_tokens": {"Gather to float", "GatherBlockQuantized to float"},
    # GroupQueryAttention wants its lengths in 32 bits, RotaryEmbedding (heads of 8) in 64.
    "decoder_model_merged": {HALF, FACTORS, "Sub to int32", "Shape to int32", "Cast to int64"},
    "region_heads": {HALF, FACTORS},
}
# Rows and columns of patches that turn, and which patches of a window are there.
ROTARY_CASTS = {"Reshape to float", "ScatterElements to int32"}
QUANTIZED = {"int8", "int4"}
ONLY = {
    HALF: {"fp16"} | QUANTIZED,
    FACTORS: QUANTIZED,
    "GatherBlockQuantized to float": QUANTIZED,
    "Gather to float": {"fp16"},
    PACKED: {"int4"},
    **dict.fromkeys(SIGNED, QUANTIZED),
}
# Constants kept in the graph itself: shapes and scalars.
INLINE_BYTES = 2048


@pytest.fixture(scope="module", params=[(f, r) for f in CONFIGS for r in RECIPES], ids=" ".join)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict]:
    """An artifact's folder and its artifact.json."""
    family, recipe = request.param
    folder = tmp_path_factory.mktemp("exported")
    save(folder / "model", CONFIGS[family], PREPROCESSORS[family])
    arguments = ["--target", "onnx", "--recipe", recipe, "--no-verify", "--json"]
    assert main([str(folder / "model"), *arguments, "--out", str(folder / "out")]) == 0
    return folder / "out", json.loads((folder / "out" / "artifact.json").read_text())


def graphs(folder: Path) -> Iterator[tuple[str, onnx.ModelProto]]:
    for path in sorted(folder.glob("*.onnx")):
        yield path.stem, onnx.load(path, load_external_data=False)


def test_graphs_have_no_litter(exported: tuple[Path, dict]) -> None:
    folder, manifest = exported
    rotary = (manifest["vlm"]["vision"] or {}).get("kind") == "images"
    for name, model in graphs(folder):
        nodes = model.graph.node
        assert not {"Identity", "Dropout", "Constant"} & {node.op_type for node in nodes}, name
        allowed = CASTS[name] | (ROTARY_CASTS if rotary and "vision_encoder" in name else set())
        found = set(casts(model))
        assert found <= allowed, name
        assert all(manifest["recipe"] in ONLY.get(cast, RECIPES) for cast in found), name
        assert len({node.name for node in nodes}) == len(nodes), name


def casts(model: onnx.ModelProto) -> Iterator[str]:
    """Every Cast, by what it is of and to."""
    stored = {t.name: f"{kind(t.data_type)} weight" for t in model.graph.initializer}
    stored |= {output: node.op_type for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "Cast":
            to = kind(onnx.helper.get_node_attr_value(node, "to"))
            yield f"{stored[node.input[0]]} to {to}"


def kind(data_type: int) -> str:
    return onnx.TensorProto.DataType.Name(data_type).lower()


def test_every_output_is_named_and_used(exported: tuple[Path, dict]) -> None:
    for name, model in graphs(exported[0]):
        graph = model.graph
        made = [output for node in graph.node for output in node.output]
        read = {value for node in graph.node for value in node.input}
        read |= {value.name for value in graph.output}
        given = {value.name for value in graph.input} | {t.name for t in graph.initializer}
        assert len(set(made) - {""}) == len(made) - made.count(""), name
        for node in graph.node:  # what nobody reads is an optional output, and has no name
            assert any(node.output), name
            if node.op_type != "Split":  # all of its outputs must be there
                assert set(filter(None, node.output)) <= read, (name, node.name)
        assert given <= read, (name, given - read)
        assert read - {""} <= given | set(made), name


def test_axes_are_named_and_types_given(exported: tuple[Path, dict]) -> None:
    for name, model in graphs(exported[0]):
        for value in [*model.graph.input, *model.graph.output]:
            tensor = value.type.tensor_type
            assert tensor.elem_type, (name, value.name)
            assert tensor.HasField("shape"), (name, value.name)
            for axis in tensor.shape.dim:
                assert axis.dim_param or axis.dim_value > 0, (name, value.name)
                assert axis.dim_param.isidentifier() or not axis.dim_param, (name, value.name)


def test_artifact_json_tells_the_opsets_that_graphs_import(exported: tuple[Path, dict]) -> None:
    folder, manifest = exported
    stated = manifest["details"]["onnx"]["opsets"]
    used: set[str] = set()
    for name, model in graphs(folder):
        imported = {one.domain or "ai.onnx": one.version for one in model.opset_import}
        domains = {node.domain or "ai.onnx" for node in model.graph.node}
        assert domains <= imported.keys(), name
        assert imported.items() <= stated.items(), name
        used |= domains
    assert used == stated.keys()


def test_a_component_is_a_small_graph_and_one_data_file(exported: tuple[Path, dict]) -> None:
    folder, manifest = exported
    tied = {"decoder"} if manifest["vlm"]["text"]["tied"] else set()
    for component, names in manifest["components"].items():
        graph_file, data_file, *others = names
        assert others in ([], [signed_name(graph_file)])
        model = onnx.load(folder / graph_file, load_external_data=False)
        inline = 0
        spans = []
        for tensor in model.graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if not entries:
                inline += len(tensor.raw_data)
                continue
            if entries["location"] != data_file:  # the table of the embedding is there once
                assert component in tied
                assert entries["location"] == manifest["components"]["embedding"][1]
                continue
            spans.append((int(entries["offset"]), int(entries["length"])))
        assert inline < INLINE_BYTES
        spans.sort()
        assert all(a + n <= b for (a, n), (b, _) in pairwise(spans))
        assert sum(spans[-1]) == (folder / data_file).stat().st_size
    listed = {name for names in manifest["components"].values() for name in names}
    assert listed == {path.name for path in folder.glob("*.onnx*")}


@pytest.mark.parametrize("model", ["moondream-2b", "qwen2.5-vl-3b"])
def test_graphs_of_real_sizes_are_small(model: str) -> None:
    sizes = TARGETS["onnx"].sizes(open_model(model, weights="synthetic"), RECIPES["int4"], "native")
    graph_bytes = [size for name, size in sizes.items() if name.endswith(".onnx")]
    assert graph_bytes
    assert max(graph_bytes) < 1 << 20
