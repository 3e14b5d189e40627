"""`bench export-cost`: measures the time and the peak memory of one export.

The export runs in a process of its own; its own figures are recorded as well as the system's. Its
artifact is deleted. The command appends a line to exports.jsonl and writes the table of all lines
to EXPORTS.md next to it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bench.machine.environment import Environment, environment, load
from bench.record import append_line
from bench.reporting.fmt import in_bytes, megabytes, significant, table
from export.decode import decode
from export.errors import UserError
from export.files import json_lines, json_value, short
from export.manifest import MANIFEST
from export.proof import Proof

PACKAGES = ("numpy", "onnx-ir", "onnxruntime", "torch", "gguf")
HEADER = (
    *("model", "weights", "as", "artifact", "bits per weight", "peak memory", "from outside"),
    *("with the proof", "time", "CPU time", "of others", "read from disk"),
)
BLOCK_BYTES = 512
"""Unit of getrusage's count of blocks read."""


@dataclass(frozen=True)
class Outside:
    """What the system measured of an export's process.

    peak_bytes: its largest resident set, mapped files included. disk_read_bytes: 0 if the
    checkpoint was in the page cache. others_cpu_s: CPU time of all other processes meanwhile; None:
    not known.
    """

    wall_s: float
    cpu_s: float
    others_cpu_s: float | None
    peak_bytes: int
    disk_read_bytes: int


@dataclass(frozen=True)
class ExportCost:
    """What one export took, a line of the file.

    Up to `proof` its fields are keys of the JSON object that an export prints (export/summary.py).
    """

    model: str
    synthetic: bool
    target: str
    recipe: str
    layout: str
    total_bytes: int
    bits_per_weight: float
    writing_peak_bytes: int
    peak_bytes: int
    seconds: float
    proof: Proof | None
    outside: Outside
    environment: Environment


def export(arguments: Sequence[str]) -> tuple[int, ExportCost | None]:
    """Run `python -m export` with the arguments; return its exit code and its cost.

    The cost is None if the export fails. Call it from a small process: Linux starts the child's
    largest resident set at the caller's current one. Raises UserError if the export ends well but
    writes nothing.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out, printed = Path(scratch) / "artifact", Path(scratch) / "facts.json"
        command = [sys.executable, "-m", "export", *arguments, "--json", "--out", str(out)]
        busy, begun = load().busy_s, time.perf_counter()
        with printed.open("wb") as file, subprocess.Popen(command, stdout=file) as process:
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - begun
            after = load().busy_s
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            return process.returncode, None
        if not (out / MANIFEST).exists():
            raise UserError(
                "the export wrote nothing with these options; leave out those that only print, "
                "such as --help"
            )
        facts = json.loads(printed.read_text())
    unit = 1 if sys.platform == "darwin" else 1024
    cpu_s = usage.ru_utime + usage.ru_stime
    others_s = None if busy is None or after is None else max(0.0, after - busy - cpu_s)
    peak_bytes, disk_read_bytes = usage.ru_maxrss * unit, usage.ru_inblock * BLOCK_BYTES
    outside = Outside(wall_s, cpu_s, others_s, peak_bytes, disk_read_bytes)
    measured = {"outside": asdict(outside), "environment": asdict(environment(PACKAGES))}
    row = {field.name: facts[field.name] for field in fields(ExportCost) if field.name in facts}
    return 0, decode(ExportCost, json.loads(json.dumps(row | measured)))


def read(path: Path) -> list[ExportCost]:
    """Read the costs of a file's lines; [] if there is no such file yet.

    Raises UserError for the first line that is not one.
    """
    costs = []
    for number, line in json_lines(path) if path.exists() else ():
        try:
            costs.append(decode(ExportCost, json_value(line)))
        except ValueError as error:
            raise UserError(
                f"{path}:{number}: is not the cost of an export ({short(str(error))}); remove the "
                f"line or name another file with -o"
            ) from None
    return costs


def document(rows: Sequence[ExportCost]) -> str:
    """Write the content of EXPORTS.md: a markdown table with a row for each measured export."""
    cells = [_cells(row) for row in rows]
    machines = {f"{row.environment.cpu}, {row.environment.usable_cpus} CPUs" for row in rows}
    return (
        "# What exports take\n\n"
        "Written by `bench export-cost` from exports.jsonl beside it. Peak memory is that of "
        "writing, as the export prints it; from outside, it is the largest resident set of the "
        "process, mapped files included, the proof too where there was one. Where others took CPU "
        "time, the export waited for them. Nothing read from the disk: the checkpoint was in the "
        "page cache, or weights were random ones made on the way.\n"
        f"\nMachine: {'; '.join(sorted(machines))}.\n\n{table(HEADER, cells)}\n"
    )


def _cells(row: ExportCost) -> tuple[str, ...]:
    outside = row.outside
    layout = "" if row.layout == "native" else f" {row.layout}"
    return (
        row.model,
        "random" if row.synthetic else "checkpoint",
        f"{row.target} {row.recipe}{layout}",
        megabytes(row.total_bytes),
        significant(row.bits_per_weight),
        megabytes(row.writing_peak_bytes),
        megabytes(outside.peak_bytes),
        megabytes(row.peak_bytes) if row.proof else "no proof",
        f"{significant(outside.wall_s)} s",
        f"{significant(outside.cpu_s)} s",
        f"{significant(outside.others_cpu_s)} s",
        megabytes(outside.disk_read_bytes),
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure one export, append its cost to the file and rewrite EXPORTS.md.

    Returns the export's exit code; if that is not 0, nothing is written. Raises UserError, before
    the export, for a file with a line that this command did not write, and if nothing can be
    written.
    """
    lines: Path = arguments.output
    before = read(lines)
    code, row = export([arguments.model, *arguments.options])
    if row is not None:
        try:
            _write(lines, [*before, row])
        except OSError as error:
            raise UserError(
                f"{lines}: cannot be written ({error.strerror}); choose another file with -o"
            ) from None
    return code


def _write(lines: Path, rows: Sequence[ExportCost]) -> None:
    """Append the last of the rows to the file, and write all of them to EXPORTS.md."""
    lines.parent.mkdir(parents=True, exist_ok=True)
    with lines.open("ab+", buffering=0) as file:
        append_line(file, json.dumps(asdict(rows[-1])).encode() + b"\n")
    lines.with_name("EXPORTS.md").write_bytes(in_bytes(document(rows)))
