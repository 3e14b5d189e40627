"""Layout cuda: its graphs have only what ONNX Runtime's CUDA kernels take, and compute the same.

The kernels are those of tests/golden/cuda_kernels.json. The numbers are checked on the CPU, which
runs the same graphs, with casts where a kernel of its own lacks float16.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tiny_models import tiny_artifact

from export.artifact import Artifact
from export.checkpoint.registry import open_model
from runtimes.base import Request
from runtimes.onnxruntime.session import open_session
from runtimes.proof.fidelity import Accumulator
from runtimes.proof.probes import probes
from runtimes.reference import ReferenceScorer

MODELS = ("tiny-smolvlm", "tiny-moondream", "tiny-qwen2.5-vl", "tiny-gemma3")
KERNELS = json.loads(Path(__file__).parents[1].joinpath("golden/cuda_kernels.json").read_text())
HOST = frozenset({"embedding"})  # looked up in the host's memory


@pytest.fixture(params=["fp16", "int8", "int4"])
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=MODELS)
def artifact(request: pytest.FixtureRequest, recipe: str, tmp_path: Path) -> Artifact:
    return tiny_artifact(open_model(request.param), "onnx", recipe, tmp_path, "cuda")


def graphs(artifact: Artifact) -> Iterator[tuple[str, onnx.ModelProto]]:
    """What a GPU runs."""
    for part, files in artifact.manifest.components.items():
        if part not in HOST:
            path = artifact.path / files[0]
            yield part, onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))


def types(model: onnx.ModelProto) -> dict[str, str]:
    """Of every value that is not float32: those of fused ops are told where they are float16."""
    graph, known = model.graph, {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        known[value.name] = value.type.tensor_type.elem_type
    known |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    names = {name: TensorProto.DataType.Name(kind).lower() for name, kind in known.items() if kind}
    return names


def lacking(model: onnx.ModelProto) -> set[str]:
    """Ops, with version and types, that there is no kernel for.

    What follows from weights alone is folded when a session loads, by the CPU's kernels.
    """
    known, opset = types(model), {x.domain: x.version for x in model.opset_import}
    found, constant = set(), {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if constant.issuperset(name for name in node.input if name):
            constant.update(node.output)
            continue
        op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        kernel = KERNELS["kernels"].get(op, {"versions": [], "types": []})
        since = 1
        if onnx.defs.has(node.op_type, node.domain):
            since = onnx.defs.get_schema(
                node.op_type, opset[node.domain], node.domain
            ).since_version
        # ONNX Runtime's rule: an open range is for the version it begins with alone.
        fits = any(a == since or (b and a <= since <= b) for a, b in kernel["versions"])
        used = {known.get(name, "float") for name in (*node.input, *node.output) if name}
        if not fits or used - set(kernel["types"]):
            found.add(f"{op}-{since}: {', '.join(sorted(used))}")
    return found


def test_a_gpu_has_a_kernel_for_every_node(artifact: Artifact) -> None:
    assert {part: lacking(model) for part, model in graphs(artifact)} == {
        part: set() for part, _ in graphs(artifact)
    }


def test_a_node_without_a_kernel_is_found(tmp_path: Path) -> None:
    native = tiny_artifact(open_model("tiny-gemma3"), "onnx", "int8", tmp_path)
    found = {words.split("-")[0] for _, model in graphs(native) for words in lacking(model)}
    assert {"com.microsoft::DynamicQuantizeMatMul", "com.microsoft::GroupQueryAttention"} <= found
    assert "Equal" in found


def test_products_attention_and_cache_are_float16_and_the_stream_float32(
    artifact: Artifact, recipe: str
) -> None:
    for part, model in graphs(artifact):
        if part == "region":
            continue
        known = types(model)
        for node in model.graph.node:
            kinds = {known.get(name, "float") for name in (node.input[0], node.output[0])}
            exact = any("patch_embd" in name for name in node.input)
            if node.op_type in ("MatMul", "FusedMatMul", "MatMulNBits") and not exact:
                assert kinds == {"float16"}, node.name
            if node.op_type in ("GroupQueryAttention", "MultiHeadAttention"):
                assert kinds == {"float16"}, node.name
            if "Normalization" in node.op_type:
                assert kinds == {"float"}, node.name


def test_eight_bit_products_have_the_level_that_a_cpu_has_a_fast_kernel_for(
    artifact: Artifact,
) -> None:
    levels = set()
    for part, model in graphs(artifact):
        for node in model.graph.node:
            if node.op_type == "MatMulNBits" and part != "region":
                said = {one.name: one.i for one in node.attribute}
                levels.add((said["bits"], said["accuracy_level"]))
    assert levels <= {(8, 4), (4, 0)}


def test_a_step_is_told_all_that_changes_and_no_shape_of_it_does() -> None:
    seen = dict[str, dict[str, tuple[int, list[object]]]]()
    for name in MODELS:
        model = open_model(name)
        decoder = _decoder(model)
        seen[name] = {
            value.name: (value.type.tensor_type.elem_type, _shape(value))
            for value in (*decoder.graph.input, *decoder.graph.output)
            if not value.name.startswith(("past", "present"))
        }
        text = model.vlm.text
        assert seen[name]["inputs_embeds"] == (1, [1, "sequence_length", text.hidden])
        assert seen[name]["seqlens_k"] == seen[name]["total_sequence_length"] == (6, [1])
        assert seen[name]["logits"] == (1, [1, 1, text.vocab])
        assert seen[name]["token"] == (7, [1, 1])
        assert ("cache_positions" in seen[name]) == text.sees_later_positions
        assert ("position_ids" in seen[name]) == (text.rope_sections is not None)
        assert "attention_mask" not in seen[name]


def _decoder(model: object) -> onnx.ModelProto:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        artifact = tiny_artifact(model, "onnx", "int8", Path(folder), "cuda")  # type: ignore[arg-type]
        return dict(graphs(artifact))["decoder"]


def _shape(value: onnx.ValueInfoProto) -> list[object]:
    return [x.dim_param or x.dim_value for x in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("name", MODELS)
def test_in_float16_it_is_the_model(name: str, tmp_path: Path) -> None:
    model = open_model(name)
    exact, distance = ReferenceScorer(model), Accumulator()
    session = open_session(tiny_artifact(model, "onnx", "fp16", tmp_path, "cuda"), threads=1)
    for probe in (probe for probe in probes(64) if len(probe.images) < 2):
        answer = exact.tokens(probe.answer)
        request = Request(probe.question, probe.images, answer=answer, arrays=True)
        expected = exact.score(request, exact.features(request))
        found = [event.logits for event in session.generate(request) if event.logits is not None]
        for p, q in zip(expected, found, strict=True):
            distance.add(p, q)
    result = distance.result()
    assert result is not None
    assert result.max_kld < 1e-3
    assert result.top1 == 1


def test_the_token_is_that_of_the_largest_logit(tmp_path: Path) -> None:
    model = open_model("tiny-smolvlm")
    session = open_session(tiny_artifact(model, "onnx", "int4", tmp_path, "cuda"), threads=1)
    request = Request("what is it?", max_tokens=6, arrays=True)
    for event in session.generate(request):
        if event.logits is not None:
            assert event.token == int(np.argmax(event.logits))
