"""An export's files depend on the checkpoint and the options alone, not on where it is made."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from export.checkpoint.registry import data_root
from export.files import sha256_of
from export.manifest import MANIFEST
from export.modeling.rotary import Rope, frequencies, rotary_tables

TARGETS = ("onnx", "gguf")
EXPORTS = {
    **{target: ["--target", target] for target in TARGETS},
    "ort": ["--target", "onnx", "--layout", "ort"],
}
PROGRAM = """
import json, os, sys
os.umask(int(sys.argv[1], 8))
from export.__main__ import main
for out, more in json.loads(sys.argv[3]).items():
    words = ["--recipe", "int4", "--no-verify", "--out", out]
    assert main([sys.argv[2], *more, *words]) == 0
"""


@dataclass(frozen=True)
class Place:
    """What a machine, a shell or a user's habits may have otherwise.

    `without`: dispatched features of the CPU that numpy must not use.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    umask: str = "022"


def dispatched() -> frozenset[str]:
    """The features that numpy uses on this CPU beyond those that it needs."""
    features = np._core._multiarray_umath.__cpu_features__
    return frozenset(
        name for name in np._core._multiarray_umath.__cpu_dispatch__ if features.get(name)
    )


WIDE = frozenset(name for name in dispatched() if "512" in name or name in ("X86_V4", "SVE"))

PLACES = {
    "here": Place(),
    "an old CPU": Place(
        {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Prescott"}, dispatched()
    ),
    "a CPU with AVX2": Place({"ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell"}, WIDE),
    "another shell": Place(
        {
            **dict.fromkeys(("LC_ALL", "LANG"), "C"),
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "3"),
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONHASHSEED": "1",
            "TZ": "Asia/Seoul",
        },
        umask="077",
    ),
}


def exported(place: Place, folder: Path) -> dict[str, str]:
    """Exports a copy of the checkpoint in a folder of its own; returns path -> SHA-256."""
    shutil.copytree(data_root() / "models" / "tiny-smolvlm", folder / "tiny-smolvlm")
    variables = {**os.environ, "PYTHONPATH": str(data_root()), "PYTHONHASHSEED": "0"}
    variables["NPY_DISABLE_CPU_FEATURES"] = " ".join(sorted(place.without))
    subprocess.run(
        [sys.executable, "-c", PROGRAM, place.umask, "./tiny-smolvlm", json.dumps(EXPORTS)],
        cwd=folder,
        env={**variables, **place.variables},
        capture_output=True,
        check=True,
    )
    paths = [path for name in EXPORTS for path in (folder / name).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("here")
    return folder, exported(PLACES["here"], folder)


@pytest.mark.parametrize("case", [name for name in PLACES if name != "here"])
def test_two_places_make_the_same_bytes(
    case: str, here: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    assert exported(PLACES[case], tmp_path) == here[1]


@pytest.mark.parametrize("target", TARGETS)
def test_artifact_json_has_the_versions_of_what_took_part(
    target: str, here: tuple[Path, dict[str, str]]
) -> None:
    tools = json.loads((here[0] / target / MANIFEST).read_text())["tools"]
    used = {"numpy", "onnx", "onnx-ir", "tokenizers"} | ({"gguf"} if target == "gguf" else set())
    assert used <= tools.keys() <= used | {"python", "pocket-vlm"}
    assert {name: metadata.version(name) for name in used} == {n: tools[n] for n in used}
    assert tools["python"] == platform.python_version()


def test_rotary_tables_are_cosines_and_sines_rounded_once() -> None:
    rope = Rope(1e4, 64)
    angle = np.arange(1 << 15, dtype=np.float32)[:, None] * frequencies(rope)
    exact = angle.astype(np.float64)
    cos, sin = rotary_tables(rope, 1 << 15)
    # numpy's float64 is right but for its last bit, which decides one rounding in 2^28.
    assert np.count_nonzero(cos != np.cos(exact).astype(np.float32)) <= 1
    assert np.count_nonzero(sin != np.sin(exact).astype(np.float32)) <= 1
    assert rotary_tables(rope, 1500)[0].tobytes() == cos[:1500].tobytes()
