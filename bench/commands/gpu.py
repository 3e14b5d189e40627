"""`bench gpu`: latency of models of real size on one NVIDIA GPU, with random weights.

Exports what is missing, several at once, measures a text prompt (also in llama.cpp's bare loop and,
at 4 bits, without CUDA graphs) and an image prompt, and writes the records and their report to
build/cuda/. A folder in memory (--folder /dev/shm/…) spares the disk. results/cuda/ has the figures
of an H200.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from export.artifact import MANIFEST
from export.checkpoint.registry import open_model
from export.targets import folder_name

MODELS = ("smolvlm-256m", "moondream-2b", "qwen2.5-vl-3b", "gemma-3-4b")
RECIPES = ("fp16", "int4")
TEXT = ("--prompt", "text", "--prefill-tokens", "512")


@dataclass(frozen=True)
class GpuFormat:
    """What is exported for a GPU, and the runtimes that measure it."""

    layout: str
    with_images: tuple[str, ...]
    text_only: tuple[str, ...]
    without_graphs: str
    """Without CUDA graphs; at 4 bits, where a step is short and they matter most."""


FORMATS: Mapping[str, GpuFormat] = {
    "gguf": GpuFormat(
        "native", ("llama_cpp",), ("llama_cpp", "llama_bench"), "llama_cpp_no_graphs"
    ),
    "onnx": GpuFormat("cuda", ("onnxruntime",), ("onnxruntime",), "onnxruntime_no_graphs"),
}


def exported(models: Sequence[str], recipes: Sequence[str], target: str, build: Path) -> list[Path]:
    """Folders of the artifacts. Exports missing ones, all at once; leaves out what failed."""
    layout, folders = FORMATS[target].layout, list[Path]()
    running: dict[Path, subprocess.Popen[bytes]] = {}
    for model, recipe in product(models, recipes):
        folder = build / model / folder_name(target, recipe, layout)
        folders.append(folder)
        if not (folder / MANIFEST).exists():
            words = [model, "--target", target, "--recipe", recipe, "--layout", layout]
            words += ["--weights", "synthetic", "--no-verify", "--out", str(folder)]
            words += _one_tile(model, target)
            command = [sys.executable, "-m", "export", *words]
            running[folder] = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    failed = [folder for folder, process in running.items() if process.wait()]
    for folder in failed:
        sys.stderr.write(f"not exported, see above: {folder}\n")
    return [folder for folder in folders if folder not in failed]


def _one_tile(model: str, target: str) -> list[str]:
    """The option for models whose crops llama.cpp's own tower, alone on a GPU, cannot take."""
    vision = open_model(model, weights="synthetic").vlm.vision
    crops = vision is not None and vision.crops is not None
    return ["--max-tiles", "1"] if crops and FORMATS[target].layout == "native" else []


def measured(folders: Sequence[Path], target: str, device: str, rounds: int, run: Path) -> int:
    """Measure both prompts of every artifact. Returns the highest exit code of `bench run`."""
    kind = FORMATS[target]
    common = ["--task", "latency", "--device", device, "-o", str(run)]
    common += ["--rounds", str(rounds), "--decode-tokens", "64", "--repeats", "4"]
    of_4_bits = [folder for folder in folders if "int4" in folder.name]
    jobs = (
        (folders, kind.text_only, TEXT),
        (of_4_bits, (kind.without_graphs,), TEXT),
        (folders, kind.with_images, ()),
    )
    codes = [0]
    for chosen, runtimes, prompt in jobs:
        if chosen:
            named = [word for name in runtimes for word in ("--runtime", name)]
            codes.append(_bench("run", *map(str, chosen), *common, *prompt, *named))
    return max(codes)


def run(arguments: argparse.Namespace) -> int:
    """Export, measure, report; 1 where a job failed, 2 where nothing could be exported."""
    models, recipes = arguments.models or MODELS, arguments.recipe or RECIPES
    target: str = arguments.target
    output: Path = arguments.output or Path("build/cuda") / f"{target}.jsonl"
    folders = exported(models, recipes, target, arguments.folder)
    if not folders:
        return 2
    code = measured(folders, target, arguments.device, arguments.rounds, output)
    return max(code, _bench("report", str(output), "-o", str(output.with_suffix(".md"))))


def _bench(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "bench", *words], check=False).returncode
