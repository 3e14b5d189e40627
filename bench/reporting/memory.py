"""A report's table of memory by phase. Rows in, blocks out; no block where nothing is known."""

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
    """The process's highest resident set within each phase; mapped files stated apart."""
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
    header = ["artifact", "runtime", *phase_titles, "PSS at the end", "files of it", "GPU at most"]
    explained = (
        "The highest resident set (VmHWM) within each phase, the process's interpreter and "
        "libraries included. PSS is what it alone has in memory and its share of what others have "
        "mapped, too; files are pages of PSS, such as weights read in place, that the system may "
        "drop and read again."
    )
    table = Table(*fmt.known(header, lines, left=2), left=2)
    return [table, Text(explained + _gpu_explained(rows))]


def _gpu_explained(rows: Sequence[Row]) -> str:
    """Whose figure the GPU's memory is."""
    on_gpu = [row for row in rows if row.device != "cpu" and row.latency]
    if not on_gpu:
        return ""
    said = " GPU memory is read at the end of each phase, as its driver counts it for the process"
    if any(row.latency and "card" in row.latency.device_sources() for row in on_gpu):
        said += (
            "; where it lists no processes, it is what the whole card gave away since the process "
            "began, when nobody else was listed on it"
        )
    if any(row.device_bytes is None for row in on_gpu):
        said += "; it is absent where the driver lists others and not this process, or nothing"
    return f"{said}."
