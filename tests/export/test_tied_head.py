"""A table that is both embedding and head is on disk once, and the graphs compute the same."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tiny_models import hf_model, tiny_model

from export.manifest import Quantization
from export.model import Model
from export.onnx.data import PAGE
from export.onnx.graph import graphs_of
from export.onnx.layouts import LAYOUTS
from export.onnx.write import sizes, write_graphs
from export.quantize.recipe import RECIPES

CASES = ("named layer types", "windows of 2 x 2 squares", "text alone")
TABLE, DECODER = "embed_tokens.onnx_data", "decoder_model_merged.onnx_data"


@pytest.fixture(scope="module", params=CASES)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(hf_model(request.param))


def table_bytes(model: Model, recipe: str) -> int:
    """Of [vocab, hidden] weights: bits, and a float16 scale for each block of a quantized row."""
    text, storage = model.vlm.text, RECIPES[recipe].storage("token_embd.weight", (2, 2))
    scales = 2 * math.ceil(text.hidden / storage.block) if storage.quantized else 0
    return text.vocab * (text.hidden * storage.bits // 8 + scales)


def written(model: Model, recipe: str, folder: Path, own_weights: bool = False) -> Quantization:
    folder.mkdir()
    layout = replace(LAYOUTS["native"], own_weights=own_weights)
    made = write_graphs(model, RECIPES[recipe], folder, graphs_of(model.vlm), layout)
    return made.quantization


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_tied_heads_bytes_are_written_and_counted_once(
    model: Model, recipe: str, tmp_path: Path
) -> None:
    once, twice = (
        written(model, recipe, tmp_path / "1"),
        written(model, recipe, tmp_path / "2", True),
    )
    table = table_bytes(model, recipe)
    found, expected = ((tmp_path / name / DECODER).stat().st_size for name in "12")
    assert 0 <= (tmp_path / "1" / TABLE).stat().st_size - table < PAGE
    assert table <= expected - found < table + 2 * PAGE
    predicted = sizes(model, RECIPES[recipe], "native")
    assert {path.name: path.stat().st_size for path in (tmp_path / "1").iterdir()} == predicted
    assert once.components["embedding"].weight_bytes == table
    assert twice.components["embedding"].weight_bytes == 2 * table
    parameters = sum(math.prod(shape) for shape in model.weights.shapes().values())
    for quantization in (once, twice):
        shares = quantization.components.values()
        assert sum(share.parameters for share in shares) == parameters
        assert sum(quantization.types.values()) == parameters


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_decoder_points_into_the_embeddings_file(
    model: Model, recipe: str, tmp_path: Path
) -> None:
    written(model, recipe, tmp_path / "1")
    found = [places(tmp_path / "1" / name) for name in ("embed_tokens", "decoder_model_merged")]
    assert found[0]
    assert {name: place for name, place in found[1].items() if place[0] == TABLE} == found[0]


def places(graph: Path) -> dict[str, tuple[str, str, str]]:
    """Initializers in other files: name -> file, offset and length."""
    opened = onnx.load(graph.with_suffix(".onnx"), load_external_data=False).graph
    facts = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in opened.initializer
    }
    keys = ("location", "offset", "length")
    return {name: tuple(fact[key] for key in keys) for name, fact in facts.items() if fact}


@pytest.mark.parametrize("recipe", RECIPES)
def test_logits_equal_those_of_an_untied_head(model: Model, recipe: str, tmp_path: Path) -> None:
    written(model, recipe, tmp_path / "1")
    written(model, recipe, tmp_path / "2", own_weights=True)
    once, own_weights = (logits(model, tmp_path / name) for name in "12")
    assert np.abs(once).max() > 0
    np.testing.assert_array_equal(once, own_weights)


def logits(model: Model, folder: Path) -> np.ndarray:
    """Of every position of a prompt of text, [positions, vocab]."""
    text, ids = model.vlm.text, np.arange(3, 23)[None]
    embed, decoder = (
        ort.InferenceSession(folder / f"{name}.onnx")
        for name in ("embed_tokens", "decoder_model_merged")
    )
    feed = {
        "inputs_embeds": embed.run(None, {"input_ids": ids})[0],
        "attention_mask": np.ones((1, 20), np.int64),
        "num_logits_to_keep": np.array(0),
        "image_numbers": np.zeros((1, 20), np.int64),
        "position_ids": np.tile(np.arange(20), (3, 1, 1)),
    }
    wanted = [value.name for value in decoder.get_inputs()]
    empty = np.zeros((1, text.kv_heads, 0, text.head_dim), np.float32)
    cache = {name: empty for name in wanted if name.startswith("past_")}
    found = decoder.run(["logits"], {n: v for n, v in (feed | cache).items() if n in wanted})
    return np.asarray(found[0][0])
