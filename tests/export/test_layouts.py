"""Layouts of the ONNX target: what is named, cut and fed otherwise, and for whom there is none."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tiny_models import hf_model, tiny_artifact, tiny_model
from tiny_moondream import tiny_moondream

from export.__main__ import main
from export.artifact import Artifact, load_artifact
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.model import Model
from export.onnx.graph import graphs_of
from export.onnx.layouts import LAYOUTS, layout_of
from export.onnx.write import write_graphs
from export.quantize.recipe import RECIPES
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.base import Request
from runtimes.proof.probes import probes

MODELS = ("tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl")
CLIENTS = [
    (name, layout)
    for name in MODELS
    for layout in ("transformers.js", "genai")
    if (name, layout) != ("tiny-smolvlm", "genai")
]


def session(artifact: Artifact, part: str) -> ort.InferenceSession:
    return ort.InferenceSession(artifact.path / artifact.manifest.components[part][0])


def inputs(artifact: Artifact, part: str) -> dict[str, list[Any]]:
    return {value.name: value.shape for value in session(artifact, part).get_inputs()}


def read(artifact: Artifact, name: str) -> Mapping[str, Any]:
    return json.loads((artifact.path / name).read_text())


@pytest.mark.parametrize(
    ("recipe", "suffix", "dtype"),
    [
        ("fp32", "", "fp32"),
        ("fp16", "_fp16", "fp16"),
        ("int8", "_quantized", "q8"),
        ("int4", "_q4", "q4"),
    ],
)
def test_transformers_js_finds_its_files_by_the_recipes_suffix(
    recipe: str, suffix: str, dtype: str, tmp_path: Path
) -> None:
    model = open_model("tiny-smolvlm")
    artifact = tiny_artifact(model, "onnx", recipe, tmp_path, "transformers.js")
    names = {f"{part}{suffix}.onnx" for part in ("vision_encoder", "embed_tokens")}
    names.add(f"decoder_model_merged{suffix}.onnx")
    files = {file for files in artifact.manifest.components.values() for file in files}
    assert files == {f"onnx/{name}{end}" for name in names for end in ("", "_data")}
    config = read(artifact, "config.json")["transformers.js_config"]
    assert config["use_external_data_format"] == dict.fromkeys(names, 1)
    assert config["dtype"] == dtype


def test_graphs_for_transformers_js_have_its_names_and_axes(tmp_path: Path) -> None:
    model = open_model("tiny-smolvlm")
    artifact = tiny_artifact(model, "onnx", "int8", tmp_path, "transformers.js")
    batch = ["batch_size", "num_images"]
    assert inputs(artifact, "vision") == {
        "pixel_values": [*batch, 3, 64, 64],
        "pixel_attention_mask": [*batch, 64, 64],
    }
    decoder = inputs(artifact, "decoder")
    assert decoder["inputs_embeds"] == ["batch_size", "sequence_length", 128]
    assert decoder["past_key_values.0.key"][0] == "batch_size"  # the one axis it can fill in
    assert decoder["num_logits_to_keep"] == []


def test_text_config_is_added_to_a_flat_config(tmp_path: Path) -> None:
    artifact = tiny_artifact(
        open_model("tiny-qwen2.5-vl"), "onnx", "int8", tmp_path, "transformers.js"
    )
    text = read(artifact, "config.json")["text_config"]
    assert (text["model_type"], text["num_hidden_layers"]) == ("qwen2_5_vl_text", 4)
    steps = read(artifact, "preprocessor_config.json")
    assert steps["do_normalize"] is steps["do_resize"] is True
    ends = read(artifact, "generation_config.json")["eos_token_id"]
    assert ends == list(artifact.manifest.vlm.stop_token_ids)


def test_padded_tiles_of_a_batch_have_no_features(tmp_path: Path) -> None:
    model = tiny_model(hf_model("grouped heads"))
    vision = session(tiny_artifact(model, "onnx", "fp32", tmp_path, "transformers.js"), "vision")
    tiles = np.random.default_rng(0).standard_normal((2, 3, 3, 32, 32)).astype(np.float32)
    there = np.ones((2, 3, 32, 32), bool)
    there[0, 1:] = False  # the first sample has one tile, the second one three
    found = vision.run(None, {"pixel_values": tiles, "pixel_attention_mask": there})[0]
    every = {"pixel_values": tiles, "pixel_attention_mask": np.ones_like(there)}
    assert np.allclose(found, vision.run(None, every)[0][[0, 3, 4, 5]], atol=1e-6)


@pytest.mark.parametrize("layout", ["transformers.js", "genai"])
def test_embeddings_mark_image_tokens_where_images_are_bidirectional(
    layout: str, tmp_path: Path
) -> None:
    artifact = tiny_artifact(open_model("tiny-gemma3"), "onnx", "fp32", tmp_path, layout)
    features = session(artifact, "vision").run(
        None, {"pixel_values": np.zeros((1, 3, 64, 64), np.float32)}
    )[0]
    assert features.shape == (1, 16, 129)
    assert np.all(features[..., -1] == 1)
    ids = {"input_ids": np.array([[2, 5, 7]])}
    nothing = {"image_features": np.zeros((0, 129), np.float32)} if layout == "genai" else {}
    embeds = session(artifact, "embedding").run(None, ids | nothing)[0]
    assert embeds.shape == (1, 3, 129)
    assert np.all(embeds[..., -1] == 0)
    assert "image_numbers" not in inputs(artifact, "decoder")


def test_genais_embedding_graph_inserts_image_features(tmp_path: Path) -> None:
    model = open_model("tiny-qwen2.5-vl")
    artifact = tiny_artifact(model, "onnx", "fp32", tmp_path, "genai")
    embed, image = session(artifact, "embedding"), model.vlm.image_token_id
    rows = np.arange(256, dtype=np.float32).reshape(2, 128)
    ids = np.array([[5, image, image, 7, image]])  # the last one is an answer's own
    found = embed.run(None, {"input_ids": ids, "image_features": rows})[0][0]
    plain = embed.run(None, {"input_ids": ids, "image_features": rows[:0]})[0][0]
    assert np.array_equal(found[1:3], rows)
    assert np.array_equal(found[[0, 3, 4]], plain[[0, 3, 4]])


@pytest.mark.parametrize(("name", "layout"), CLIENTS)
def test_our_runtime_gives_the_same_answer_from_every_layout(
    name: str, layout: str, tmp_path: Path
) -> None:
    model = open_model(name)
    edge = 112 if "qwen" in name else 64
    image = probes(edge)[0].images[0]
    found = []
    for each in ("native", layout):
        artifact = tiny_artifact(model, "onnx", "int8", tmp_path / each, each)
        opened = RUNTIMES["onnxruntime"].open_session(artifact, threads=1)
        request = Request("what color is it?", (image, image), max_tokens=6, arrays=True)
        found.append([event for event in opened.generate(request) if event.kind == "token"])
        opened.close()
    assert [event.token for event in found[0]] == [event.token for event in found[1]]
    for native, other in zip(*found, strict=True):
        assert np.allclose(native.logits, other.logits, atol=1e-4)


def test_genai_returns_logits_of_one_position(tmp_path: Path) -> None:
    artifact = tiny_artifact(open_model("tiny-gemma3"), "onnx", "int4", tmp_path, "genai")
    decoder = session(artifact, "decoder")
    assert "num_logits_to_keep" not in inputs(artifact, "decoder")
    assert decoder.get_outputs()[0].shape == ["batch_size", 1, 576]
    config = read(artifact, "genai_config.json")["model"]
    assert config["decoder"]["filename"] == artifact.manifest.components["decoder"][0]
    assert config["decoder"]["hidden_size"] == 129


def test_large_data_is_continued_in_another_file(tmp_path: Path) -> None:
    model, recipe = open_model("tiny-smolvlm"), RECIPES["fp32"]
    layout = replace(layout_of(model.vlm, "transformers.js"), chunk_bytes=1_000_000)
    written = write_graphs(model, recipe, tmp_path, graphs_of(model.vlm), layout)
    decoder = written.components["decoder"]
    name = "onnx/decoder_model_merged.onnx"
    assert decoder == (name, *(f"{name}_data{end}" for end in ("", "_1", "_2", "_3")))
    assert all((tmp_path / file).stat().st_size <= 1_000_000 for file in decoder[1:])
    whole = tiny_artifact(model, "onnx", "fp32", tmp_path / "whole", "transformers.js")
    feeds = decoder_feeds(model)
    parts = ort.InferenceSession(tmp_path / name).run(["logits"], feeds)[0]
    assert np.array_equal(parts, session(whole, "decoder").run(["logits"], feeds)[0])


def decoder_feeds(model: Model) -> dict[str, Any]:
    text = model.vlm.text
    empty = np.zeros((1, text.kv_heads, 0, text.head_dim), np.float32)
    past = {
        f"past_key_values.{i}.{kind}": empty
        for i in range(text.layers)
        for kind in ("key", "value")
    }
    embeds = np.random.default_rng(0).standard_normal((1, 5, text.hidden)).astype(np.float32)
    mask = np.ones((1, 5), np.int64)
    return past | {
        "inputs_embeds": embeds,
        "attention_mask": mask,
        "num_logits_to_keep": np.array(1),
    }


@pytest.mark.parametrize("layout", [name for name, layout in LAYOUTS.items() if not layout.ort])
@pytest.mark.parametrize("recipe", ["fp32", "int4"])
@pytest.mark.parametrize("name", MODELS)
def test_graphs_have_no_node_without_effect(
    name: str, recipe: str, layout: str, tmp_path: Path
) -> None:
    if (name, layout) == ("tiny-smolvlm", "genai"):
        return
    artifact = tiny_artifact(open_model(name), "onnx", recipe, tmp_path, layout)
    opsets = artifact.manifest.details.onnx.opsets
    for files in artifact.manifest.components.values():
        graph = onnx.load(artifact.path / files[0], load_external_data=False)
        assert {i.domain or "ai.onnx": i.version for i in graph.opset_import} == opsets
        used = {name for node in graph.graph.node for name in node.input}
        small = {t.name for t in graph.graph.initializer if not t.external_data}
        used |= {value.name for value in graph.graph.output}
        for node in graph.graph.node:
            assert node.op_type != "Identity"
            assert not set(node.input) <= small, f"{node.name} could have been computed"
            assert any(output in used for output in node.output), node.name
        assert {value.name for value in graph.graph.input} <= used
        assert {tensor.name for tensor in graph.graph.initializer} <= used


@pytest.mark.parametrize(
    ("name", "layout", "remedy"),
    [
        ("tiny-smolvlm", "genai", "--layout native or --layout transformers.js"),
        ("moondream", "transformers.js", "--layout native"),
        ("moondream", "genai", "--layout native"),
        ("text alone", "transformers.js", "--layout native"),
        ("text alone", "genai", "--layout native"),
    ],
)
def test_a_client_that_cannot_run_a_model_is_named_with_the_remedy(
    name: str, layout: str, remedy: str, tmp_path: Path
) -> None:
    model = tiny_moondream("legacy") if name == "moondream" else open_model("tiny-smolvlm")
    if name == "text alone":
        model = replace(model, vlm=replace(model.vlm, vision=None))
    for refused in (TARGETS["onnx"].sizes, TARGETS["onnx"].client_files):
        with pytest.raises(UserError, match=remedy):
            refused(model, RECIPES["int4"], layout)
    with pytest.raises(UserError, match=remedy):
        TARGETS["onnx"].write(model, RECIPES["int4"], tmp_path, layout)
    assert not any(tmp_path.iterdir())


def test_what_a_client_computes_differently_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = ["tiny-gemma3", "--target", "onnx", "--recipe", "int4", "--layout", "genai"]
    assert main([*order, "--no-verify", "--out", str(tmp_path / "made")]) == 0
    (limit,) = load_artifact(tmp_path / "made").manifest.details.limits
    assert "256 tokens of every image and this model takes 16" in limit
    assert f"  note: {limit}\n" in capsys.readouterr().out


def test_a_layout_for_an_unsupported_family_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = ["moondream-2b", "--weights", "synthetic", "--target", "onnx", "--recipe", "int4"]
    out = tmp_path / "made"
    assert main([*order, "--layout", "transformers.js", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: transformers.js cannot run models of family moondream")
    assert "--layout native" in line
    assert not any(tmp_path.iterdir())
