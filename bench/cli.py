"""The command line of `bench`. Exit codes: 0 fine, 1 failed jobs, 2 a user's error, 130 Ctrl-C.

NOT aware of how anything is measured or shown: each command is a module, imported when it is used.
"""

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import cast, get_args, get_type_hints

from bench.machine.profiles import PROFILES
from bench.options import Options
from bench.tasks import TASKS, QuestionTask
from bench.tasks.questions import shard_of
from export.arguments import Parser, above_zero, whole
from export.checkpoint.registry import WeightsKind
from export.errors import UserError, unknown
from export.quantize.recipe import KNOWN, RECIPES
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.devices import device_of

BASELINE = "results/baselines/footprint.json"
PEAKS = "results/baselines/peaks.json"

# command -> module with `run(arguments) -> exit code`
COMMANDS = {
    "list": "bench.commands.list_",
    "run": "bench.commands.run",
    "report": "bench.commands.report",
    "compare": "bench.commands.compare",
    "check": "bench.commands.check",
    "footprint": "bench.commands.footprint",
    "ask": "bench.commands.ask",
}

INTERRUPTED = 128 + signal.SIGINT

TILES = "tiles an image may be cut into, overview included (default: the model's recipe)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a user's error becomes one line on stderr."""
    try:
        arguments = _parsed(argv)
        run = importlib.import_module(COMMANDS[arguments.command]).run
        return cast(Callable[[argparse.Namespace], int], run)(arguments)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """All commands and flags; choices are the keys of the tables."""
    top = Parser(prog="bench", description="Measure artifacts and report what was found.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _list(commands.add_parser("list", help="what can be measured here, and what cannot, and why"))
    _run(commands.add_parser("run", help="measure artifacts or models, append records to a file"))
    _report(commands.add_parser("report", help="turn records into markdown, a page and figures"))
    _compare(commands.add_parser("compare", help="two runs of one machine; 1 on a regression"))
    _check(commands.add_parser("check", help="footprints beside their baseline; 1 if one grew"))
    _footprint(commands.add_parser("footprint", help="bytes and memory of exports not yet made"))
    _ask(commands.add_parser("ask", help="ask an artifact about an image and see the timings"))
    return top


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """argparse takes an optional question only before the options; here it may come behind them."""
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
    command.add_argument("--json", action="store_true", help="as one JSON object")


def _run(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("subjects", nargs="+", metavar="ARTIFACT|MODEL", help="folder, or name in models.yaml")
    visible = [name for name, runtime in RUNTIMES.items() if not runtime.hidden]
    for kind, table, shown, default in (
        ("runtime", RUNTIMES, visible, "all that fit"),
        ("task", TASKS, TASKS, "latency, easy-vqa and fidelity"),
        ("target", TARGETS, TARGETS, "of a model: all that the runtimes open"),
        ("recipe", KNOWN, KNOWN, "of a model: int4"),
    ):
        known = f"repeatable: {', '.join(shown)}; default: {default}"
        add(f"--{kind}", action="append", type=_one_of(kind, table), metavar="NAME", help=known)
    known = f"repeatable: {', '.join(PROFILES)}, cuda:N; default: this machine as it is"
    add("--device", action="append", type=_device, metavar="NAME", help=known)
    random = "of models: synthetic is random values, which need no network and have no accuracy"
    add("--weights", choices=get_args(WeightsKind), help=random)
    add("--reference", metavar="MODEL|DIR", help="for fidelity (default: the artifact's own model)")
    _count(command, "rounds", 3, "processes for each latency job (default 3)")
    _count(command, "limit", None, "questions asked (default: all; fidelity: 100)")
    _count(command, "threads", None, "default: all usable CPUs")
    add("--timeout", type=above_zero, default=3600, metavar="S", help="of one job (default 3600)")
    add("--offline", action="store_true", help="models of the hub from the cache alone")
    add("-o", "--output", metavar="RUN.jsonl", help="default: results/runs/<time>.jsonl")
    add("--resume", action="store_true", help="leave out what the file of -o has already")
    add("--no-ceilings", dest="ceilings", action="store_false", help="no bandwidth and FLOP/s")
    _options(command)


def _options(command: argparse.ArgumentParser) -> None:
    """What can be chosen about tasks."""
    add = command.add_argument
    default, prompts = Options(), get_args(get_type_hints(Options)["prompt"])
    add("--prompt", choices=prompts, default=default.prompt, help="what latency requests are of")
    _count(command, "max-tiles", None, TILES)
    _count(command, "prefill-tokens", default.prefill_tokens, "length of latency's text prompts")
    _count(command, "decode-tokens", default.decode_tokens, "length of latency's answers")
    _count(command, "repeats", default.repeats, "latency requests of a process after its warm-up")
    add(
        "--seed", type=_seed, default=default.seed, metavar="N", help="of samples and made pictures"
    )
    parts = "ask the I-th of N parts, which reports merge (fidelity is asked whole)"
    add("--shard", type=_shard, metavar="I/N", help=parts)
    local = "of public tasks: a folder with their parquet or jsonl files (default: the hub)"
    add("--data", metavar="DIR", help=local)
    anew = "encode the image of every question anew, to see what reuse saves"
    add("--no-reuse", dest="reuse", action="store_false", help=anew)
    at_once = "questions answered at once, by runtimes that can (default: those of one image)"
    _count(command, "batch", default.batch, at_once)
    askable = [name for name, task in TASKS.items() if isinstance(task, QuestionTask)]
    asking = _one_of("task with questions", askable)
    whose = "whose questions fidelity takes (default: easy-vqa)"
    add("--prompts", type=asking, default=default.prompts, metavar="TASK", help=whose)


def _count(command: argparse.ArgumentParser, flag: str, default: int | None, what: str) -> None:
    command.add_argument(f"--{flag}", type=whole, default=default, metavar="N", help=what)


def _report(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    beside = "a page REPORT.html and figures are put beside it (default: text to stdout alone)"
    readme = "put the summary between this file's markers instead of writing a report"
    add("runs", nargs="+", metavar="RUN.jsonl")
    add("-o", "--output", metavar="REPORT.md", help=beside)
    budget = command.add_mutually_exclusive_group()
    limit = "recommend what stays within so many MB (10^6 bytes)"
    budget.add_argument("--budget-mb", type=whole, metavar="N", help=limit)
    device = f"recommend what fits a device: {', '.join(PROFILES)}"
    check = _one_of("profile", PROFILES)
    budget.add_argument("--profile", type=check, metavar="NAME", help=device)
    add("--readme", metavar="README.md", help=readme)


def _compare(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("base", metavar="BASE.jsonl")
    add("new", metavar="NEW.jsonl")
    far = "of time, memory and size; less counts as the same (default 5)"
    add("--tolerance", type=_share, default=5.0, metavar="PERCENT", help=far)
    asked = "difference of accuracy asked about, in points; less counts as the same (default 1)"
    add("--points", type=above_zero, default=1.0, metavar="P", help=asked)
    add("--json", action="store_true", help="as one JSON object")


def _check(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    measured = "also judge the peaks of memory that these runs measured"
    add("runs", nargs="*", metavar="RUN.jsonl", help=measured)
    add("--update", action="store_true", help="accept what is predicted and measured now")
    for flag, default, what in (
        ("--baseline", BASELINE, "accepted predictions"),
        ("--peaks", PEAKS, "accepted peaks"),
    ):
        add(flag, default=default, metavar="FILE", help=f"{what} (default: {default})")


def _footprint(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("models", nargs="*", metavar="MODEL|DIR", help="default: all of models.yaml")
    for kind, table in (("target", TARGETS), ("recipe", RECIPES)):
        known = f"repeatable: {', '.join(table)}; default: all"
        add(f"--{kind}", action="append", type=_one_of(kind, table), metavar="NAME", help=known)
    _count(command, "context", None, "positions that a request fills (default: a session's)")
    add("--json", action="store_true", help="as a list of objects")


def _ask(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("artifact", metavar="ARTIFACT", help="folder of an artifact (or a model, as it is)")
    add("image", nargs="?", metavar="IMAGE", help="an image file; none for a model of text alone")
    add("question", nargs="?", default="", help="what is asked, or looked for")
    add("--task", default="", metavar="NAME", help="of models with tasks of their own: detect, …")
    shares = "what is asked about: a point or a box, in shares of width and height"
    add("--place", type=_place, default=(), metavar="X,Y[,X,Y]", help=shares)
    first = "default: the first that opens it and is available"
    add("--runtime", type=_one_of("runtime", RUNTIMES), metavar="NAME", help=first)
    _count(command, "max-tokens", 64, "default 64")
    _count(command, "max-tiles", None, TILES)
    _count(command, "threads", None, "default: all usable CPUs")
    add("--offline", action="store_true", help="a model of the hub from the cache alone")
    add("--json", action="store_true", help="end with one line of JSON")


def _place(text: str) -> tuple[float, ...]:
    """A point, or two corners of a box."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers; give X,Y") from None


def _one_of(kind: str, table: Iterable[str]) -> Callable[[str], str]:
    """Like `choices`, with the nearest names in the error."""

    def check(word: str) -> str:
        if word not in table:
            raise unknown(kind, word, table)
        return word

    return check


def _seed(word: str) -> int:
    if not (word.isascii() and word.isdecimal()):
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number from 0 on")
    return int(word)


def _shard(word: str) -> str:
    try:
        shard_of(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no shard; give I/N, as 1/4") from None
    return word


def _share(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value < 100:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number from 0 to below 100")
    return value


def _device(text: str) -> str:
    """A row of PROFILES, or one of its GPUs by number."""
    if text in PROFILES or not text.startswith("cuda"):
        return _one_of("device", PROFILES)(text)
    try:
        device_of(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
