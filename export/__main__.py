"""The command `python -m export`: exports one model to one format and prints a summary."""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from export.arguments import Parser, above_zero, whole
from export.build import ProofFailed, Prove, build
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.exporter import ExportOptions, default_out, prepared, prove
from export.progress import Stages, peak_bytes, showing
from export.quantize.recipe import KNOWN, METHODS
from export.summary import Cost, facts, lines
from export.target import Target
from export.targets import TARGETS

LAYOUTS = sorted({layout for target in TARGETS.values() for layout in target.layouts})
STOPPED = 128 + signal.SIGTERM


def main(argv: list[str] | None = None, *, targets: Mapping[str, Target] = TARGETS) -> int:
    """Runs the command line `argv` (None: sys.argv) and returns its exit code.

    0: success; 1: the proof failed; 2: a UserError; 130: Ctrl-C. A wrong option exits at once.
    """
    return execute(parser().parse_args(argv), targets=targets)


def execute(args: argparse.Namespace, *, targets: Mapping[str, Target] = TARGETS) -> int:
    """Exports as the parsed `args` say and returns the exit code.

    0: success; 1: the proof failed; 2: a UserError, printed as one line on stderr; 130: Ctrl-C.
    """
    try:
        with _stoppable():
            return run(args, targets=targets)
    except UserError as error:
        print(f"error: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was kept", file=sys.stderr)
        return 128 + signal.SIGINT


def run(
    args: argparse.Namespace,
    *,
    targets: Mapping[str, Target] = TARGETS,
    prove: Prove = prove,
) -> int:
    """Exports as the parsed `args` say, prints a summary; returns 0, or 1 if the proof failed.

    `targets` (format name -> Target) and `prove` are replaced only in tests. Raises UserError.
    """
    started, stages = time.perf_counter(), Stages()
    model = open_model(
        args.model, weights=args.weights, revision=args.revision, offline=args.offline
    )
    model, spec = prepared(model, _options(args), targets=targets)
    try:
        with showing(model, stages) as (watched, stage):
            artifact = build(
                watched,
                spec,
                args.out or default_out(model, spec),
                targets=targets,
                prove=None if args.no_verify else prove,
                stage=stage,
            )
    except ProofFailed as failed:
        print(f"proof failed: {_one_line(str(failed))}; nothing was kept", file=sys.stderr)
        return 1
    cost = Cost(stages.writing_peak_bytes(), peak_bytes(), time.perf_counter() - started)
    print(json.dumps(facts(artifact, cost)) if args.json else "\n".join(lines(artifact, cost)))
    return 0


def parser() -> argparse.ArgumentParser:
    """Builds the argument parser of `python -m export`."""
    it = Parser(
        prog="python -m export",
        description="Export a vision-language model to another format and prove the result.",
    )
    it.add_argument(
        "model", metavar="MODEL|DIR", help="a name in models.yaml, or the folder of a checkpoint"
    )
    add_options(it)
    it.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the artifact (default: build/<model>/<target>-<recipe>[-<layout>])",
    )
    return it


def add_options(it: argparse.ArgumentParser) -> None:
    """Adds every option of an export to the parser, except the model and the output folder."""
    it.add_argument("--target", required=True, choices=TARGETS, help="format to write")
    it.add_argument("--recipe", required=True, choices=KNOWN, help="precision of the weights")
    it.add_argument(
        "--weights",
        choices=("hub", "synthetic"),
        help="hub: trained weights; synthetic: random weights of the real shapes",
    )
    it.add_argument("--revision", help="commit, tag or branch of the model's hub repo")
    it.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="the program for which files are arranged (default: the best for the model's family)",
    )
    it.add_argument(
        "--max-tiles",
        type=whole,
        metavar="N",
        help="cut an image into at most N tiles, including the overview (1: do not cut)",
    )
    how = it.add_argument_group("rounding to 4 bits")
    how.add_argument(
        "--rounding",
        choices=METHODS,
        help="search: try several scales for each block (default); nearest: compute one scale",
    )
    how.add_argument(
        "--calibrate",
        nargs="?",
        const=Path(),
        type=Path,
        metavar="QUESTIONS.jsonl",
        help="round with GPTQ, calibrated on the questions of this file (without a file: on those "
        "of the proof); needs torch",
    )
    how.add_argument(
        "--budget-mb",
        type=above_zero,
        metavar="N",
        help="give the most sensitive layers 8 bits, while the artifact stays within N MB; needs "
        "torch",
    )
    it.add_argument(
        "--no-verify",
        action="store_true",
        help="skip the proof: do not compare results with the checkpoint",
    )
    it.add_argument("--allow-drift", action="store_true", help="keep an artifact whose proof fails")
    it.add_argument("--offline", action="store_true", help="use no network, only the hub's cache")
    it.add_argument("--json", action="store_true", help="print the summary as one JSON object")


def _options(args: argparse.Namespace) -> ExportOptions:
    return ExportOptions(
        args.target,
        args.recipe,
        layout=args.layout,
        max_tiles=args.max_tiles,
        rounding=args.rounding,
        # Path() stands for the flag without a file: the proof's own questions.
        calibrate=True if args.calibrate == Path() else args.calibrate or False,
        budget_mb=args.budget_mb,
        allow_drift=args.allow_drift,
    )


@contextmanager
def _stoppable() -> Iterator[None]:
    """Makes SIGTERM raise SystemExit during the block, so that nothing half-written remains.

    Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(STOPPED)


def _one_line(text: str, longest: int = 1000) -> str:
    """Returns `text` with unprintable characters as spaces, cut after `longest` characters.

    Error messages quote names from untrusted files.
    """
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= longest else f"{line[:longest]}…"


if __name__ == "__main__":
    sys.exit(main())
