"""The command line of `bench`: the table COMMANDS, and functions that add each one's arguments.

Exit codes: 0 success, 1 failed jobs or a regression, 2 a user's error, 130 interrupted by Ctrl-C.
Each command is a module whose `run(arguments)` returns the exit code; it is imported only when the
command is used. NOT aware of how anything is measured or shown.
"""

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from bench.arguments import device, one_of, percentage, region, seed, shard
from bench.commands import gpu
from bench.machine.profiles import PROFILES
from bench.options import Options
from bench.tasks import DEFAULT_TASKS, TASKS, QuestionTask
from export.arguments import Parser, above_zero, whole
from export.checkpoint.registry import WeightsKind
from export.errors import UserError
from export.quantize.recipe import KNOWN, RECIPES
from export.targets import TARGETS
from runtimes import RUNTIMES

BASELINE = "results/baselines/footprint.json"
PEAKS = "results/baselines/peaks.json"
EXPORT_COSTS = "results/exports.jsonl"
PEER_RECIPES = ("fp32", "int4")

INTERRUPTED = 128 + signal.SIGINT

# Help texts of options that several commands have.
THREADS = "compute with N CPU threads (default: one for each CPU that this process may use)"
JSON = "print one JSON object instead of text"
OFFLINE = "download nothing from the Hugging Face hub; use only its local cache"
TILES = "cut an image into at most N tiles, the overview included (default: the model's own limit)"
WEIGHTS = (
    "hub: trained weights; synthetic: random weights of the real shapes, for speed and memory only "
    "(default: trained weights)"
)

Add = Callable[..., Any]
"""`add_argument` of a parser or of a group of arguments."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of `bench` and return its exit code.

    `argv` are the words after `bench`; None takes them from sys.argv. A UserError or Ctrl-C becomes
    one line on stderr, with exit code 2 or 130. A wrong command line raises SystemExit(2).
    """
    try:
        arguments = _parsed(argv)
        run = importlib.import_module(COMMANDS[arguments.command].module).run
        return cast(Callable[[argparse.Namespace], int], run)(arguments)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Build the argparse parser of `bench`, with a subparser for each row of COMMANDS."""
    top = Parser(prog="bench", description="Measure exported models and report the results.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        description = f"{command.help[0].upper()}{command.help[1:]}."
        command.arguments(commands.add_parser(name, help=command.help, description=description))
    return top


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; raises SystemExit(2) if it is wrong.

    The question of `bench ask` may also follow options, which argparse itself refuses.
    """
    top = parser()
    arguments, left = top.parse_known_args(argv)
    if (
        len(left) == 1
        and not left[0].startswith("-")
        and getattr(arguments, "question", None) == ""
    ):
        arguments.question = left.pop()
    if left:
        top.error(f"unrecognized arguments: {' '.join(left)}")
    return arguments


def _list(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help=JSON)


def _run(command: argparse.ArgumentParser) -> None:
    what = command.add_argument_group("what to measure")
    add = what.add_argument
    known = (
        "what to measure: folder of an artifact (an exported model), name of a model in "
        "models.yaml, or folder of a checkpoint"
    )
    add("subjects", nargs="+", metavar="ARTIFACT|MODEL", help=known)
    target = (
        "export each MODEL to this format, unless build/ has that artifact, and measure it "
        "(default: with --recipe or --runtime every format that the chosen runtimes open; without "
        "them no export, the checkpoint itself is measured)"
    )
    _names(add, "target", TARGETS, target)
    recipe = "export each MODEL with this recipe, which sets the bits per weight (default: int4)"
    _names(add, "recipe", KNOWN, recipe)
    kinds = get_args(WeightsKind)
    add("--weights", choices=kinds, help=f"weights to use for each MODEL; {WEIGHTS}")
    task = f"measure this task; `bench list` describes all (default: {', '.join(DEFAULT_TASKS)})"
    _names(add, "task", TASKS, task)
    add("--offline", action="store_true", help=OFFLINE)
    where = command.add_argument_group("where to run it")
    add = where.add_argument
    visible = [name for name, runtime in RUNTIMES.items() if not runtime.hidden]
    runtime = (
        "run each artifact or checkpoint in this runtime (default: every runtime that can open it)"
    )
    _names(add, "runtime", RUNTIMES, runtime, visible)
    held = (
        "limit jobs to the CPU threads and memory of this device profile; cuda:N is the profile "
        "cuda on the GPU number N, from 0 (default: this machine without limits)"
    )
    devices = f"{held}. May be given several times. Names: {', '.join(PROFILES)}, cuda:N"
    add("--device", action="append", type=device, metavar="NAME", help=devices)
    _count(add, "threads", None, THREADS)
    ceilings = (
        "skip measuring the most bytes and operations per second that this machine reaches, which "
        "a report compares the model's speed with"
    )
    add("--no-ceilings", dest="ceilings", action="store_false", help=ceilings)
    _amounts(command.add_argument_group("how much to measure").add_argument)
    _latency(command.add_argument_group("options of the latency task").add_argument)
    _questions(command.add_argument_group("options of tasks with questions").add_argument)
    _fidelity(command.add_argument_group("options of the fidelity task").add_argument)
    add = command.add_argument_group("records").add_argument
    records = (
        "append one line of JSON, a record, for each job to this file (default: "
        "results/runs/<time>.jsonl)"
    )
    add("-o", "--output", metavar="RUN.jsonl", help=records)
    resume = "skip jobs that already have a record, even if they failed, in the file given with -o"
    add("--resume", action="store_true", help=resume)


def _amounts(add: Add) -> None:
    default = Options()
    rounds = "run each job of the latency task N times, each time in a new process (default 3)"
    _count(add, "rounds", 3, rounds)
    limit = "ask at most N questions of a task (default: all; 100 for the fidelity task)"
    _count(add, "limit", None, limit)
    seeded = "random seed for the choice of --limit questions and for generated images (default 0)"
    add("--seed", type=seed, default=default.seed, metavar="N", help=seeded)
    _count(add, "max-tiles", None, TILES)
    stop = "end a job that takes longer than S seconds; it counts as failed (default 3600)"
    add("--timeout", type=above_zero, default=3600, metavar="S", help=stop)


def _latency(add: Add) -> None:
    default, prompts = Options(), get_args(get_type_hints(Options)["prompt"])
    kind = "what a timed request asks about: an image, or only text (default image)"
    add("--prompt", choices=prompts, default=default.prompt, help=kind)
    prompt = f"number of tokens in the prompt of --prompt text (default {default.prefill_tokens})"
    _count(add, "prefill-tokens", default.prefill_tokens, prompt)
    answer = f"number of tokens in the answer to every request (default {default.decode_tokens})"
    _count(add, "decode-tokens", default.decode_tokens, answer)
    requests = f"time N requests in each process, after one warm-up (default {default.repeats})"
    _count(add, "repeats", default.repeats, requests)


def _questions(add: Add) -> None:
    default = Options()
    local = (
        "read a public data set from the parquet or jsonl files in this folder (default: from the "
        "Hugging Face hub)"
    )
    add("--data", metavar="DIR", help=local)
    part = (
        "ask only part I of N of the questions, with I from 1 to N, for example 1/4; `bench "
        "report` merges the parts"
    )
    add("--shard", type=shard, metavar="I/N", help=part)
    again = (
        "encode the image anew for each of several questions about it, to measure what the reuse "
        "of its features saves"
    )
    add("--no-reuse", dest="reuse", action="store_false", help=again)
    batch = (
        "answer N questions at once, in runtimes that can; others are skipped (default: where the "
        "runtime can, the questions about one image at once)"
    )
    _count(add, "batch", default.batch, batch)


def _fidelity(add: Add) -> None:
    checkpoint = (
        "compare artifacts with this checkpoint: name in models.yaml, or folder (default: the "
        "model that each was exported from)"
    )
    add("--reference", metavar="MODEL|DIR", help=checkpoint)
    askable = [name for name, task in TASKS.items() if isinstance(task, QuestionTask)]
    asked = one_of("task with questions", askable)
    whose = (
        "take the prompts of the fidelity task from this task with questions (default: easy-vqa)"
    )
    add("--prompts", type=asked, default=Options().prompts, metavar="TASK", help=whose)


def _names(
    add: Add, kind: str, table: Iterable[str], what: str, shown: Iterable[str] | None = None
) -> None:
    """Add an option that may be given several times; its help lists `shown`, or all of `table`."""
    names = ", ".join(table if shown is None else shown)
    known = f"{what}. May be given several times. Names: {names}"
    add(f"--{kind}", action="append", type=one_of(kind, table), metavar="NAME", help=known)


def _count(add: Add, flag: str, default: int | None, what: str) -> None:
    add(f"--{flag}", type=whole, default=default, metavar="N", help=what)


def _runs(add: Add, count: str, what: str) -> None:
    add("runs", nargs=count, metavar="RUN.jsonl", help=what)


def _report(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _runs(add, "+", "file of records that `bench run` wrote")
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


def _compare(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("base", metavar="BASE.jsonl", help="file of records of the older run")
    newer = "file of records of the newer run on the same machine; exit code 1 if it is worse"
    add("new", metavar="NEW.jsonl", help=newer)
    tolerance = "ignore a change of time, memory or size by up to PERCENT (default 5)"
    add("--tolerance", type=percentage, default=5.0, metavar="PERCENT", help=tolerance)
    points = "ignore a change of accuracy by up to P percentage points (default 1)"
    add("--points", type=above_zero, default=1.0, metavar="P", help=points)
    add("--json", action="store_true", help=JSON)


def _check(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    peaks = (
        "file of records of `bench run`, whose measured peak memory is also compared with the "
        "accepted peaks (default: compare only predictions)"
    )
    _runs(add, "*", peaks)
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


def _footprint(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    models = (
        "model to predict: name in models.yaml, or folder of a checkpoint (default: all of "
        "models.yaml)"
    )
    add("models", nargs="*", metavar="MODEL|DIR", help=models)
    _names(add, "target", TARGETS, "predict exports to this format (default: to all formats)")
    _names(add, "recipe", RECIPES, "predict exports with this recipe (default: with all recipes)")
    context = (
        "predict the peak memory of a request of N tokens, prompt and answer together (default: "
        "4096, or the model's limit if that is lower)"
    )
    _count(add, "context", None, context)
    objects = "print a JSON list with an object for each export instead of a table"
    add("--json", action="store_true", help=objects)


def _ask(command: argparse.ArgumentParser) -> None:
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
    _count(add, "max-tokens", 64, "end the answer after at most N tokens (default 64)")
    _count(add, "max-tiles", None, TILES)
    _count(add, "threads", None, THREADS)
    add("--offline", action="store_true", help=OFFLINE)
    last = "print the answer, its timings and the peak memory as a last line of JSON"
    add("--json", action="store_true", help=last)


def _peaks(command: argparse.ArgumentParser) -> None:
    what = "file of records of `bench run --task latency`, to compare the predictions with"
    _runs(command.add_argument, "+", what)


def _overhead(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    artifact = "folder of an artifact (an exported model) to measure"
    add("artifacts", nargs="+", metavar="ARTIFACT", help=artifact)
    pairs = (
        "time at least N pairs of requests: in each pair, one answered by PocketVLM and one by a "
        "bare loop (default 25)"
    )
    _count(add, "pairs", 25, pairs)
    openings = (
        "load the artifact N times on both sides and spread the --pairs evenly over these (default "
        "5)"
    )
    _count(add, "openings", 5, openings)
    _count(add, "threads", None, THREADS)
    _count(add, "prefill-tokens", 512, "number of tokens in each prompt (default 512)")
    _count(add, "decode-tokens", 64, "number of tokens in each answer (default 64)")


def _export_cost(command: argparse.ArgumentParser) -> None:
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


def _peers(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    model = "model to build: name in models.yaml, or folder of a checkpoint"
    add("model", metavar="MODEL|DIR", help=model)
    add("--weights", choices=get_args(WeightsKind), help=f"weights to build with; {WEIGHTS}")
    bits = "number format of the weights that onnxruntime-genai stores (default int4)"
    add("--recipe", choices=PEER_RECIPES, default="int4", help=bits)


def _gpu(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    models = f"name in models.yaml of a model to measure (default: {', '.join(gpu.MODELS)})"
    add("models", nargs="*", metavar="MODEL", help=models)
    target = "format that each model is exported to (default gguf)"
    add("--target", choices=gpu.FORMATS, default="gguf", help=target)
    recipe = "recipe that each model is exported with; may be given several times (default: both)"
    add("--recipe", action="append", choices=gpu.RECIPES, help=recipe)
    where = "GPU to measure on: cuda, or cuda:N for the GPU number N, from 0 (default cuda)"
    add("--device", default="cuda", type=device, metavar="NAME", help=where)
    rounds = "run each measurement N times, each time in a new process (default 1)"
    _count(add, "rounds", 1, rounds)
    build = "folder that artifacts are taken from, and exported to if missing (default: build)"
    add("--folder", type=Path, default=Path("build"), metavar="DIR", help=build)
    records = (
        "append one line of JSON, a record, for each job to this file (default: "
        "build/cuda/TARGET.jsonl)"
    )
    add("-o", "--output", type=Path, metavar="RUN.jsonl", help=records)


@dataclass(frozen=True)
class Command:
    """One command of `bench`, a row of COMMANDS.

    `module` has its function `run`, `help` is its line in `bench --help`, and `arguments` adds its
    arguments to its parser.
    """

    module: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]


COMMANDS: Mapping[str, Command] = {
    "list": Command(
        "bench.commands.list_",
        "list models, recipes, formats, runtimes, tasks and device profiles, and why some cannot "
        "be used",
        _list,
    ),
    "run": Command(
        "bench.commands.run",
        "measure artifacts or models, and append a record of each measurement to a file",
        _run,
    ),
    "report": Command(
        "bench.commands.report", "turn records into a report with tables and figures", _report
    ),
    "compare": Command(
        "bench.commands.compare",
        "compare two runs on one machine; the exit code is 1 if the newer is worse",
        _compare,
    ),
    "check": Command(
        "bench.commands.check",
        "compare predicted sizes and memory with accepted ones; the exit code is 1 if any grew",
        _check,
    ),
    "footprint": Command(
        "bench.commands.footprint",
        "predict size and memory of exports from a model's configuration",
        _footprint,
    ),
    "peaks": Command(
        "bench.commands.peaks",
        "compare predicted with measured peak memory and size on disk; the exit code is 1 if a "
        "peak is off by over 5 percent or a size at all",
        _peaks,
    ),
    "ask": Command(
        "bench.commands.ask", "ask an artifact about an image and print the timings", _ask
    ),
    "overhead": Command(
        "bench.commands.overhead",
        "measure how much slower PocketVLM answers than a bare loop on the same files",
        _overhead,
    ),
    "export-cost": Command(
        "bench.commands.export_cost", "measure the time and peak memory of one export", _export_cost
    ),
    "peers": Command(
        "bench.commands.peers",
        "build a model with onnxruntime-genai, to measure it next to PocketVLM's exports",
        _peers,
    ),
    "gpu": Command(
        "bench.commands.gpu",
        "measure the latency of full-size models with random weights on an NVIDIA GPU",
        _gpu,
    ),
}
