"""What a campaign prints: each finding with how to repeat it, and a table of all kinds."""

from collections.abc import Sequence

from tests.fuzz.kills import Killed
from tests.fuzz.watch import Tried

COLUMNS = ("kind", "inputs", "ok", "worse", "refused", "finding", "median s", "most s", "peak MB")


def finding_lines(one: Tried, seed: int) -> str:
    """A finding, what was broken, and how to repeat it."""
    return (
        f"finding {one.input}: {one.finding}\n"
        f"  broken: {one.said}\n"
        f"  command: {' '.join(one.words)[:300]}\n"
        f'  repeat: make fuzz SEED={seed} ONLY="{one.input}"\n'
    )


def table(tried: Sequence[Tried], seconds: float, seed: int) -> str:
    """A row for each kind, and one for all: verdicts, seconds and the most memory."""
    kinds = dict.fromkeys(one.input.kind for one in tried)
    rows = [_row(kind, [one for one in tried if one.input.kind == kind]) for kind in sorted(kinds)]
    rows += [_row("all", tried)] if tried else []
    lines = [COLUMNS, ("---",) + ("--:",) * (len(COLUMNS) - 1), *rows]
    processes = sum(one.input.as_process for one in tried)
    return (
        f"\n{len(tried)} inputs of seed {seed}, {processes} of them as real processes, "
        f"in {seconds:.0f} s\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    )


def kill_lines(killed: Sequence[Killed]) -> str:
    """A line for each command that was killed, and what that left half-written."""
    return "".join(
        f"{one.victim}: killed {one.kills} times, {one.late} of them after its end; "
        f"{len(one.problems)} problems\n" + "".join(f"  {problem}\n" for problem in one.problems)
        for one in killed
    )


def _row(name: str, tried: Sequence[Tried]) -> tuple[str, ...]:
    verdicts = [one.verdict for one in tried]
    seconds = sorted(one.seconds for one in tried)
    return (
        name,
        str(len(tried)),
        *(str(verdicts.count(verdict)) for verdict in ("ok", "worse", "refused", "finding")),
        f"{seconds[len(seconds) // 2]:.2f}",
        f"{seconds[-1]:.1f}",
        f"{max(one.peak_bytes for one in tried) / 1e6:.0f}",
    )
