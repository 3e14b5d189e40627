"""What is predicted is what is written, byte for byte or within the target's stated error; memory
follows the stated parts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import CASES, GEMMA3_CASES, hf_model, tiny_model

from export.checkpoint.registry import open_model
from export.footprint import Footprint, footprint
from export.memory import RequestSize, full_context
from export.model import Model
from export.quantize.recipe import RECIPES, Recipe, Rule, Storage
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.session.backend import context_length

ONE_IMAGE = RequestSize(tiles=1, positions=64, context=128)
# What no recipe of the table does: other blocks, and one product over weights of different bits.
ODD = {
    "blocks of 16": Recipe("blocks of 16", (Rule("*", Storage(4, block=16)),)),
    "mixed": Recipe("mixed", (Rule("*attn_q*", Storage(8)), Rule("*", Storage(4)))),
}


class Unread:
    """Weights that cannot be read: a prediction needs their shapes alone."""

    synthetic = True
    origin: Mapping[str, object] = {}

    def __init__(self, model: Model) -> None:
        self.shapes = model.weights.shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> None:
        raise AssertionError(f"{name} was read")


# Those of an extra are written, and compared with their prediction, by tests of their own.
WRITTEN = [name for name, target in TARGETS.items() if target.extra is None]
# Of SmolVLM, which onnxruntime-genai does not know.
LAYOUTS = [
    (name, layout) for name in WRITTEN for layout in TARGETS[name].layouts if layout != "genai"
]


def predicted(
    model: Model,
    recipe: str,
    target: str,
    request: RequestSize = ONE_IMAGE,
    layout: str = "native",
) -> Footprint:
    unread = replace(model, weights=Unread(model))
    return footprint(unread, (RECIPES | ODD)[recipe], TARGETS[target], request, layout)


def written(
    model: Model, recipe: str, target: str, folder: Path, layout: str = "native"
) -> dict[str, int]:
    asked = (RECIPES | ODD)[recipe]
    TARGETS[target].write(model, asked, folder, layout)
    for name, content in TARGETS[target].client_files(model, asked, layout).items():
        (folder / name).write_bytes(content)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def assert_as_written(
    found: Mapping[str, int] | None, on_disk: Mapping[str, int], error: float | None
) -> None:
    """Fails if sizes differ from those on disk; with an `error`, if their sum is off by more."""
    assert found is not None
    if error is None:
        assert found == on_disk
    else:
        assert found.keys() == on_disk.keys()
        assert sum(found.values()) == pytest.approx(sum(on_disk.values()), rel=error)


@pytest.mark.parametrize(("target", "layout"), LAYOUTS)
@pytest.mark.parametrize("recipe", [*RECIPES, *ODD])
@pytest.mark.parametrize("case", CASES)
def test_predicted_bytes_are_those_on_disk(
    case: str, recipe: str, target: str, layout: str, tmp_path: Path
) -> None:
    model = tiny_model(hf_model(case))
    found = predicted(model, recipe, target, layout=layout).files
    on_disk = written(model, recipe, target, tmp_path, layout)
    assert_as_written(found, on_disk, TARGETS[target].size_error.get(layout))


@pytest.mark.parametrize("layout", TARGETS["onnx"].layouts)
@pytest.mark.parametrize("recipe", [*RECIPES, *ODD])
@pytest.mark.parametrize("case", GEMMA3_CASES)
def test_predicted_bytes_of_a_tied_head_are_those_on_disk(
    case: str, recipe: str, layout: str, tmp_path: Path
) -> None:
    model = tiny_model(hf_model(case))
    found = predicted(model, recipe, "onnx", layout=layout).files
    on_disk = written(model, recipe, "onnx", tmp_path, layout)
    assert_as_written(found, on_disk, TARGETS["onnx"].size_error.get(layout))


@pytest.mark.parametrize("weights", ["synthetic", None])
@pytest.mark.parametrize("target", WRITTEN)
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_bundled_model_is_predicted_with_its_tokenizer(
    recipe: str, target: str, weights: str | None, tmp_path: Path
) -> None:
    model = open_model("tiny-smolvlm", weights=weights)
    found = predicted(model, recipe, target)
    sizes = written(model, recipe, target, tmp_path)
    assert found.files == sizes
    assert found.disk_bytes == sum(sizes.values())


@pytest.mark.parametrize("target", [n for n, row in TARGETS.items() if row.memory])
def test_a_target_and_its_runtime_agree_on_the_size_of_a_cache_value(target: str) -> None:
    memory = TARGETS[target].memory
    assert memory is not None
    runtime = RUNTIMES[memory.runtime]
    assert memory.cache_value_bytes == runtime.cache_value_bytes
    assert runtime.opens(target)


# smolvlm-256m: 30 layers of 3 kv heads of 64, keys and values.
@pytest.mark.parametrize(("target", "value_bytes"), [("onnx", 4), ("gguf", 2), ("executorch", 4)])
def test_the_cache_of_a_position_is_that_of_the_geometry(target: str, value_bytes: int) -> None:
    model = open_model("smolvlm-256m", weights="synthetic")
    found = predicted(model, "int4", target)
    assert found.kv_bytes_per_token == 2 * 30 * 3 * 64 * value_bytes


@pytest.mark.parametrize("target", [n for n, row in TARGETS.items() if row.memory])
@pytest.mark.parametrize(
    ("less", "more"),
    [
        (RequestSize(0, 64, 4096), RequestSize(13, 1000, 4096)),
        (RequestSize(1, 1000, 4096), RequestSize(13, 1000, 4096)),
    ],
)
def test_peak_memory_grows_with_the_work(target: str, less: RequestSize, more: RequestSize) -> None:
    model = open_model("smolvlm-256m", weights="synthetic")
    peaks = [predicted(model, "int8", target, request).peak_bytes for request in (less, more)]
    assert peaks[0] < peaks[1]


@pytest.mark.parametrize("target", [n for n, row in TARGETS.items() if row.memory])
def test_a_longer_context_takes_memory_unless_its_cache_was_planned(target: str) -> None:
    model = open_model("smolvlm-256m", weights="synthetic")
    requests = (RequestSize(1, 200, 1024), RequestSize(1, 4000, 4096))
    peaks = [predicted(model, "int8", target, request).peak_bytes for request in requests]
    assert peaks[0] == peaks[1] if target == "executorch" else peaks[0] < peaks[1]


# Measured as docs/notes/2026-11-peak-memory.md says: tiles, positions, MB.
MEASURED = [
    ("smolvlm-256m", "onnx", "int4", 13, 897, 587),
    ("smolvlm-256m", "onnx", "int8", 13, 897, 642),
    ("smolvlm-256m", "gguf", "int4", 13, 913, 569.8),
    ("smolvlm-256m", "gguf", "int8", 13, 913, 624.9),
    ("smolvlm-256m", "onnx", "int4", 0, 2032, 468),
    ("smolvlm-256m", "onnx", "int8", 0, 2032, 526),
    ("smolvlm-256m", "gguf", "int4", 0, 2032, 430.1),
    ("smolvlm-256m", "gguf", "int8", 0, 2032, 483.8),
    ("smolvlm-500m", "onnx", "int4", 13, 897, 868),
    ("smolvlm-500m", "onnx", "int8", 13, 897, 1027),
    ("smolvlm-500m", "gguf", "int4", 13, 913, 914.2),
    ("smolvlm-500m", "gguf", "int8", 13, 913, 966.6),
    ("smolvlm-2.2b", "onnx", "int4", 0, 40, 2367),
    ("smolvlm-2.2b", "onnx", "int8", 0, 40, 3207),
    ("smolvlm-2.2b", "onnx", "int4", 13, 1218, 2923),
    ("smolvlm-2.2b", "onnx", "int8", 13, 1218, 3717),
    ("qwen2.5-vl-3b", "onnx", "int4", 1, 456, 3942),
    ("qwen2.5-vl-3b", "onnx", "int8", 1, 456, 5556),
    ("gemma-3-4b", "onnx", "int4", 1, 312, 4612),
    ("gemma-3-4b", "onnx", "int8", 1, 312, 6874),
    ("moondream-2b", "onnx", "int4", 9, 783, 2549),
    ("moondream-2b", "onnx", "int8", 9, 783, 3137),
    ("gemma-3-270m", "onnx", "int4", 0, 512, 516.3),
    ("gemma-3-270m", "onnx", "int8", 0, 512, 686.0),
    ("gemma-3-270m", "onnx", "int8", 0, 1040, 710),
    ("gemma-3-270m", "onnx", "int4", 0, 1040, 541),
    ("moondream-0.5b", "onnx", "int4", 9, 767, 1056),
    ("moondream-0.5b", "onnx", "int4", 0, 2016, 1245),
    ("moondream-0.5b", "onnx", "int8", 0, 2016, 1415),
    ("smolvlm-256m", "executorch", "int4", 1, 150, 877),
    ("smolvlm-256m", "executorch", "int8", 1, 150, 978),
    ("smolvlm-500m", "executorch", "int4", 1, 150, 1195),
    ("smolvlm-500m", "executorch", "int8", 1, 150, 1397),
    ("smolvlm-500m", "executorch", "int4", 0, 1508, 1146),
    ("moondream-0.5b", "executorch", "int4", 1, 815, 1360),
    ("moondream-0.5b", "executorch", "int8", 1, 815, 1613),
    ("gemma-3-270m", "executorch", "int8", 0, 520, 1217),
    ("gemma-3-270m", "executorch", "int8", 0, 1508, 1217),
    ("tiny-gemma3", "executorch", "int8", 1, 41, 418),
    ("tiny-moondream", "executorch", "int8", 10, 91, 414),
    ("tiny-qwen2.5-vl", "executorch", "int8", 1, 91, 415),
    ("tiny-smolvlm", "executorch", "int8", 1, 43, 414),
    ("tiny-smolvlm", "onnx", "int4", 1, 66, 103.8),
    ("tiny-smolvlm", "gguf", "int4", 1, 66, 91.2),
]


@pytest.mark.parametrize(("name", "target", "recipe", "tiles", "positions", "megabytes"), MEASURED)
def test_predicted_peak_is_within_5_per_cent_of_measured(
    name: str, target: str, recipe: str, tiles: int, positions: int, megabytes: float
) -> None:
    model = open_model(name, weights="synthetic")
    request = RequestSize(tiles, positions, context_length(model.vlm))
    peak = predicted(model, recipe, target, request).peak_bytes
    assert peak == pytest.approx(megabytes * 1e6, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "context", "tiles"),
    [
        ({}, 4096, 17),  # 2048 / 512 squared, and the overview
        ({"split": False}, 4096, 1),
        ({"max_tiles": 5}, 4096, 5),
        ({"longest_edge": 512}, 4096, 1),
        ({}, 640, 10),  # as many of 64 positions as there is room for
    ],
)
def test_the_largest_request_of_a_context_has_the_most_tiles(
    changes: dict[str, int], context: int, tiles: int
) -> None:
    model = open_model("smolvlm-256m", weights="synthetic")
    image = replace(model.image, **changes)
    assert full_context(model.vlm, image, context) == RequestSize(tiles, context, context)
