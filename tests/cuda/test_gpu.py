"""What only a GPU can show: parity, memory, errors and batches there. Run with -m cuda on one.

Each test ends with the figures it measured: pytest -m cuda tests/cuda -rP shows them.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bench.subjects import within_tiles
from export.artifact import Artifact, load_artifact
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.model import Model
from export.proof import Fidelity
from runtimes import RUNTIMES
from runtimes.base import Request, Session
from runtimes.nvidia import driver, memory
from runtimes.proof.fidelity import Accumulator
from runtimes.proof.probes import Probe, probes

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        RUNTIMES["reference"].unavailable(device="cuda") is not None,
        reason=str(RUNTIMES["reference"].unavailable(device="cuda")),
    ),
]
ROOT = Path(__file__).parents[2]
TWINS = ("tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl", "tiny-moondream")
MOST_NATS = 1e-3
GIB = 2**30
LEFT_BYTES = 3 * GIB // 2  # what a CUDA context and its libraries take, and little more
# Fills the card, says so, and waits for the end of its input.
HOLDER = f"""
import sys, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(free - {LEFT_BYTES}, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print("held", flush=True)
sys.stdin.read()
"""
# In a process of its own, whose first reading is from before it used the card.
ALLOCATING = f"""
import json
from functools import partial
from bench.machine.device_memory import DeviceMemory
from runtimes.nvidia import memory

readings = DeviceMemory(partial(memory, 0))
import torch
torch.zeros(1, device="cuda")
first = readings.now()
block = torch.zeros({2 * GIB}, dtype=torch.uint8, device="cuda")
print(json.dumps([first, readings.now()]))
"""


def opened(name: str) -> Model:
    """Whole images alone, as llama.cpp's own tower sees Moondream's."""
    model = within_tiles(open_model(name), 1)
    assert isinstance(model, Model)
    return model


def asked(name: str) -> list[Probe]:
    most = open_model(name).prompt.most_images
    return [probe for probe in probes(64) if most is None or len(probe.images) <= most]


def distance(name: str, session: Session) -> Fidelity:
    """From the reference in float32 on the CPU, along the probes' answers."""
    from runtimes.reference import ReferenceScorer

    scorer, found = ReferenceScorer(opened(name)), Accumulator()
    for probe in asked(name):
        request = Request(
            probe.question, probe.images, answer=scorer.tokens(probe.answer), arrays=True
        )
        expected = scorer.score(request, scorer.features(request))
        logits = [e.logits for e in session.generate(request) if e.logits is not None]
        for one, other in zip(expected, logits, strict=True):
            found.add(one, other)
    session.close()
    result = found.result()
    assert result is not None
    return result


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_the_reference_on_a_gpu_is_the_reference(name: str, kind: str) -> None:
    """bfloat16 has three bits less than float16: errors 8 times, divergences 64 times as large.

    On a CPU the twins' are up to 9e-6 in float16 and 5e-4 in bfloat16.
    """
    from runtimes.reference import open_session

    session = open_session(opened(name), threads=4, device="cuda", dtype=getattr(torch, kind))
    found = distance(name, session)
    print(f"{name} {kind}: {found}")
    assert found.mean_kld <= MOST_NATS


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The twins as GGUF in float16, made side by side."""
    folder = tmp_path_factory.mktemp("gguf")
    words = ("--target", "gguf", "--recipe", "fp16", "--layout", "native", "--no-verify")
    words = (*words, "--max-tiles", "1")
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "export", name, *words, "--out", str(folder / name)], cwd=ROOT
        )
        for name in TWINS
    ]
    assert [process.wait() for process in running] == [0] * len(TWINS)
    return {name: load_artifact(folder / name) for name in TWINS}


NEEDS_LLAMA = pytest.mark.skipif(
    RUNTIMES["llama_cpp"].unavailable(device="cuda") is not None,
    reason=str(RUNTIMES["llama_cpp"].unavailable(device="cuda")),
)


@NEEDS_LLAMA
@pytest.mark.parametrize("name", TWINS)
def test_llama_cpp_on_a_gpu_is_the_reference(name: str, artifacts: dict[str, Artifact]) -> None:
    session = RUNTIMES["llama_cpp"].open_session(artifacts[name], threads=4, device="cuda")
    found = distance(name, session)
    print(f"{name} gguf fp16 on llama.cpp: {found}")
    assert found.mean_kld <= MOST_NATS


@NEEDS_LLAMA
def test_llama_cpp_on_the_cpu_leaves_the_gpu_alone(artifacts: dict[str, Artifact]) -> None:
    before = memory(0)
    assert before is not None
    session = RUNTIMES["llama_cpp"].open_session(artifacts[TWINS[0]], threads=4, device="cpu")
    question = Request(" ".join(["what is in this image?"] * 30), max_tokens=2)
    assert len(list(session.generate(question))) > 2
    held = memory(0)
    session.close()
    assert held is not None
    print(f"used before {before.used_bytes:,}, meanwhile {held.used_bytes:,}")
    assert held.used_bytes - before.used_bytes < GIB // 100


@NEEDS_LLAMA
def test_a_gpu_that_llama_cpp_does_not_see_is_refused(artifacts: dict[str, Artifact]) -> None:
    with pytest.raises(UserError, match="sees no GPU 99"):
        RUNTIMES["llama_cpp"].open_session(artifacts[TWINS[0]], threads=4, device="cuda:99")


def test_the_drivers_figures_are_those_of_a_known_allocation() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATING], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (first, _), (second, source) = json.loads(done.stdout)
    print(f"{first:,} then {second:,} bytes, as the {source}'s")
    assert second - first == pytest.approx(2 * GIB, rel=0.02)


def test_a_gpu_that_is_not_there_is_one_line() -> None:
    count = len(driver().gpus)
    for name in ("reference", "llama_cpp", "onnxruntime"):
        if RUNTIMES[name].runs_on("cuda") and RUNTIMES[name].unavailable(device="cuda") is None:
            reason = RUNTIMES[name].unavailable(device=f"cuda:{count}")
            assert reason is not None
            assert reason.startswith(f"there is no GPU {count}, only 0")
    words = ["bench", "run", "tiny-smolvlm", "--runtime", "reference", "--task", "latency"]
    done = subprocess.run(
        [sys.executable, "-m", *words, "--device", f"cuda:{count}", "-o", "/dev/null"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert f"there is no GPU {count}" in done.stderr


@pytest.fixture
def full() -> Iterator[None]:
    """Another process holds the card but for LEFT_BYTES."""
    torch.cuda.empty_cache()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        holder.communicate("")


@NEEDS_LLAMA
@pytest.mark.usefixtures("full")
def test_memory_that_runs_out_in_load_is_said(artifacts: dict[str, Artifact]) -> None:
    from runtimes.llama_cpp.session import open_session

    with pytest.raises(UserError) as error:
        open_session(artifacts[TWINS[0]], threads=4, device="cuda", context=2**24)
    print(error.value)
    assert "memory" in str(error.value)


@pytest.mark.usefixtures("full")
def test_memory_that_runs_out_in_an_answer_is_a_failed_record(tmp_path: Path) -> None:
    from bench.record import read

    run = tmp_path / "run.jsonl"
    words = ["run", "moondream-2b", "--weights", "synthetic", "--runtime", "reference"]
    words += ["--task", "latency", "--rounds", "1", "--repeats", "1", "--decode-tokens", "2"]
    words += ["--device", "cuda", "--no-ceilings", "-o", str(run)]
    done = subprocess.run([sys.executable, "-m", "bench", *words], cwd=ROOT, check=False)
    (record,), _ = read([run])
    print(record.reason)
    assert (done.returncode, record.status) == (1, "failed")
    assert str(record.reason).startswith("memory ran out ")


def answers(session: Session, requests: Sequence[Request]) -> list[tuple[int, ...]]:
    return [
        tuple(e.token for e in session.generate(request) if e.token is not None)
        for request in requests
    ]


def together(session: Session, requests: Sequence[Request]) -> list[tuple[int, ...]]:
    found: list[list[int]] = [[] for _ in requests]
    for number, event in session.generate_each(requests):  # type: ignore[attr-defined]
        if event.token is not None:
            found[number].append(event.token)
    return [tuple(tokens) for tokens in found]


@pytest.mark.parametrize("name", TWINS)
def test_eight_answers_at_once_are_the_answers_one_by_one(name: str) -> None:
    from runtimes.reference import open_session

    shown = [probe.images for probe in probes(64)[:4]]
    questions = ("what color is the shape?", "is there a circle?")
    requests = [Request(q, images, max_tokens=8) for images in shown for q in questions]
    for kind in ("float32", "bfloat16"):
        session = open_session(
            open_model(name), threads=4, device="cuda", dtype=getattr(torch, kind)
        )
        alone, batched = answers(session, requests), together(session, requests)
        session.close()
        equal = sum(a == b for a, b in zip(alone, batched, strict=True))
        print(f"{name} {kind}: {equal} of {len(requests)} answers equal")
        assert kind == "bfloat16" or equal == len(requests)


def test_the_cards_ceilings_are_those_of_a_gpu() -> None:
    from bench.machine.gpu_ceilings import measure_gpu_ceilings

    found = measure_gpu_ceilings("cuda")
    print(found)
    assert found.problem is None
    assert found.copy_bytes_per_s is not None
    assert found.fp16_flops_per_s is not None
    assert found.copy_bytes_per_s > 1e11
    assert found.fp16_flops_per_s > 1e12
