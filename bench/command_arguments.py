"""The arguments of the commands of `bench`, but for `bench run` (bench/run_arguments.py)."""

import argparse
from pathlib import Path
from typing import get_args

from bench.arguments import (
    JSON,
    OFFLINE,
    THREADS,
    TILES,
    WEIGHTS,
    add_count,
    add_names,
    add_runs,
    device,
    one_of,
    percentage,
    port,
    region,
)
from bench.commands import gpu
from bench.machine.profiles import PROFILES
from export.arguments import above_zero, whole
from export.checkpoint.registry import WeightsKind
from export.quantize.recipe import RECIPES
from export.targets import TARGETS
from runtimes import RUNTIMES

BASELINE = "results/baselines/footprint.json"
PEAKS = "results/baselines/peaks.json"
EXPORT_COSTS = "results/exports.jsonl"
PEER_RECIPES = ("fp32", "int4")


def list_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench list`."""
    command.add_argument("--json", action="store_true", help=JSON)


def report_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench report`."""
    add = command.add_argument
    add_runs(add, "+", "file of records that `bench run` wrote")
    file = (
        "write the report to this markdown file, and the same as an HTML page and figures next to "
        "it (default: print the markdown)"
    )
    add("-o", "--output", metavar="REPORT.md", help=file)
    budget = command.add_mutually_exclusive_group()
    limit = "recommend only artifacts whose measured peak memory is at most N MB (10^6 bytes)"
    budget.add_argument("--budget-mb", type=whole, metavar="N", help=limit)
    profile = (
        "recommend only artifacts whose measured peak memory fits into this device profile: "
        f"{', '.join(PROFILES)}"
    )
    check = one_of("profile", PROFILES)
    budget.add_argument("--profile", type=check, metavar="NAME", help=profile)
    readme = (
        "write a summary between the two result markers of this markdown file; without -o no "
        "report is printed"
    )
    add("--readme", metavar="README.md", help=readme)


def compare_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench compare`."""
    add = command.add_argument
    add("base", metavar="BASE.jsonl", help="file of records of the older run")
    newer = "file of records of the newer run on the same machine; exit code 1 if it is worse"
    add("new", metavar="NEW.jsonl", help=newer)
    tolerance = "ignore a change of time, memory or size by up to PERCENT (default 5)"
    add("--tolerance", type=percentage, default=5.0, metavar="PERCENT", help=tolerance)
    points = "ignore a change of accuracy by up to P percentage points (default 1)"
    add("--points", type=above_zero, default=1.0, metavar="P", help=points)
    add("--json", action="store_true", help=JSON)


def check_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench check`."""
    add = command.add_argument
    peaks = (
        "file of records of `bench run`, whose measured peak memory is also compared with the "
        "accepted peaks (default: compare only predictions)"
    )
    add_runs(add, "*", peaks)
    update = (
        "compare nothing; write the present predictions, and the peaks measured in RUN.jsonl, to "
        "the files of accepted ones"
    )
    add("--update", action="store_true", help=update)
    for flag, default, what in (
        ("--baseline", BASELINE, "file of accepted predictions of size and memory"),
        ("--peaks", PEAKS, "file of accepted measured peaks of memory"),
    ):
        add(flag, default=default, metavar="FILE", help=f"{what} (default: {default})")


def footprint_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench footprint`."""
    add = command.add_argument
    models = (
        "model to predict: name in models.yaml, or folder of a checkpoint (default: all of "
        "models.yaml)"
    )
    add("models", nargs="*", metavar="MODEL|DIR", help=models)
    target = "predict exports to this format (default: to all whose sizes can be predicted)"
    add_names(add, "target", TARGETS, target)
    add_names(
        add, "recipe", RECIPES, "predict exports with this recipe (default: with all recipes)"
    )
    context = (
        "predict the peak memory of a request of N tokens, prompt and answer together (default: "
        "4096, or the model's limit if that is lower)"
    )
    add_count(add, "context", None, context)
    objects = "print a JSON list with an object for each export instead of a table"
    add("--json", action="store_true", help=objects)


def ask_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench ask`."""
    add = command.add_argument
    asked = (
        "model to ask: folder of an artifact (an exported model), name in models.yaml, or folder "
        "of a checkpoint"
    )
    add("artifact", metavar="ARTIFACT", help=asked)
    image = "image file that the question is about; leave it out for a text-only model"
    add("image", nargs="?", metavar="IMAGE", help=image)
    question = "question to ask; with --task, for example, the name of the object to look for"
    add("question", nargs="?", default="", help=question)
    own = (
        "do this special task of the model, for example Moondream's detect (default: answer the "
        "question)"
    )
    add("--task", default="", metavar="NAME", help=own)
    fractions = (
        "point (X,Y) or box (X,Y,X,Y: two corners) that the --task is about, in fractions of the "
        "image's width and height from 0 to 1"
    )
    add("--place", type=region, default=(), metavar="X,Y[,X,Y]", help=fractions)
    first = "run the model in this runtime (default: the first usable one that can open it)"
    add("--runtime", type=one_of("runtime", RUNTIMES), metavar="NAME", help=first)
    add_count(add, "max-tokens", 64, "end the answer after at most N tokens (default 64)")
    add_count(add, "max-tiles", None, TILES)
    add_count(add, "threads", None, THREADS)
    add("--offline", action="store_true", help=OFFLINE)
    last = "print the answer, its timings and the peak memory as a last line of JSON"
    add("--json", action="store_true", help=last)


def peaks_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench peaks`."""
    what = "file of records of `bench run --task latency`, to compare the predictions with"
    add_runs(command.add_argument, "+", what)


def overhead_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench overhead`."""
    add = command.add_argument
    artifact = "folder of an artifact (an exported model) to measure"
    add("artifacts", nargs="+", metavar="ARTIFACT", help=artifact)
    pairs = (
        "time at least N pairs of requests: in each pair, one answered by PocketVLM and one by a "
        "bare loop (default 25)"
    )
    add_count(add, "pairs", 25, pairs)
    openings = (
        "load the artifact N times on both sides and spread the --pairs evenly over these (default "
        "5)"
    )
    add_count(add, "openings", 5, openings)
    add_count(add, "threads", None, THREADS)
    add_count(add, "prefill-tokens", 512, "number of tokens in each prompt (default 512)")
    add_count(add, "decode-tokens", 64, "number of tokens in each answer (default 64)")


def export_cost_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench export-cost`."""
    add = command.add_argument
    file = (
        f"append the measured cost as a line of JSON to this file (default: {EXPORT_COSTS}), and "
        "write the table of all its lines to EXPORTS.md next to it"
    )
    add("-o", "--output", type=Path, default=Path(EXPORT_COSTS), metavar="FILE.jsonl", help=file)
    model = "model to export: name in models.yaml, or folder of a checkpoint"
    add("model", metavar="MODEL|DIR", help=model)
    options = "options passed on to `python -m export`: --target NAME --recipe NAME …"
    add("options", nargs=argparse.REMAINDER, metavar="OPTION…", help=options)


def peers_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench peers`."""
    add = command.add_argument
    model = "model to measure: name in models.yaml, or folder of a checkpoint"
    add("model", metavar="MODEL|DIR", help=model)
    add("--weights", choices=get_args(WeightsKind), help=f"weights to build with; {WEIGHTS}")
    bits = "number format of the weights, ours and theirs (default int4)"
    add("--recipe", choices=PEER_RECIPES, default="int4", help=bits)
    prompt = "ask about a text, which all programs take, or about an image (default text)"
    add("--prompt", choices=("text", "image"), default="text", help=prompt)
    add_count(add, "prefill-tokens", 512, "number of tokens in a text prompt (default 512)")
    add_count(add, "decode-tokens", 128, "number of tokens in the answer (default 128)")
    add_count(add, "rounds", 5, "run each program in N processes, in turns (default 5)")
    repeats = "time N requests in each process, after a warm-up (default 2)"
    add_count(add, "repeats", 2, repeats)
    add_count(add, "threads", None, THREADS)
    records = (
        "append one line of JSON, a record, for each process to this file (default: a new file in "
        "results/runs/)"
    )
    add("-o", "--output", metavar="RUN.jsonl", help=records)


def phone_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench phone`."""
    add = command.add_argument
    folders = "folder of an artifact of the layout transformers.js"
    add("artifacts", nargs="+", metavar="ARTIFACT", help=folders)
    where = (
        "IP address to listen at: 0.0.0.0 for phones in this network, which without --tls have one "
        "thread and no GPU (default: this machine alone, for a phone with `adb reverse`)"
    )
    add("--host", default="127.0.0.1", metavar="ADDRESS", help=where)
    own = (
        "serve over https with a certificate made for this run; the phone warns of it once, and "
        "its fingerprint is printed to compare"
    )
    add("--tls", action="store_true", help=own)
    number = "port to listen at; 0 takes a free one (default 8765)"
    add("--port", type=port, default=8765, metavar="N", help=number)
    add_count(add, "repeats", 5, "time N requests of each artifact, after a warm-up (default 5)")
    answer = "number of tokens in the answer to every request (default 32)"
    add_count(add, "decode-tokens", 32, answer)
    records = "append one line of JSON, a record, for each artifact to this file"
    add("-o", "--output", required=True, metavar="RUN.jsonl", help=records)


def gpu_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench gpu`."""
    add = command.add_argument
    models = f"name in models.yaml of a model to measure (default: {', '.join(gpu.MODELS)})"
    add("models", nargs="*", metavar="MODEL", help=models)
    target = "format that each model is exported to (default gguf)"
    add("--target", choices=gpu.FORMATS, default="gguf", help=target)
    recipe = (
        "export each model with this recipe, which sets the bits per weight: fp16 or int4; may be "
        "given several times (default: both)"
    )
    add("--recipe", action="append", choices=gpu.RECIPES, help=recipe)
    where = "GPU to measure on: cuda, or cuda:N for the GPU number N, from 0 (default cuda)"
    add("--device", default="cuda", type=device, metavar="NAME", help=where)
    rounds = "run each measurement N times, each time in a new process (default 1)"
    add_count(add, "rounds", 1, rounds)
    build = "folder that artifacts are taken from, and exported to if missing (default: build)"
    add("--folder", type=Path, default=Path("build"), metavar="DIR", help=build)
    records = (
        "append one line of JSON, a record, for each job to this file (default: "
        "build/cuda/TARGET.jsonl)"
    )
    add("-o", "--output", type=Path, metavar="RUN.jsonl", help=records)
