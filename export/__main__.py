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
from export.artifact import load_artifact
from export.build import ProofFailed, Prove, build
from export.checkpoint.registry import open_model
from export.console import on_console, one_line
from export.errors import UserError
from export.exporter import ExportOptions, default_out, prepared, prove
from export.files import is_folder
from export.model import Model
from export.origin import difference
from export.progress import Stages, peak_bytes, showing
from export.quantize.recipe import KNOWN, METHODS
from export.summary import Cost, facts, lines
from export.target import Target
from export.targets import TARGETS

LAYOUTS = sorted({layout for target in TARGETS.values() for layout in target.layouts})
STOPPED = 128 + signal.SIGTERM


def main(argv: list[str] | None = None, *, targets: Mapping[str, Target] = TARGETS) -> int:
    """Runs the command line `argv` (None: sys.argv) and returns its exit code.

    0: success; 1: the proof failed; 2: a UserError; 130: Ctrl-C; 141: the reader of its output
    left. A wrong option exits at once.
    """
    return on_console(lambda: execute(parser().parse_args(argv), targets=targets))


def execute(args: argparse.Namespace, *, targets: Mapping[str, Target] = TARGETS) -> int:
    """Exports as the parsed `args` say and returns the exit code.

    0: success; 1: the proof failed; 2: a UserError, printed as one line on stderr; 130: Ctrl-C.
    """
    try:
        with _stoppable():
            return run(args, targets=targets)
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
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
    out = args.out or default_out(model, spec)
    other = _other(out, model)
    try:
        with showing(model, stages) as (watched, stage):
            artifact = build(
                watched,
                spec,
                out,
                targets=targets,
                prove=None if args.no_verify else prove,
                stage=stage,
            )
    except ProofFailed as failed:
        print(f"proof failed: {one_line(str(failed))}; nothing was kept", file=sys.stderr)
        return 1
    if other:
        print(
            f"note: {out} held an artifact of another model, now replaced: {other}", file=sys.stderr
        )
    cost = Cost(stages.writing_peak_bytes(), peak_bytes(), time.perf_counter() - started)
    print(json.dumps(facts(artifact, cost)) if args.json else "\n".join(lines(artifact, cost)))
    return 0


def _other(out: Path, model: Model) -> str | None:
    """Says how the model of the artifact in the folder `out` differs; None: it is this model's.

    None, too, if there is no artifact.
    """
    if not is_folder(out):
        return None
    try:
        before = load_artifact(out).manifest.origin
    except UserError:
        return None
    return difference(before, model.weights.origin)


def parser() -> argparse.ArgumentParser:
    """Builds the argument parser of `python -m export`."""
    it = Parser(
        prog="python -m export",
        description="Export a vision-language model to another format and prove the result.",
    )
    it.add_argument(
        "model",
        metavar="MODEL|DIR",
        help="model to export: name in models.yaml, or folder of a checkpoint",
    )
    add_options(it)
    it.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write the exported model to this folder "
        "(default: build/<model>/<target>-<recipe>[-<layout>])",
    )
    return it


def add_options(it: argparse.ArgumentParser) -> None:
    """Add every option except the model and the folder of the artifact."""
    it.add_argument("--target", required=True, choices=TARGETS, help="file format to write")
    it.add_argument(
        "--recipe",
        required=True,
        choices=KNOWN,
        help="how many bits the weights are stored in; fp: floats, int: integers with scales, "
        "others: llama.cpp's mixes of that name, for gguf only",
    )
    it.add_argument(
        "--weights",
        choices=("hub", "synthetic"),
        help="weights to export. hub: trained weights, and MODEL may also be a repository of the "
        "Hugging Face hub, owner/name; synthetic: random weights of the real shapes "
        "(default: trained weights)",
    )
    it.add_argument(
        "--revision",
        help="commit, tag or branch of the model's repository on the Hugging Face hub "
        "(default: the one in models.yaml, otherwise main)",
    )
    it.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="which files are written and how they divide the network, for different clients "
        "(default: the best for the model's family and the target)",
    )
    it.add_argument(
        "--max-tiles",
        type=whole,
        metavar="N",
        help="let clients cut an image into at most N tiles, including the overview (1: do not "
        "cut; default: the model's own limit)",
    )
    how = it.add_argument_group("rounding to 4 bits")
    how.add_argument(
        "--rounding",
        choices=METHODS,
        help="how the scale of each block of 4-bit weights is found. search: try several, keep "
        "the best (default); nearest: compute one from the largest weight",
    )
    how.add_argument(
        "--calibrate",
        nargs="?",
        const=Path(),
        type=Path,
        metavar="QUESTIONS.jsonl",
        help="round 4-bit weights with GPTQ, calibrated on the questions in this file (without a "
        "file: PocketVLM's own questions); needs torch",
    )
    how.add_argument(
        "--budget-mb",
        type=above_zero,
        metavar="N",
        help="store the layers that 4 bits harm most in 8 bits, as many as an artifact of N MB "
        "(10^6 bytes) has room for; needs torch",
    )
    it.add_argument(
        "--no-verify",
        action="store_true",
        help="skip the proof, which compares the exported model's results with the checkpoint's",
    )
    it.add_argument(
        "--allow-drift",
        action="store_true",
        help="keep the exported model even if the proof finds too large differences from the "
        "checkpoint",
    )
    it.add_argument(
        "--offline",
        action="store_true",
        help="download nothing from the Hugging Face hub; use only its local cache",
    )
    it.add_argument(
        "--json",
        action="store_true",
        help="print the summary of the export as one JSON object instead of text",
    )


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


if __name__ == "__main__":
    sys.exit(main())
