"""Builds a report's table of peak memory in each phase of loading and answering."""

from collections.abc import Mapping, Sequence

from bench.analysis.rows import Row, names
from bench.machine.memory import PHASES
from bench.reporting import fmt
from bench.reporting.document import Block, Table, Text

PHASE_TITLES: Mapping[str, str] = {
    "start": "libraries imported",
    "loaded": "loading",
    "image": "image",
    "prefill": "prefill",
    "decode": "decode",
}


def memory(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of the peak memory in each phase (loading, image, prefill, decode).

    It has a line for each artifact and runtime, with PSS, mapped files and GPU memory at the end.
    [] without data.
    """
    lines = []
    for row, name in zip(rows, names(rows), strict=True):
        if row.latency:
            peaks = [row.latency.peak_bytes(phase) for phase in PHASES]
            parts = [row.latency.last_bytes(part) for part in ("pss_bytes", "file_bytes")]
            figures = (*peaks, *parts, row.latency.device_bytes())
            lines.append([name, row.runtime, *map(fmt.megabytes, figures)])
    if not lines:
        return []
    phase_titles = (PHASE_TITLES[phase] for phase in PHASES)
    header = [
        "artifact",
        "runtime",
        *phase_titles,
        "PSS at the end",
        "of which mapped files",
        "GPU memory",
    ]
    explained = (
        "The highest resident set (VmHWM) within each phase, with the process's interpreter and "
        "libraries. PSS is the memory that only this process uses plus its share of pages that "
        "others map as well. Mapped files are the part of PSS that the system may drop and read "
        "again, such as weights read in place."
    )
    table = Table(*fmt.known(header, lines, left=2), left=2)
    return [table, Text(explained + _gpu_explained(rows))]


def _gpu_explained(rows: Sequence[Row]) -> str:
    """Explains how GPU memory was read; "" if nothing was measured on a GPU."""
    on_gpu = [row for row in rows if row.device != "cpu" and row.latency]
    if not on_gpu:
        return ""
    source = " GPU memory is the driver's figure for the process, the highest at the end of a phase"
    if any(row.latency and "card" in row.latency.device_sources() for row in on_gpu):
        source += (
            "; where the driver lists no processes, it is the growth of the card's used memory "
            "since the process started, if no other process was listed"
        )
    if any(row.device_bytes is None for row in on_gpu):
        source += "; it is missing where the driver lists only other processes, or reports nothing"
    return f"{source}."
