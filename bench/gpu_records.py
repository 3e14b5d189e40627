"""Records of real sizes on one GPU: exports with random weights, then latency of each artifact.

`python -m bench.gpu_records smolvlm-256m moondream-2b --target gguf` exports side by side whatever
is missing, measures a text prompt (beside llama.cpp in a bare loop; at 4 bits without CUDA graphs,
too) and an image, and writes build/cuda/gguf.jsonl with its report. A folder in memory (--folder
/dev/shm/…) spares the disk. results/cuda/ has what an H200 said. NOT aware of how anything is
exported or measured.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bench.cli import main as bench
from export.arguments import Parser, whole
from export.artifact import MANIFEST
from export.checkpoint.registry import open_model
from export.targets import folder_name

MODELS = ("smolvlm-256m", "moondream-2b", "qwen2.5-vl-3b", "gemma-3-4b")
RECIPES = ("fp16", "int4")
TEXT = ("--prompt", "text", "--prefill-tokens", "512")


@dataclass(frozen=True)
class Kind:
    """What is made for a GPU, which runtimes take images or text alone of it, and which one does
    without CUDA graphs: at 4 bits, where a step is short and they matter most."""

    layout: str
    seeing: tuple[str, ...]
    reading: tuple[str, ...]
    without_graphs: str


KINDS: Mapping[str, Kind] = {
    "gguf": Kind("native", ("llama_cpp",), ("llama_cpp", "llama_bench"), "llama_cpp_no_graphs"),
    "onnx": Kind("cuda", ("onnxruntime",), ("onnxruntime",), "onnxruntime_no_graphs"),
}


def exported(models: Sequence[str], recipes: Sequence[str], target: str, build: Path) -> list[Path]:
    """The artifacts' folders; those that are not there are made, all at once."""
    layout, running, places = KINDS[target].layout, {}, []
    for model, recipe in product(models, recipes):
        place = build / model / folder_name(target, recipe, layout)
        places.append(place)
        if not (place / MANIFEST).exists():
            words = [model, "--target", target, "--recipe", recipe, "--layout", layout]
            words += ["--weights", "synthetic", "--no-verify", "--out", str(place)]
            words += _one_tile(model, target)
            command = [sys.executable, "-m", "export", *words]
            running[place] = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    failed = [place for place, process in running.items() if process.wait()]
    for place in failed:
        print(f"not exported, see above: {place}", file=sys.stderr)
    return [place for place in places if place not in failed]


def _one_tile(model: str, target: str) -> list[str]:
    """Where llama.cpp's own tower, alone on a GPU, sees whole images and no crops of them."""
    vision = open_model(model, weights="synthetic").vlm.vision
    crops = vision is not None and vision.crops is not None
    return ["--max-tiles", "1"] if crops and KINDS[target].layout == "native" else []


def measured(places: Sequence[Path], target: str, device: str, rounds: int, run: Path) -> int:
    """Both prompts of every artifact; 1 where a job failed."""
    kind = KINDS[target]
    common = ["--task", "latency", "--device", device, "-o", str(run)]
    common += ["--rounds", str(rounds), "--decode-tokens", "64", "--repeats", "4"]
    of_4_bits = [place for place in places if "int4" in place.name]
    jobs = (
        (places, kind.reading, TEXT),
        (of_4_bits, (kind.without_graphs,), TEXT),
        (places, kind.seeing, ()),
    )
    codes = [0]
    for chosen, runtimes, prompt in jobs:
        if chosen:
            named = [word for name in runtimes for word in ("--runtime", name)]
            codes.append(bench(["run", *map(str, chosen), *common, *prompt, *named]))
    return max(codes)


def main(argv: Sequence[str] | None = None) -> int:
    """Export, measure, report."""
    parser = Parser(prog="python -m bench.gpu_records", description=__doc__)
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL", help=f"default: {', '.join(MODELS)}")
    add("--target", choices=KINDS, default="gguf", help="default: gguf")
    add("--recipe", action="append", choices=RECIPES, help="repeatable; default: both")
    add("--device", default="cuda", metavar="NAME", help="cuda or cuda:N")
    add("--rounds", type=whole, default=1, metavar="N", help="processes for each job (default 1)")
    add("--folder", type=Path, default=Path("build"), metavar="DIR", help="of the artifacts")
    add("-o", "--output", type=Path, metavar="RUN.jsonl", help="default: build/cuda/TARGET.jsonl")
    arguments = parser.parse_args(argv)
    models, recipes = arguments.models or MODELS, arguments.recipe or RECIPES
    run = arguments.output or Path("build/cuda") / f"{arguments.target}.jsonl"
    places = exported(models, recipes, arguments.target, arguments.folder)
    if not places:
        return 2
    code = measured(places, arguments.target, arguments.device, arguments.rounds, run)
    told = bench(["report", str(run), "-o", str(run.with_suffix(".md"))])
    return max(code, told)


if __name__ == "__main__":
    sys.exit(main())
