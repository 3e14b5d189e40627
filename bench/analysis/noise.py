"""Describes disturbances of a measurement in sentences; nothing is corrected or left out.

From the limits below on, a disturbance could hide a difference of a few per cent.
"""

from collections.abc import Iterator, Sequence
from statistics import median

from bench.machine.profiles import PROFILES
from bench.machine.threads import described
from bench.measure import Timing
from bench.record import Case, Outcome, Record

SPREAD = 0.05  # median absolute deviation over median, of decode steps
DRIFT = 0.05  # of the last request's median step against the first's
STEAL = 0.01  # of the CPUs' time that a hypervisor gave to others
OTHERS = 0.05  # of one CPU, used by other processes
SLOWED = 0.9  # clock after against before
SHORTEST_S = 1.0  # ticks of /proc/stat are 10 ms: too coarse for shorter jobs


def noise(record: Record) -> tuple[str, ...]:
    """Returns a sentence for each disturbance of a job, such as uneven times or a busy machine."""
    timings = record.outcome.timings
    machine, profile = _machine(record), _profile(record.case, record.outcome)
    return (*_samples(timings), *machine, *profile, *_threads(record))


def _samples(timings: Sequence[Timing]) -> Iterator[str]:
    steps = [step for timing in timings for step in timing.token_s]
    if len(steps) < 3:
        return
    middle = median(steps)
    spread = median(abs(step - middle) for step in steps) / middle if middle else 0.0
    if spread > SPREAD:
        yield f"decode steps vary by {spread:.0%} (median absolute deviation of {len(steps)})"
    first, last = (median(timings[n].token_s or [0.0]) for n in (0, -1))
    if first and abs(last / first - 1) > DRIFT:
        change = f"{abs(last / first - 1):.0%} {'slower' if last > first else 'faster'}"
        yield f"decode steps of the last request were {change} than those of the first"


def _machine(record: Record) -> Iterator[str]:
    before, after, wall_s = record.before, record.after, record.wall_s or 0.0
    cpus = record.environment.usable_cpus or 1
    if wall_s > SHORTEST_S and before.steal_s is not None and after.steal_s is not None:
        share = (after.steal_s - before.steal_s) / (wall_s * cpus)
        if share > STEAL:
            yield f"the hypervisor gave {share:.1%} of the CPU time to other machines (steal)"
    if wall_s > SHORTEST_S and None not in (before.busy_s, after.busy_s, record.cpu_s):
        used = (after.busy_s or 0.0) - (before.busy_s or 0.0) - (record.cpu_s or 0.0)
        if used / wall_s > OTHERS and not record.case.options.contended:
            yield f"other processes used {used / wall_s:.2g} CPUs during the job"
    if after.throttled is not None and after.throttled > (before.throttled or 0):
        yield f"cores were throttled for heat {after.throttled - (before.throttled or 0)}×"
    if before.hz and after.hz and after.hz < SLOWED * before.hz:
        yield f"the clock fell from {before.hz / 1e9:.2f} to {after.hz / 1e9:.2f} GHz"
    gpu = record.outcome.gpu_after
    if gpu is not None and gpu.slowed:
        yield f"the GPU was throttled at the end ({', '.join(gpu.slowed)})"


def _threads(record: Record) -> Iterator[str]:
    threads, contended = record.outcome.threads, record.case.options.contended
    if threads is not None and threads.reason in ("busy", "waited") and not contended:
        yield f"computed with {described(threads)}"


def _profile(case: Case, outcome: Outcome) -> Iterator[str]:
    profile = PROFILES.get(case.profile or "")
    if profile is not None and case.threads < profile.threads:
        wanted = f"{case.profile} has {profile.threads} threads"
        yield f"{wanted}, but only {case.threads} were available here"
    if outcome.cpus is not None and len(outcome.cpus) < case.threads:
        yield f"{case.threads} threads shared {len(outcome.cpus)} CPUs"
