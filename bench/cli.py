"""The command line of `bench`: a table of commands, and the arguments of each.

Exit codes: 0 success, 1 failed jobs or a regression, 2 a user's error, 130 interrupted. A command
is a module with `run(arguments) -> exit code`, which is imported when the command is used. NOT
aware of how anything is measured or shown.
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
THREADS = "number of CPU threads (default: all usable CPUs)"
JSON = "print one JSON object instead of text"
OFFLINE = "take models of the Hugging Face hub from its local cache only"
TILES = "cut an image into at most N tiles, overview included (default: the model's recipe)"
WEIGHTS = "hub: trained weights; synthetic: random weights of the real shapes, without accuracy"

Add = Callable[..., Any]
"""`add_argument` of a parser or of a group of arguments."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a user's error becomes one line on stderr."""
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
    """All commands with their arguments; choices are the keys of the tables."""
    top = Parser(prog="bench", description="Measure exported models and report the results.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        description = f"{command.help[0].upper()}{command.help[1:]}."
        command.arguments(commands.add_parser(name, help=command.help, description=description))
    return top


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments. An optional question may follow options, which argparse itself refuses."""
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
    known = "folder of an artifact, or name in models.yaml"
    add("subjects", nargs="+", metavar="ARTIFACT|MODEL", help=known)
    target = (
        "export each MODEL to this format, unless build/ has it (default: all the runtimes open)"
    )
    _names(add, "target", TARGETS, target)
    _names(add, "recipe", KNOWN, "export each MODEL with this recipe (default: int4)")
    add("--weights", choices=get_args(WeightsKind), help=f"weights of each MODEL; {WEIGHTS}")
    _names(add, "task", TASKS, f"do this task (default: {', '.join(DEFAULT_TASKS)})")
    add("--offline", action="store_true", help=OFFLINE)
    where = command.add_argument_group("where to run it")
    add = where.add_argument
    visible = [name for name, runtime in RUNTIMES.items() if not runtime.hidden]
    _names(add, "runtime", RUNTIMES, "use this runtime (default: all that fit)", visible)
    held = "hold jobs to this device profile, or run them on GPU N (default: this machine as it is)"
    devices = f"{held}; repeatable: {', '.join(PROFILES)}, cuda:N"
    add("--device", action="append", type=device, metavar="NAME", help=devices)
    _count(add, "threads", None, THREADS)
    ceilings = "do not measure the machine's bandwidth and FLOP/s"
    add("--no-ceilings", dest="ceilings", action="store_false", help=ceilings)
    _amounts(command.add_argument_group("how much to measure").add_argument)
    _latency(command.add_argument_group("options of the latency task").add_argument)
    _questions(command.add_argument_group("options of tasks with questions").add_argument)
    _fidelity(command.add_argument_group("options of the fidelity task").add_argument)
    add = command.add_argument_group("records").add_argument
    records = "append records to this file (default: results/runs/<time>.jsonl)"
    add("-o", "--output", metavar="RUN.jsonl", help=records)
    add("--resume", action="store_true", help="skip jobs whose records the file of -o has already")


def _amounts(add: Add) -> None:
    default = Options()
    _count(add, "rounds", 3, "measure each latency job in N processes (default 3)")
    _count(add, "limit", None, "ask at most N questions (default: all; fidelity: 100)")
    seeded = "seed of question samples and generated images (default 0)"
    add("--seed", type=seed, default=default.seed, metavar="N", help=seeded)
    _count(add, "max-tiles", None, TILES)
    stop = "stop a job after S seconds (default 3600)"
    add("--timeout", type=above_zero, default=3600, metavar="S", help=stop)


def _latency(add: Add) -> None:
    default, prompts = Options(), get_args(get_type_hints(Options)["prompt"])
    add("--prompt", choices=prompts, default=default.prompt, help="kind of prompt (default image)")
    prompt = f"length of a text prompt (default {default.prefill_tokens})"
    _count(add, "prefill-tokens", default.prefill_tokens, prompt)
    answer = f"length of the answer (default {default.decode_tokens})"
    _count(add, "decode-tokens", default.decode_tokens, answer)
    requests = f"requests per process, after one warm-up (default {default.repeats})"
    _count(add, "repeats", default.repeats, requests)


def _questions(add: Add) -> None:
    default = Options()
    local = "folder with a public data set's parquet or jsonl files (default: the hub)"
    add("--data", metavar="DIR", help=local)
    part = "evaluate only shard I of N; `bench report` merges shards"
    add("--shard", type=shard, metavar="I/N", help=part)
    again = "encode the image again for every question, to measure what reuse saves"
    add("--no-reuse", dest="reuse", action="store_false", help=again)
    batch = "answer N questions in one batch, on runtimes that can (default: those of one image)"
    _count(add, "batch", default.batch, batch)


def _fidelity(add: Add) -> None:
    checkpoint = "checkpoint to compare with (default: the artifact's own model)"
    add("--reference", metavar="MODEL|DIR", help=checkpoint)
    askable = [name for name, task in TASKS.items() if isinstance(task, QuestionTask)]
    asked = one_of("task with questions", askable)
    whose = "task whose questions the fidelity task uses (default: easy-vqa)"
    add("--prompts", type=asked, default=Options().prompts, metavar="TASK", help=whose)


def _names(
    add: Add, kind: str, table: Iterable[str], what: str, shown: Iterable[str] | None = None
) -> None:
    known = f"{what}; repeatable: {', '.join(table if shown is None else shown)}"
    add(f"--{kind}", action="append", type=one_of(kind, table), metavar="NAME", help=known)


def _count(add: Add, flag: str, default: int | None, what: str) -> None:
    add(f"--{flag}", type=whole, default=default, metavar="N", help=what)


def _runs(add: Add, count: str, what: str) -> None:
    add("runs", nargs=count, metavar="RUN.jsonl", help=what)


def _report(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _runs(add, "+", "records of `bench run`")
    file = "write the report to this file, with REPORT.html and figures (default: print it)"
    add("-o", "--output", metavar="REPORT.md", help=file)
    budget = command.add_mutually_exclusive_group()
    limit = "recommend artifacts whose peak memory is at most N MB (10^6 bytes)"
    budget.add_argument("--budget-mb", type=whole, metavar="N", help=limit)
    profile = f"recommend artifacts that fit this device profile: {', '.join(PROFILES)}"
    check = one_of("profile", PROFILES)
    budget.add_argument("--profile", type=check, metavar="NAME", help=profile)
    readme = "write the summary between the markers of this file instead of a report"
    add("--readme", metavar="README.md", help=readme)


def _compare(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("base", metavar="BASE.jsonl", help="records to compare with")
    add("new", metavar="NEW.jsonl", help="records of the same machine that may be worse")
    tolerance = "count a change of time, memory or size up to PERCENT as the same (default 5)"
    add("--tolerance", type=percentage, default=5.0, metavar="PERCENT", help=tolerance)
    points = "count a change of accuracy up to P points as the same (default 1)"
    add("--points", type=above_zero, default=1.0, metavar="P", help=points)
    add("--json", action="store_true", help=JSON)


def _check(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _runs(add, "*", "also compare the peak memory that these records measured with the accepted")
    add("--update", action="store_true", help="accept the present predictions and peaks")
    for flag, default, what in (
        ("--baseline", BASELINE, "file of accepted predictions"),
        ("--peaks", PEAKS, "file of accepted peaks"),
    ):
        add(flag, default=default, metavar="FILE", help=f"{what} (default: {default})")


def _footprint(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    models = "name in models.yaml, or folder of a checkpoint (default: all of models.yaml)"
    add("models", nargs="*", metavar="MODEL|DIR", help=models)
    _names(add, "target", TARGETS, "predict this target (default: all)")
    _names(add, "recipe", RECIPES, "predict this recipe (default: all)")
    _count(add, "context", None, "positions that a request fills (default: a session's context)")
    add("--json", action="store_true", help="print a JSON list of objects")


def _ask(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("artifact", metavar="ARTIFACT", help="folder of an artifact, or a model as it is")
    add("image", nargs="?", metavar="IMAGE", help="image file; omit it for a text-only model")
    add("question", nargs="?", default="", help="question, or the object that --task looks for")
    own = "a task of the model's own, for example Moondream's detect"
    add("--task", default="", metavar="NAME", help=own)
    fractions = "point or box to ask about, in fractions of width and height"
    add("--place", type=region, default=(), metavar="X,Y[,X,Y]", help=fractions)
    first = "runtime to use (default: the first available one that opens the artifact)"
    add("--runtime", type=one_of("runtime", RUNTIMES), metavar="NAME", help=first)
    _count(add, "max-tokens", 64, "length of the answer at most (default 64)")
    _count(add, "max-tiles", None, TILES)
    _count(add, "threads", None, THREADS)
    add("--offline", action="store_true", help=OFFLINE)
    add("--json", action="store_true", help="end with one line of JSON")


def _peaks(command: argparse.ArgumentParser) -> None:
    _runs(command.add_argument, "+", "records of the latency task")


def _overhead(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("artifacts", nargs="+", metavar="ARTIFACT", help="folder of an artifact")
    _count(add, "pairs", 25, "compare at least N pairs of requests (default 25)")
    _count(add, "openings", 5, "open both sessions N times (default 5)")
    _count(add, "threads", None, THREADS)
    _count(add, "prefill-tokens", 512, "length of the prompt (default 512)")
    _count(add, "decode-tokens", 64, "length of the answer (default 64)")


def _export_cost(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    file = (
        f"append the line to this file (default: {EXPORT_COSTS}); EXPORTS.md is written next to it"
    )
    add("-o", "--output", type=Path, default=Path(EXPORT_COSTS), metavar="FILE.jsonl", help=file)
    add("model", metavar="MODEL|DIR", help="name in models.yaml, or folder of a checkpoint")
    options = "options of `python -m export`: --target NAME --recipe NAME …"
    add("options", nargs=argparse.REMAINDER, metavar="OPTION…", help=options)


def _peers(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("model", metavar="MODEL|DIR", help="name in models.yaml, or folder of a checkpoint")
    add("--weights", choices=get_args(WeightsKind), help=WEIGHTS)
    bits = "bits of the weights (default int4)"
    add("--recipe", choices=PEER_RECIPES, default="int4", help=bits)


def _gpu(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    models = f"name in models.yaml (default: {', '.join(gpu.MODELS)})"
    add("models", nargs="*", metavar="MODEL", help=models)
    add("--target", choices=gpu.FORMATS, default="gguf", help="format (default gguf)")
    add("--recipe", action="append", choices=gpu.RECIPES, help="repeatable (default: both)")
    add("--device", default="cuda", type=device, metavar="NAME", help="cuda or cuda:N")
    _count(add, "rounds", 1, "measure each job in N processes (default 1)")
    build = "folder of the artifacts (default: build)"
    add("--folder", type=Path, default=Path("build"), metavar="DIR", help=build)
    records = "append records to this file (default: build/cuda/TARGET.jsonl)"
    add("-o", "--output", type=Path, metavar="RUN.jsonl", help=records)


@dataclass(frozen=True)
class Command:
    """One command: the module with its `run`, its line in `bench --help`, its arguments."""

    module: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]


COMMANDS: Mapping[str, Command] = {
    "list": Command(
        "bench.commands.list_", "list models, runtimes and tasks, and why some are missing", _list
    ),
    "run": Command(
        "bench.commands.run", "measure artifacts or models and append a record for each job", _run
    ),
    "report": Command(
        "bench.commands.report", "turn records into a report with tables and figures", _report
    ),
    "compare": Command(
        "bench.commands.compare",
        "compare two runs of one machine; exit 1 on a regression",
        _compare,
    ),
    "check": Command(
        "bench.commands.check",
        "compare predicted footprints with the baseline; exit 1 if any grew",
        _check,
    ),
    "footprint": Command(
        "bench.commands.footprint", "predict size and memory without exporting", _footprint
    ),
    "peaks": Command(
        "bench.commands.peaks",
        "compare predicted with measured peak memory; exit 1 if over 5 percent off",
        _peaks,
    ),
    "ask": Command(
        "bench.commands.ask", "ask an artifact about an image and print the timings", _ask
    ),
    "overhead": Command(
        "bench.commands.overhead",
        "compare our sessions with a bare loop on the same files",
        _overhead,
    ),
    "export-cost": Command(
        "bench.commands.export_cost", "measure the time and peak memory of one export", _export_cost
    ),
    "peers": Command(
        "bench.commands.peers",
        "build a model with onnxruntime-genai, to compare with ours",
        _peers,
    ),
    "gpu": Command(
        "bench.commands.gpu", "measure real sizes with random weights on an NVIDIA GPU", _gpu
    ),
}
