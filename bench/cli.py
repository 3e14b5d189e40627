"""The command line of `bench`: the table COMMANDS, and functions that add each one's arguments.

Exit codes: 0 success, 1 failed jobs or a regression, 2 a user's error, 130 interrupted by Ctrl-C,
141 the reader of the output left.
Each command is a module whose `run(arguments)` returns the exit code; it is imported only when the
command is used. NOT aware of how anything is measured or shown.
"""

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from bench import command_arguments, run_arguments
from export.arguments import Parser
from export.console import on_console, one_line
from export.errors import UserError

INTERRUPTED = 128 + signal.SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of `bench` and return its exit code.

    `argv` are the words after `bench`; None takes them from sys.argv. A UserError or Ctrl-C becomes
    one line on stderr, with exit code 2 or 130; the code is 141 if the reader of the output left. A
    wrong command line raises SystemExit(2).
    """
    return on_console(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parsed(argv)
        run = importlib.import_module(COMMANDS[arguments.command].module).run
        return cast(Callable[[argparse.Namespace], int], run)(arguments)
    except UserError as error:
        print(f"bench: {one_line(str(error))}", file=sys.stderr)
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
        command_arguments.list_arguments,
    ),
    "run": Command(
        "bench.commands.run",
        "measure artifacts or models, and append a record of each measurement to a file",
        run_arguments.add_arguments,
    ),
    "report": Command(
        "bench.commands.report",
        "turn records into a report with tables and figures",
        command_arguments.report_arguments,
    ),
    "compare": Command(
        "bench.commands.compare",
        "compare two runs on one machine; the exit code is 1 if the newer is worse",
        command_arguments.compare_arguments,
    ),
    "check": Command(
        "bench.commands.check",
        "compare predicted sizes and memory with accepted ones; the exit code is 1 if any grew",
        command_arguments.check_arguments,
    ),
    "footprint": Command(
        "bench.commands.footprint",
        "predict size and memory of exports from a model's configuration",
        command_arguments.footprint_arguments,
    ),
    "peaks": Command(
        "bench.commands.peaks",
        "compare predicted with measured peak memory and size on disk; the exit code is 1 if a "
        "peak is off by over 5 percent or a size at all",
        command_arguments.peaks_arguments,
    ),
    "ask": Command(
        "bench.commands.ask",
        "ask an artifact about an image and print the timings",
        command_arguments.ask_arguments,
    ),
    "phone": Command(
        "bench.commands.phone",
        "measure artifacts in a phone's browser, which opens an address of this machine",
        command_arguments.phone_arguments,
    ),
    "overhead": Command(
        "bench.commands.overhead",
        "measure how much slower PocketVLM answers than a bare loop on the same files",
        command_arguments.overhead_arguments,
    ),
    "export-cost": Command(
        "bench.commands.export_cost",
        "measure the time and peak memory of one export",
        command_arguments.export_cost_arguments,
    ),
    "peers": Command(
        "bench.commands.peers",
        "measure other projects' programs beside PocketVLM's runtimes, in one run",
        command_arguments.peers_arguments,
    ),
    "gpu": Command(
        "bench.commands.gpu",
        "measure the latency of full-size models with random weights on an NVIDIA GPU",
        command_arguments.gpu_arguments,
    ),
}
