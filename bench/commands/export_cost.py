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
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.machine.environment import environment, load
from bench.record import append_line
from bench.reporting.fmt import megabytes, significant, table
from export.errors import UserError
from export.files import parse_json, short

PACKAGES = ("numpy", "onnx-ir", "onnxruntime", "torch", "gguf")
# Keys of the JSON object that an export prints (export/summary.py) which a line of the file has.
KEPT = (
    *("model", "synthetic", "target", "recipe", "layout", "total_bytes", "bits_per_weight"),
    *("writing_peak_bytes", "peak_bytes", "seconds", "proof"),
)
HEADER = (
    *("model", "weights", "as", "artifact", "bits per weight", "peak memory", "from outside"),
    *("with the proof", "time", "CPU time", "of others", "read from disk"),
)
BLOCK_BYTES = 512
"""Unit of getrusage's count of blocks read."""

ExportCost = Mapping[str, Any]


def export(arguments: Sequence[str]) -> tuple[int, ExportCost]:
    """Run `python -m export` with the arguments; return its exit code and its cost.

    The cost has figures that the export prints (KEPT), `environment`, and `outside`, what the
    system measured: wall_s, cpu_s, peak_bytes (the largest resident set, mapped files included),
    disk_read_bytes (0 if the checkpoint was in the page cache) and others_cpu_s, the CPU time of
    all other processes meanwhile (None: not known). It is {} if the export fails. Call it from a
    small process: Linux starts the child's largest resident set at the caller's current one.
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
            return process.returncode, {}
        facts = json.loads(printed.read_text())
    unit = 1 if sys.platform == "darwin" else 1024
    cpu_s = usage.ru_utime + usage.ru_stime
    others_s = None if busy is None or after is None else max(0.0, after - busy - cpu_s)
    outside = {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "others_cpu_s": others_s,
        "peak_bytes": usage.ru_maxrss * unit,
        "disk_read_bytes": usage.ru_inblock * BLOCK_BYTES,
    }
    row = {key: facts[key] for key in KEPT}
    return 0, row | {"outside": outside, "environment": asdict(environment(PACKAGES))}


def document(rows: Sequence[ExportCost]) -> str:
    """Write the content of EXPORTS.md: a markdown table with a row for each measured export."""
    cells = [_cells(row) for row in rows]
    machines = {
        f"{row['environment']['cpu']}, {row['environment']['usable_cpus']} CPUs" for row in rows
    }
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
    outside = row["outside"]
    layout = "" if row["layout"] == "native" else f" {row['layout']}"
    return (
        row["model"],
        "random" if row["synthetic"] else "checkpoint",
        f"{row['target']} {row['recipe']}{layout}",
        megabytes(row["total_bytes"]),
        significant(row["bits_per_weight"]),
        megabytes(row["writing_peak_bytes"]),
        megabytes(outside["peak_bytes"]),
        megabytes(row["peak_bytes"]) if row["proof"] else "no proof",
        f"{significant(outside['wall_s'])} s",
        f"{significant(outside['cpu_s'])} s",
        f"{significant(outside['others_cpu_s'])} s",
        megabytes(outside["disk_read_bytes"]),
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure one export, append its cost to the file and rewrite EXPORTS.md.

    Returns the export's exit code; if that is not 0, nothing is written. Raises UserError, before
    the export, for a file with a line that this command did not write, and if nothing can be
    written.
    """
    lines: Path = arguments.output
    before = _read(lines) if lines.exists() else []
    code, row = export([arguments.model, *arguments.options])
    if code == 0:
        try:
            _write(lines, [*before, row])
        except OSError as error:
            raise UserError(
                f"{lines}: cannot be written ({error.strerror}); choose another file with -o"
            ) from None
    return code


def _read(lines: Path) -> list[ExportCost]:
    """Return the costs in the file. Raises UserError if a line of it is something else."""
    rows: list[ExportCost] = []
    try:
        content = lines.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{lines}: cannot be read ({error.strerror}); choose another -o") from None
    for number, line in enumerate(content, start=1):
        if not line.strip():
            continue
        rows.append(parse_json(line, f"{lines}:{number}"))
        try:
            document(rows[-1:])
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise UserError(
                f"{lines}:{number}: is not a line of `bench export-cost` "
                f"({type(error).__name__} {short(str(error))}); remove it"
            ) from None
    return rows


def _write(lines: Path, rows: Sequence[ExportCost]) -> None:
    """Append the last of the rows to the file, and write all of them to EXPORTS.md."""
    lines.parent.mkdir(parents=True, exist_ok=True)
    with lines.open("ab+", buffering=0) as file:
        append_line(file, json.dumps(rows[-1]).encode() + b"\n")
    lines.with_name("EXPORTS.md").write_text(document(rows), encoding="utf-8")
