"""Values that a stored type cannot hold are refused by name, the same for every target."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from export.__main__ import main
from export.arrays import FloatArray
from export.checkpoint.folder import values
from export.errors import UserError
from export.families.spec import Source
from export.gguf.arrange import Piece
from export.gguf.packing import F16, SCALES, Planned, packed
from export.modeling.tensors import Shape
from export.quantize.recipe import RECIPES
from export.quantize.rounding import Rounding
from export.quantize.simulate import rounded
from tests.export.checkpoints import CONFIG, make, save_tensors, tensors

WEIGHTS = "model.safetensors"
UP = "model.text_model.layers.0.mlp.up_proj.weight"
EMBEDDING = "model.text_model.embed_tokens.weight"
REMEDY = "check the checkpoint, or export with --recipe fp32"
VALUE, SCALE = "does not fit", "needs a block's scale that does not fit"
# Recipe, target, tensor, its largest value -> what is said of it; None: it fits.
STORED = {
    "fp16 onnx": ("fp16", "onnx", UP, 1e5, VALUE),
    "fp16 gguf": ("fp16", "gguf", UP, 1e5, VALUE),
    "fp16 onnx, for a GPU": ("fp16", "onnx --layout cuda", UP, -1e5, VALUE),
    "fp16 onnx, the largest": ("fp16", "onnx", UP, 65504.0, None),
    "fp16 gguf, the largest": ("fp16", "gguf", UP, -65504.0, None),
    "int8 onnx": ("int8", "onnx", EMBEDDING, 9e6, SCALE),
    "int8 gguf": ("int8", "gguf", EMBEDDING, 9e6, SCALE),
    "int8 onnx, scales of rows": ("int8", "onnx", UP, 9e6, None),
    "int8 gguf, what a scale holds": ("int8", "gguf", UP, 8e6, None),
    "int8 onnx, for a GPU": ("int8", "onnx --layout cuda", UP, 9e6, SCALE),
    "int4 onnx": ("int4", "onnx", EMBEDDING, 9e6, SCALE),
    "int4 gguf": ("int4", "gguf", UP, 9e6, SCALE),
    "int4 onnx, for a GPU": ("int4", "onnx --layout cuda", UP, 9e6, SCALE),
    "int4 onnx, beyond float32": ("int4", "onnx", UP, 1e30, SCALE),
    "q4_k_m": ("q4_k_m", "gguf", UP, 3e8, SCALE),
    "q4_k_m, what a scale holds": ("q4_k_m", "gguf", UP, 1e5, None),
    "iq4_nl": ("iq4_nl", "gguf", UP, 1e8, SCALE),
    "fp32 onnx": ("fp32", "onnx", UP, 3e38, None),
    "fp32 gguf": ("fp32", "gguf", UP, -3e38, None),
}


def checkpoint(folder: Path, name: str, value: float) -> Path:
    """One value of the tensor is `value`; rows are 32 wide, a whole block."""
    make(folder)
    made = tensors(CONFIG)
    made[name][3, 5] = value
    save_tensors(folder / WEIGHTS, made)
    return folder


@pytest.mark.parametrize("case", STORED)
def test_a_value_is_held_or_refused(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, target, name, value, said = STORED[case]
    folder, out = checkpoint(tmp_path / "model", name, value), tmp_path / "out"
    options = f"--recipe {recipe} --target {target} --no-verify --out {out}".split()
    status = main([str(folder), *options])
    errors = capsys.readouterr().err.strip().splitlines()
    assert status == (2 if said else 0), errors
    if said is None:
        return
    ours = {UP: "blk.0.ffn_up.weight", EMBEDDING: "token_embd.weight"}[name]
    line = errors[-1]
    assert f"{ours}: a value of magnitude {np.float32(abs(value))} {said} float" in line
    assert re.search(r"\(at most (65504|3\.40282e\+38)\)", line)
    assert line.endswith(REMEDY)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(("rounding", "status"), [("search", 2), ("nearest", 0)])
def test_the_scale_that_is_stored_decides(rounding: str, status: int, tmp_path: Path) -> None:
    """A searched scale may exceed the largest value / 8."""
    folder, made = make(tmp_path / "model"), tensors(CONFIG)
    random = np.random.default_rng(0).uniform(-1, 1, made[UP].shape)
    made[UP] = (random * 8 * 65504).astype(np.float32)
    save_tensors(folder / WEIGHTS, made)
    options = f"--recipe int4 --rounding {rounding} --target gguf --no-verify".split()
    assert main([str(folder), *options, "--out", str(tmp_path / "out")]) == status


def test_a_map_times_its_scale_beyond_float32_is_refused() -> None:
    stored = {"map": np.full((2, 2), 1e30, np.float32), "scale": np.full(2, 1e30, np.float32)}
    with pytest.raises(UserError, match="map times scale exceeds float32"):
        values(
            Source("map", row_scale="scale"), (2, 2), lambda name, start, stop: stored[name].copy()
        )


def test_a_simulated_rounding_refuses_what_the_export_would() -> None:
    storage = RECIPES["fp16"].storage("blk.0.ffn_up.weight", (2, 2))
    with pytest.raises(UserError, match="does not fit float16"):
        rounded("blk.0.ffn_up.weight", np.full((2, 2), 1e5, np.float32), storage, Rounding())


class Grown:
    """Weights of one random matrix, multiplied by a power of ten."""

    synthetic, origin = False, dict[str, Any]()
    matrix = np.random.default_rng(0).normal(0, 0.25, (8, 256)).astype(np.float32)

    def __init__(self, power: int) -> None:
        self._values = self.matrix * np.float32(10.0**power)

    def shapes(self) -> dict[str, Shape]:
        return {"a.weight": self._values.shape}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        return self._values[start:stop]


POWERS = (0, 4, 5, 6, 7, 8, 9, 12, 16, 18, 19, 20, 25, 30, 37)


@pytest.mark.parametrize("kind", [F16, *SCALES], ids=lambda kind: kind.name)
def test_every_type_of_gguf_holds_a_matrix_or_refuses_it(kind: GGMLQuantizationType) -> None:
    held = []
    for power in POWERS:
        weights = Grown(power)
        tensor = Planned(Piece("a.weight", (8, 256), "a.weight", (8, 256)), kind, "search")
        try:
            found = np.concatenate(list(packed(weights, tensor)))
        except UserError:
            continue
        held.append(power)
        values = quants.dequantize(found, kind).astype(np.float64) / 10.0**power
        error = np.linalg.norm(values - weights.matrix) / np.linalg.norm(weights.matrix)
        assert error < 0.1, (kind.name, power)
    assert held == list(POWERS[: len(held)])
    assert held[-1] < 9
