"""The command line of `bench`. Exit codes: 0 fine, 1 failed jobs, 2 a user's error.

NOT aware of how anything is measured or shown: each command is a module, imported when it is used.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import cast, get_args, get_type_hints

from bench.record import Options
from bench.tasks import TASKS
from export.errors import UserError, unknown
from runtimes import RUNTIMES

# command -> module with `run(arguments) -> exit code`
COMMANDS = {
    "list": "bench.commands.list_",
    "run": "bench.commands.run",
    "report": "bench.commands.report",
    "ask": "bench.commands.ask",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a user's error becomes one line on stderr."""
    try:
        arguments = parser().parse_args(argv)
        run = importlib.import_module(COMMANDS[arguments.command]).run
        return cast(Callable[[argparse.Namespace], int], run)(arguments)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """All commands and flags; choices are the keys of the tables."""
    whole = argparse.ArgumentParser(
        prog="bench", description="Measure artifacts and report what was found."
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _list(commands.add_parser("list", help="what can be measured here, and what cannot, and why"))
    _run(commands.add_parser("run", help="measure artifacts or models, append records to a file"))
    _report(commands.add_parser("report", help="turn records into markdown and figures"))
    _ask(commands.add_parser("ask", help="ask an artifact about an image and see the timings"))
    return whole


def _list(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="as one JSON object")


def _run(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("subjects", nargs="+", metavar="ARTIFACT|MODEL", help="folder, or name in models.yaml")
    visible = [name for name, runtime in RUNTIMES.items() if not runtime.hidden]
    for kind, table, shown in (("runtime", RUNTIMES, visible), ("task", TASKS, TASKS)):
        known = f"repeatable: {', '.join(shown)}; default: all that fit"
        add(f"--{kind}", action="append", type=_one_of(kind, table), metavar="NAME", help=known)
    add("--reference", metavar="MODEL|DIR", help="for fidelity (default: the artifact's own model)")
    _count(command, "rounds", 3, "processes for each latency job (default 3)")
    _count(command, "limit", None, "questions asked (default: all; fidelity: 100)")
    _count(command, "threads", None, "default: all usable CPUs")
    add("--timeout", type=_seconds, default=3600, metavar="S", help="of one job (default 3600)")
    add("--offline", action="store_true", help="models of the hub from the cache alone")
    add("-o", "--output", metavar="RUN.jsonl", help="default: results/runs/<time>.jsonl")

    default, prompts = Options(), get_args(get_type_hints(Options)["prompt"])
    add("--prompt", choices=prompts, default=default.prompt, help="what latency requests are of")
    _count(command, "prefill-tokens", default.prefill_tokens, "length of latency's text prompts")
    _count(command, "decode-tokens", default.decode_tokens, "length of latency's answers")
    _count(command, "repeats", default.repeats, "latency requests of a process after its warm-up")
    add("--seed", type=int, default=default.seed, metavar="N", help="of the sample of --limit")


def _count(command: argparse.ArgumentParser, flag: str, default: int | None, what: str) -> None:
    command.add_argument(f"--{flag}", type=_positive, default=default, metavar="N", help=what)


def _report(command: argparse.ArgumentParser) -> None:
    figures = "figures are put beside it (default: text to stdout, no figures)"
    command.add_argument("runs", nargs="+", metavar="RUN.jsonl")
    command.add_argument("-o", "--output", metavar="REPORT.md", help=figures)


def _ask(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("artifact", metavar="ARTIFACT", help="folder of an artifact (or a model, as it is)")
    add("image", metavar="IMAGE", help="an image file")
    add("question")
    first = "default: the first that opens it and is available"
    add("--runtime", type=_one_of("runtime", RUNTIMES), metavar="NAME", help=first)
    _count(command, "max-tokens", 64, "default 64")
    _count(command, "threads", None, "default: all usable CPUs")
    add("--offline", action="store_true", help="a model of the hub from the cache alone")
    add("--json", action="store_true", help="end with one line of JSON")


def _one_of(kind: str, table: Iterable[str]) -> Callable[[str], str]:
    """Like `choices`, with the nearest names in the error."""

    def check(word: str) -> str:
        if word not in table:
            raise unknown(kind, word, table)
        return word

    return check


def _positive(word: str) -> int:
    value = int(word)
    if value < 1:
        raise ValueError
    return value


def _seconds(word: str) -> float:
    value = float(word)
    if not value > 0:
        raise ValueError
    return value
