"""Limits of a job: cgroups are created where the system allows it, and removed."""

import os
from pathlib import Path

import pytest

from bench.jobs.limits import choose_cpus, memory_group, resident_bytes

USABLE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cgroups(tmp_path: Path, controllers: str) -> tuple[Path, Path]:
    """A tree like cgroup v2's with our process in /user/shell, and /proc/self/cgroup."""
    root = tmp_path / "cgroup"
    (root / "user" / "shell").mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory")
    (root / "user" / "cgroup.subtree_control").write_text(controllers)
    own = tmp_path / "own"
    own.write_text("0::/user/shell\n")
    return root, own


def test_a_group_is_created_next_to_ours_with_its_limit(tmp_path: Path) -> None:
    root, own = cgroups(tmp_path, "cpu memory")
    with memory_group(10**9, root, own) as group:
        assert group is not None
        assert group.path.parent == root / "user"
        assert (group.path / "memory.max").read_text() == "1000000000"
        assert (group.path / "memory.swap.max").read_text() == "0"
        assert not group.exceeded()
        (group.path / "memory.events").write_text("low 0\noom_kill 1\n")
        (group.path / "memory.peak").write_text("999999488\n")
        assert group.exceeded()
        assert group.peak_bytes() == 999999488


@pytest.mark.parametrize("controllers", ["", "cpu"])
def test_without_the_memory_controller_there_is_no_group(tmp_path: Path, controllers: str) -> None:
    with memory_group(10**9, *cgroups(tmp_path, controllers)) as group:
        assert group is None


def test_without_a_budget_there_is_no_group(tmp_path: Path) -> None:
    with memory_group(None, *cgroups(tmp_path, "memory")) as group:
        assert group is None


def test_in_version_1_a_group_is_created_inside_ours(tmp_path: Path) -> None:
    root, own = cgroups(tmp_path, "")
    (root / "memory" / "shell").mkdir(parents=True)
    own.write_text("5:cpu,cpuacct:/\n4:memory:/shell\n0::/user/shell\n")
    with memory_group(10**9, root, own) as group:
        assert group is not None
        assert group.path.parent == root / "memory" / "shell"
        assert (group.path / "memory.limit_in_bytes").read_text() == "1000000000"
        assert (group.path / "memory.memsw.limit_in_bytes").read_text() == "1000000000"
        assert not group.exceeded()
        (group.path / "memory.oom_control").write_text("oom_kill_disable 0\noom_kill 1\n")
        (group.path / "memory.max_usage_in_bytes").write_text("999999488\n")
        assert group.exceeded()
        assert group.peak_bytes() == 999999488


@pytest.mark.parametrize("own", ["4:memory:/x\n", ""])
def test_without_a_group_of_ours_none_is_created(tmp_path: Path, own: str) -> None:
    root, file = cgroups(tmp_path, "memory")
    file.write_text(own)
    with memory_group(10**9, root, file) as group:
        assert group is None


@pytest.mark.skipif(len(USABLE) < 2, reason="needs two CPUs")
def test_siblings_of_a_core_are_used_last(tmp_path: Path) -> None:
    for number in USABLE:
        place = tmp_path / f"cpu{number}" / "topology"
        place.mkdir(parents=True)
        first_core = number in USABLE[:2]
        (place / "thread_siblings_list").write_text("0-1" if first_core else str(number))
    order = choose_cpus(len(USABLE), tmp_path)
    assert order[-1] == USABLE[1]
    assert sorted(order) == USABLE


@pytest.mark.skipif(len(USABLE) < 2, reason="needs two CPUs")
def test_fast_cpus_are_used_first(tmp_path: Path) -> None:
    for number in USABLE:
        (tmp_path / f"cpu{number}").mkdir()
        capacity = "1024" if number == USABLE[-1] else "160"
        (tmp_path / f"cpu{number}/cpu_capacity").write_text(capacity)
    assert choose_cpus(1, tmp_path) == (USABLE[-1],)
    assert choose_cpus(len(USABLE), tmp_path) == (USABLE[-1], *USABLE[:-1])


def test_at_most_the_usable_cpus_are_chosen() -> None:
    assert len(choose_cpus(10_000)) == len(USABLE)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_an_ended_process_has_no_resident_set() -> None:
    assert (resident_bytes(os.getpid()) or 0) > 0
    assert resident_bytes(2**22 + 1) is None
