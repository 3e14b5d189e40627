"""How many threads a session computes with: by size, by what other processes do, by its waiting."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from export.artifact import Artifact
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.exporter import export_model
from export.model import Model
from runtimes import RUNTIMES
from runtimes.base import Request, Session, ThreadedSession
from runtimes.devices import affinity, fast_cpus
from runtimes.threads import SMALL_PARAMETERS, SWITCHES, Threads, ThreadWatch

SMALL = open_model("tiny-smolvlm").vlm
LARGE = replace(SMALL, text=replace(SMALL.text, intermediate=SMALL_PARAMETERS // SMALL.text.hidden))
SECOND = os.sysconf("SC_CLK_TCK")
CORES = max(affinity()) + 1


def system(folder: Path, busy_s: float, idle_s: float = 0.0) -> Path:
    """A folder like /proc in which each CPU has been busy and idle for so long."""
    line = f"{round(busy_s * SECOND)} 0 0 {round(idle_s * SECOND)} 0 0 0 0 0 0"
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text("".join(f"cpu{n} {line}\n" for n in range(CORES)))
    return folder


def spend(folder: Path, ran_s: float, waited_s: float) -> None:
    """Lets the process's threads have computed, and waited for a CPU, for so long."""
    task = folder / "self/task/1"
    task.mkdir(parents=True, exist_ok=True)
    (task / "schedstat").write_text(f"{round(ran_s * 1e9)} {round(waited_s * 1e9)} 7\n")


@pytest.mark.parametrize(
    ("busy_share", "most", "found"),
    [
        (0.0, 4, Threads(4, "free")),
        (0.4 / len(affinity()), 4, Threads(4, "free")),
        (1.0 / len(affinity()), 4, Threads(3, "busy")),
        (2.0 / len(affinity()), 4, Threads(2, "busy")),
        (1.0, 1, Threads(1, "free")),
    ],
)
def test_each_cpu_that_others_use_costs_a_thread(
    busy_share: float, most: int, found: Threads, tmp_path: Path
) -> None:
    watch = ThreadWatch(most, proc=system(tmp_path / "proc", busy_s=50))
    own_s = sum(os.times()[:2])
    system(tmp_path / "proc", 50 + 100 * busy_share, idle_s=100 * (1 - min(busy_share, 1)))
    watch.choose(LARGE)
    assert watch.threads == found
    assert sum(os.times()[:2]) - own_s < 1  # what this process computed does not count as others'


def test_a_moment_is_too_short_to_tell(tmp_path: Path) -> None:
    watch = ThreadWatch(4, proc=system(tmp_path / "proc", busy_s=50))
    system(tmp_path / "proc", busy_s=50.05)
    watch.choose(LARGE)
    assert watch.threads == Threads(4, "free")


@pytest.mark.parametrize("content", ["", "cpu0 1 2\n", "intr 5\n"])
def test_where_the_system_shows_nothing_all_threads_are_used(content: str, tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(content)
    for proc in (tmp_path, tmp_path / "nothing"):
        watch = ThreadWatch(4, proc=proc)
        watch.choose(LARGE)
        assert not watch.waited()
        assert watch.threads == Threads(4, "free")


def test_a_small_model_gets_one_thread_unless_more_are_asked_for() -> None:
    model = open_model("tiny-smolvlm")
    for fixed, found in ((False, Threads(1, "small")), (True, Threads(2, "asked"))):
        watch = ThreadWatch(2, fixed=fixed)
        RUNTIMES["reference"].open_session(model, threads=watch).close()
        assert watch.threads == found
    assert watch.again().threads == Threads(2, "asked")


def test_clocks_that_disagree_add_no_thread(tmp_path: Path) -> None:
    watch = ThreadWatch(2, proc=system(tmp_path / "proc", busy_s=50))
    system(tmp_path / "proc", busy_s=45, idle_s=10)
    watch.choose(LARGE)
    assert watch.threads == Threads(2, "free")


@pytest.mark.parametrize(
    ("switches", "ran_s", "waited_s", "lowered"),
    [
        (SWITCHES, 1.0, 1.0, True),
        (SWITCHES, 1.0, 0.1, False),
        (SWITCHES - 1, 1.0, 1.0, False),
        (None, 1.0, 1.0, False),
    ],
)
def test_waiting_for_a_cpu_costs_a_thread(
    switches: int | None, ran_s: float, waited_s: float, lowered: bool, tmp_path: Path
) -> None:
    found = iter([0, switches])
    spend(tmp_path, 5.0, 5.0)
    watch = ThreadWatch(3, proc=tmp_path, switches=lambda: next(found))
    spend(tmp_path, 5.0 + ran_s, 5.0 + waited_s)
    assert watch.waited() == lowered
    assert watch.threads == (Threads(2, "waited") if lowered else Threads(3, "free"))


CONTENDED = """
import threading
from runtimes.threads import ThreadWatch
import numpy as np

watch, stop = ThreadWatch(2), threading.Event()
def compute():
    while not stop.is_set():
        np.ones((300, 300)) @ np.ones((300, 300))
workers = [threading.Thread(target=compute) for _ in range(2)]
for worker in workers:
    worker.start()
found = any(not stop.wait(0.1) and watch.waited() for _ in range(100))
stop.set()
print(found, watch.threads)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads files of Linux")
def test_two_threads_on_one_cpu_are_seen_to_wait() -> None:
    cpu = min(affinity())
    done = subprocess.run(
        [sys.executable, "-c", CONTENDED],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
    )
    assert done.stdout.strip() == "True Threads(count=1, reason='waited')"


class Impatient(ThreadWatch):
    """Takes one thread off after a number of steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(2)
        self._left = steps

    def waited(self) -> bool:
        self._left -= 1
        if self._left == 0:
            self.threads = Threads(1, "waited")
        return self._left == 0


def tokens(session: Session, requests: Sequence[Request]) -> list[list[int | None]]:
    return [
        [event.token for event in session.generate(request) if event.kind == "token"]
        for request in requests
    ]


TARGETS = {"onnxruntime": "onnx", "llama_cpp": "gguf"}
PICTURE = Image.new("RGB", (32, 32), "red")
ASKED = [Request("how many?", (PICTURE,), max_tokens=8, reuse=n > 0) for n in range(2)]


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact | Model]:
    """What each runtime opens: the bundled SmolVLM, or an artifact of it."""
    folder = tmp_path_factory.mktemp("artifacts")
    model = open_model("tiny-smolvlm")
    artifacts = {
        runtime: export_model(
            model, target=target, recipe="int4", out=folder / target, verify=False
        )
        for runtime, target in TARGETS.items()
    }
    return {"reference": model, **artifacts}


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("runtime", ["onnxruntime", "llama_cpp", "reference"])
def test_an_answer_goes_on_with_fewer_threads(
    runtime: str, steps: int, subjects: dict[str, Artifact | Model]
) -> None:
    steady = RUNTIMES[runtime].open_session(subjects[runtime], threads=2)
    adapting = RUNTIMES[runtime].open_session(subjects[runtime], threads=2)
    watch = Impatient(steps)
    assert isinstance(adapting, ThreadedSession)
    adapting.adapt(watch)
    assert tokens(adapting, ASKED) == tokens(steady, ASKED)
    assert watch.threads == Threads(1, "waited")
    adapting.close()
    steady.close()


def test_a_decoder_that_changed_is_not_loaded_again(tmp_path: Path) -> None:
    artifact = export_model(
        open_model("tiny-smolvlm"), target="onnx", recipe="int4", out=tmp_path, verify=False
    )
    session = RUNTIMES["onnxruntime"].open_session(artifact, threads=2)
    assert isinstance(session, ThreadedSession)
    session.adapt(Impatient(3))
    with (tmp_path / "decoder_model_merged.onnx_data").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="changed since the export"):
        tokens(session, ASKED)
    session.close()


@pytest.mark.parametrize(
    ("capacities", "fast"),
    [
        ({}, 8),
        (dict.fromkeys(range(8), "1024"), 8),
        (dict(enumerate(["160"] * 4 + ["498"] * 2 + ["1024"] * 2)), 4),
        (dict(enumerate(["325"] * 3 + ["850"] * 4 + ["1024"])), 5),
    ],
)
def test_slow_cores_are_not_counted(
    capacities: dict[int, str], fast: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtimes.devices.affinity", lambda: frozenset(range(8)))
    for number, capacity in capacities.items():
        (tmp_path / f"cpu{number}").mkdir()
        (tmp_path / f"cpu{number}/cpu_capacity").write_text(capacity + "\n")
    assert len(fast_cpus(tmp_path)) == fast
