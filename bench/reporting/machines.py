"""Builds a report's section on the machines that were measured on, and how busy they were."""

from collections.abc import Sequence

from bench.analysis.machines import machines
from bench.machine.environment import Environment
from bench.record import Record
from bench.reporting import fmt
from bench.reporting.document import Block, Heading, Table
from runtimes.nvidia import GpuState


def short_name(environment: Environment) -> str:
    """Describes a machine in half a line: CPU, how many, memory, GPUs and operating system."""
    e = environment
    size = "" if e.memory_bytes is None else f", {e.memory_bytes / 1e9:.0f} GB"
    gpus = "".join(f", {gpu}" for gpu in e.gpus)
    return f"{e.cpu or e.architecture}, {e.usable_cpus or fmt.ABSENT} CPUs{size}{gpus}, {e.system}"


def machines_section(records: Sequence[Record]) -> list[Block]:
    """Builds a table per machine: its hardware, software versions, and load during the jobs."""
    environments = machines(records)
    blocks: list[Block] = []
    for number, environment in enumerate(environments, start=1):
        same = [r for r in records if _same(r.environment, environment)]
        lines = _environment(environment) + _busy(same)
        blocks += [Heading(3, f"Machine {number}")] if len(environments) > 1 else []
        blocks.append(Table(["", ""], lines, left=2))
    return (
        [Heading(2, "Machine" if len(environments) == 1 else "Machines"), *blocks]
        if environments
        else []
    )


def _same(first: Environment, second: Environment) -> bool:
    return first.unmeasured() == second.unmeasured()


def _pinned(records: Sequence[Record]) -> str:
    """Lists the logical CPUs that the jobs' processes were pinned to, as text."""
    sets = dict.fromkeys(r.outcome.cpus for r in records if r.outcome.cpus)
    named = ["CPU " + fmt.listed([str(cpu) for cpu in cpus]) for cpus in sets]
    return "; ".join(named) or "not known"


def _environment(e: Environment) -> list[list[str]]:
    clock = f"{e.max_hz / 1e9:.2f} GHz at most" if e.max_hz else None
    governor = f"governor {e.governor}" if e.governor else None
    packages = ", ".join(f"{name} {version}" for name, version in e.packages.items())
    frequency = ", ".join(part for part in (clock, governor) if part)
    return [
        ["CPU", f"{e.cpu or 'unknown'} ({e.architecture})"],
        ["cores", f"{e.cores or fmt.ABSENT} physical, {e.usable_cpus or fmt.ABSENT} usable CPUs"],
        ["instructions", " ".join(e.cpu_flags) or fmt.ABSENT],
        ["frequency", frequency or "not readable here"],
        ["memory", "not known" if e.memory_bytes is None else f"{e.memory_bytes / 1e9:.1f} GB"],
        *([["GPU", "; ".join((*e.gpus, f"driver {e.gpu_driver}"))]] if e.gpus else []),
        ["system", e.system],
        ["Python", e.python],
        ["packages", packages or fmt.ABSENT],
        ["PocketVLM revision", e.revision or "not a checkout"],
    ]


def _gpu(states: Sequence[GpuState]) -> list[list[str]]:
    """Returns a table line with ranges of GPU clocks, temperature and power just after the jobs."""
    figures = [
        _span([s.sm_hz and s.sm_hz / 1e6 for s in states], "MHz"),
        _span([s.memory_hz and s.memory_hz / 1e6 for s in states], "MHz of memory"),
        _span([s.celsius for s in states], "°C"),
        _span([s.watts for s in states], "W"),
    ]
    text = ", ".join(figure for figure in figures if figure)
    return [["GPU at the end of a job", text]] if text else []


def _span(numbers: Sequence[float | None], unit: str) -> str:
    known = [number for number in numbers if number is not None]
    if not known:
        return ""
    low, high = (f"{number:,.0f}" for number in (min(known), max(known)))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def _busy(records: Sequence[Record]) -> list[list[str]]:
    ran = [record for record in records if record.wall_s is not None]
    loads = [r.before.load_1m for r in ran if r.before.load_1m is not None]
    stolen = [
        r.after.steal_s - r.before.steal_s
        for r in ran
        if r.after.steal_s is not None and r.before.steal_s is not None
    ]
    wall = sum(record.wall_s or 0 for record in ran)
    lines = [["jobs pinned to", _pinned(ran)]]
    lines += _gpu([state for r in ran if (state := r.outcome.gpu_after)])
    if loads:
        span = f"{min(loads):.2f} to {max(loads):.2f}"
        lines.append(["load average (1 min) before a job", span])
    if stolen:
        lines.append(
            ["CPU time stolen by the hypervisor", f"{sum(stolen):.2f} CPU s in {wall:.0f} s"]
        )
    return lines
