"""`bench gpu`: measures the latency of full-size models with random weights on an NVIDIA GPU.

It exports the models that are not exported yet, several at once. Then it measures a text prompt and
an image prompt, the text prompt also in llama.cpp's bare loop and, at 4 bits, without CUDA graphs.
Records and their report are written to build/cuda/. A folder in memory (--folder /dev/shm/…) spares
the disk. results/cuda/ has the figures of an H200.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bench.jobs.exports import is_of
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.targets import folder_name
from runtimes import RUNTIMES

MODELS = ("smolvlm-256m", "moondream-2b", "qwen2.5-vl-3b", "gemma-3-4b")
RECIPES = ("fp16", "int4")
TEXT = ("--prompt", "text", "--prefill-tokens", "512")


@dataclass(frozen=True)
class GpuFormat:
    """How `bench gpu` measures one export format: the layout, and the names of runtimes.

    `with_images` are the runtimes for the image prompt, `text_only` those for the text prompt.
    """

    layout: str
    with_images: tuple[str, ...]
    text_only: tuple[str, ...]
    without_graphs: str
    """The runtime without CUDA graphs. It measures only 4 bits, where steps are short and graphs
    matter most."""


FORMATS: Mapping[str, GpuFormat] = {
    "gguf": GpuFormat(
        "native", ("llama_cpp",), ("llama_cpp", "llama_bench"), "llama_cpp_no_graphs"
    ),
    "onnx": GpuFormat("cuda", ("onnxruntime",), ("onnxruntime",), "onnxruntime_no_graphs"),
}


def exported(models: Sequence[str], recipes: Sequence[str], target: str, build: Path) -> list[Path]:
    """Return a folder in `build` for each model and recipe; export the missing ones, all at once.

    An artifact of another model in such a folder is replaced. Failed exports are reported on stderr
    and left out.
    """
    layout, folders = FORMATS[target].layout, list[Path]()
    running: dict[Path, subprocess.Popen[bytes]] = {}
    opened = {model: open_model(model, weights="synthetic") for model in models}
    for model, recipe in product(models, recipes):
        folder = build / model / folder_name(target, recipe, layout)
        folders.append(folder)
        if not is_of(folder, opened[model]):
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
    """Return the export option --max-tiles 1 for a model that cuts images into crops; else [].

    It is needed for GGUF: on a GPU llama.cpp encodes images itself, and cannot encode crops.
    """
    vision = open_model(model, weights="synthetic").vlm.vision
    crops = vision is not None and vision.crops is not None
    return ["--max-tiles", "1"] if crops and FORMATS[target].layout == "native" else []


def measured(folders: Sequence[Path], target: str, device: str, rounds: int, run: Path) -> int:
    """Measure the text prompt and the image prompt of every artifact with `bench run`.

    Appends the records to the file `run`. Returns the highest exit code of `bench run`.
    """
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
    """Exports the models, measures them with `bench run` and writes a report.

    Returns the exit code: 0; 1 if a job failed; 2 if nothing could be exported, or if `bench run`
    or `bench report` ended with a user's error. Raises UserError, before the first export, if the
    device cannot be used here.
    """
    models, recipes = arguments.models or MODELS, arguments.recipe or RECIPES
    target: str = arguments.target
    _expect_device(FORMATS[target], arguments.device)
    output: Path = arguments.output or Path("build/cuda") / f"{target}.jsonl"
    folders = exported(models, recipes, target, arguments.folder)
    if not folders:
        return 2
    code = measured(folders, target, arguments.device, arguments.rounds, output)
    return max(code, _bench("report", str(output), "-o", str(output.with_suffix(".md"))))


def _expect_device(kind: GpuFormat, device: str) -> None:
    reasons = [RUNTIMES[name].unavailable(kind.layout, device) for name in kind.with_images]
    if all(reasons):
        raise UserError(f"--device {device}: {reasons[0]}")


def _bench(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "bench", *words], check=False).returncode
