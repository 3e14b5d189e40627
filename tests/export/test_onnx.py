"""The emitted graphs compute, in ONNX Runtime, what transformers computes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from tiny_models import CASES, IMAGE_TOKEN, hf_model, tiny_artifact, tiny_model

from export.artifact import Artifact

# Largest error of the logits, relative to the largest logit. Random weights are the worst case for
# rounding; these bounds tell a wrong kernel or packing (errors near 1) from rounding.
RELATIVE = {"fp32": 1e-4, "fp16": 5e-3, "int8": 0.1, "int4": 0.6}
TILES = {"no image": 0, "one tile": 1, "three tiles": 3}


def logits(artifact: Artifact, ids: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    text = artifact.manifest.vlm.text
    vision, embed, decoder = (
        ort.InferenceSession(artifact.path / artifact.manifest.components[part][0])
        for part in ("vision", "embedding", "decoder")
    )
    embeds = embed.run(None, {"input_ids": ids})[0]
    if len(pixels):
        features = vision.run(None, {"pixel_values": pixels})[0]
        embeds[ids == IMAGE_TOKEN] = features.reshape(-1, text.hidden)
    empty = np.zeros((1, text.kv_heads, 0, text.head_dim), np.float32)
    feed = {
        f"past_key_values.{i}.{kind}": empty
        for i in range(text.layers)
        for kind in ("key", "value")
    }
    feed |= {"inputs_embeds": embeds, "attention_mask": np.ones_like(ids)}
    return decoder.run(["logits"], feed | {"num_logits_to_keep": np.array(0)})[0]


@pytest.mark.parametrize("recipe", RELATIVE)
@pytest.mark.parametrize("case", CASES)
def test_graphs_give_the_logits_of_transformers(case: str, recipe: str, tmp_path: Path) -> None:
    hf = hf_model(case)
    model = tiny_model(hf)
    artifact = tiny_artifact(model, "onnx", recipe, tmp_path)
    edge = model.vlm.vision.tower.image_size
    for tiles in TILES.values():
        ids = [1, 5] + [IMAGE_TOKEN] * (tiles * model.vlm.vision.tokens_per_tile) + [7, 11, 13]
        pixels = torch.randn(tiles, 3, edge, edge)
        kwargs = {}
        if tiles:
            mask = torch.ones(1, tiles, edge, edge, dtype=torch.bool)
            kwargs = {"pixel_values": pixels[None], "pixel_attention_mask": mask}
        wanted = hf(input_ids=torch.tensor([ids]), **kwargs).logits.numpy()
        found = logits(artifact, np.array([ids]), pixels.numpy())
        assert np.abs(found - wanted).max() <= RELATIVE[recipe] * np.abs(wanted).max()


@pytest.mark.parametrize("recipe", RELATIVE)
def test_graphs_are_fused_and_keep_weights_outside(recipe: str, tmp_path: Path) -> None:
    model = tiny_model(hf_model("grouped heads"))
    artifact = tiny_artifact(model, "onnx", recipe, tmp_path)
    for files in artifact.manifest.components.values():
        graph = onnx.load(artifact.path / files[0], load_external_data=False).graph
        kinds = {node.op_type for node in graph.node}
        assert "Identity" not in kinds
        assert sum(len(tensor.raw_data) for tensor in graph.initializer) < 1024
    decoder = onnx.load(
        artifact.path / artifact.manifest.components["decoder"][0], load_external_data=False
    ).graph
    layers = model.vlm.text.layers
    kinds = [node.op_type for node in decoder.node]
    assert kinds.count("GroupQueryAttention") == layers
    assert kinds.count("SkipSimplifiedLayerNormalization") == 2 * layers
    assert kinds.count("MatMulNBits") == (4 * layers + 1 if recipe in ("int8", "int4") else 0)


def test_inputs_and_outputs_have_the_names_and_axes_that_clients_know(tmp_path: Path) -> None:
    artifact = tiny_artifact(tiny_model(hf_model("grouped heads")), "onnx", "int4", tmp_path)
    session = ort.InferenceSession(artifact.path / "decoder_model_merged.onnx")
    inputs = {value.name: value.shape for value in session.get_inputs()}
    assert inputs["inputs_embeds"] == ["batch_size", "sequence_length", 64]
    assert inputs["attention_mask"] == ["batch_size", "total_sequence_length"]
    assert inputs["past_key_values.0.key"] == ["batch_size", 2, "past_sequence_length", 16]
    assert inputs["num_logits_to_keep"] == []
    outputs = {value.name: value.shape for value in session.get_outputs()}
    assert outputs["logits"] == ["batch_size", "num_logits", 400]
    assert outputs["present.2.value"] == ["batch_size", 2, "total_sequence_length", 16]
