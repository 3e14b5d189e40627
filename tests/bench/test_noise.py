"""Disturbances of a measurement become sentences; a quiet machine has none."""

from dataclasses import replace
from typing import Any

import pytest

from bench.analysis.noise import noise
from bench.machine.environment import Load
from bench.record import Outcome, Record
from runtimes.threads import Threads
from tests.bench.made import record, subject, timing

QUIET = Load(0.25, 10.0, busy_s=100.0, hz=3e9, throttled=0)


def quiet(**changes: Any) -> Record:
    made = record(subject("int4", 1.5), "fake", "latency", Outcome(timings=(timing(1, 8),) * 3))
    after = replace(QUIET, busy_s=102.0)
    return replace(made, before=QUIET, after=after, wall_s=2.0, cpu_s=2.0, **changes)


def test_a_quiet_machine_has_no_disturbances() -> None:
    assert noise(quiet()) == ()


SPREAD = replace(timing(1), token_s=(0.001, 0.002, 0.003, 0.004, 0.005))
DRIFT = (timing(1, 8), timing(1, 8), timing(1.2, 8))
NOISES = [
    ({"outcome": Outcome(timings=(SPREAD,))}, "decode steps vary by 33% (median absolute"),
    ({"outcome": Outcome(timings=DRIFT)}, "of the last request were 20% slower than those"),
    ({"after": replace(QUIET, busy_s=102.0, steal_s=10.4)}, "gave 10.0% of the CPU time"),
    ({"after": replace(QUIET, busy_s=103.0)}, "other processes used 0.5 CPUs"),
    ({"after": replace(QUIET, busy_s=102.0, throttled=3)}, "cores were throttled for heat 3×"),
    ({"after": replace(QUIET, busy_s=102.0, hz=2e9)}, "the clock fell from 3.00 to 2.00 GHz"),
    ({"outcome": Outcome(cpus=(0,))}, "2 threads shared 1 CPUs"),
]


@pytest.mark.parametrize(("change", "sentence"), NOISES)
def test_a_disturbance_is_a_sentence(change: dict[str, Any], sentence: str) -> None:
    (found,) = noise(replace(quiet(), **change))
    assert sentence in found


def test_a_busy_process_of_our_own_is_no_disturbance() -> None:
    lowered = Outcome(timings=quiet().outcome.timings, threads=Threads(1, "busy"))
    made = replace(quiet(), after=replace(QUIET, busy_s=103.0), outcome=lowered)
    used, threads = noise(made)
    assert used.startswith("other processes used 0.5 CPUs")
    assert threads == "computed with 1 thread (other processes used the CPUs)"
    beside = replace(made.case, options=replace(made.case.options, contended=True))
    assert noise(replace(made, case=beside)) == ()


def test_a_profile_with_more_threads_than_cpus_is_a_disturbance() -> None:
    made = quiet()
    (found,) = noise(replace(made, case=replace(made.case, profile="raspberry-pi-5")))
    assert found == "raspberry-pi-5 has 4 threads, but only 2 were available here"


def test_unknown_figures_are_not_disturbances() -> None:
    unknown = Load(None, None)
    assert noise(replace(quiet(), before=unknown, after=unknown, cpu_s=None)) == ()
