"""Names of devices, reasons why a GPU is unavailable, and the reference in bfloat16."""

import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from export.checkpoint.registry import open_model
from export.errors import UserError
from export.torch.run import resident
from runtimes import RUNTIMES, Runtime
from runtimes.base import Request
from runtimes.devices import CPU, Device, device_of, threads_for, usable_cpus
from runtimes.nvidia import BUILDS, Driver, built_with, load_linked, memory_errors, missing
from runtimes.prepare.request import preparer_of
from runtimes.proof.fidelity import Accumulator
from runtimes.proof.probes import probes
from runtimes.reference import ReferenceScorer, TorchBackend
from runtimes.session.loop import GreedySession

TWO = Driver(cuda_major=12, gpus=("A", "B"))


def test_device_names_are_parsed() -> None:
    assert device_of("cpu") == CPU
    assert device_of("cuda") == Device("cuda", 0)
    assert device_of("cuda:3") == Device("cuda", 3)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "CUDA", ""])
def test_unknown_device_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="there is cpu, cuda, or cuda:N"):
        device_of(name)


MEMBERS = {
    "version 2": "0::/a/b\n",
    "version 1": "7:memory:/a/b\n4:cpu,cpuacct:/a/b\n0::/\n",
}
CPUS: dict[str, tuple[str, dict[str, str], float]] = {  # membership, files, CPUs allowed
    "no cgroup": ("", {}, math.inf),
    "no limit": (MEMBERS["version 2"], {"a/b/cpu.max": "max 100000\n"}, math.inf),
    "a part of a CPU": (MEMBERS["version 2"], {"a/b/cpu.max": "50000 100000\n"}, 1),
    "a CPU and a half": (MEMBERS["version 2"], {"a/b/cpu.max": "150000 100000\n"}, 2),
    "the parent's limit": (
        MEMBERS["version 2"],
        {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "400000 100000\n"},
        1,
    ),
    "a container, which is told a path outside": (
        MEMBERS["version 2"],
        {"cpu.max": "100000 100000\n"},
        1,
    ),
    "another group's limit": (MEMBERS["version 2"], {"c/cpu.max": "100000 100000\n"}, math.inf),
    "version 1": (
        MEMBERS["version 1"],
        {
            "cpu,cpuacct/a/b/cpu.cfs_quota_us": "90000\n",
            "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
        },
        1,
    ),
    "version 1 without a limit": (
        MEMBERS["version 1"],
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        math.inf,
    ),
    "damaged": (MEMBERS["version 2"], {"cpu.max": "much\n", "a/cpu.max": "9 0\n"}, math.inf),
}


@pytest.mark.parametrize("name", CPUS)
def test_usable_cpus_are_those_that_cgroups_allow(name: str, tmp_path: Path) -> None:
    membership, files, allowed = CPUS[name]
    (tmp_path / "membership").write_text(membership)
    for path, content in files.items():
        (tmp_path / "cgroup" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / path).write_text(content)
    unlimited = usable_cpus(tmp_path / "none", tmp_path)
    found = usable_cpus(tmp_path / "membership", tmp_path / "cgroup")
    assert found == min(unlimited, allowed)


def test_threads_are_at_most_the_usable_cpus() -> None:
    cpus = usable_cpus()
    assert [threads_for(asked) for asked in (None, 1, cpus, cpus + 1, 999)] == [
        *(cpus, 1, cpus),
        *(cpus, cpus),
    ]


@pytest.mark.parametrize(
    ("index", "built_for", "driver", "said"),
    [
        (0, 12, TWO, None),
        (1, None, TWO, None),
        (2, 12, TWO, "there is no GPU 2, only 0, 1"),
        (0, 13, TWO, "runs CUDA 12 at most and torch needs CUDA 13; update the driver"),
        (0, 12, Driver(problem="there is no NVIDIA driver"), "there is no NVIDIA driver"),
    ],
)
def test_missing_driver_support_is_described_in_one_line(
    index: int, built_for: int | None, driver: Driver, said: str | None
) -> None:
    found = missing(index, "torch", built_for, driver)
    assert found is None if said is None else said in str(found)


@pytest.mark.parametrize(
    ("library", "file", "text", "major"),
    [
        ("torch", "version.py", "__version__ = '2.13.0'\ncuda: Optional[str] = '12.8'\n", 12),
        ("torch", "version.py", "cuda: Optional[str] = None\n", None),
        ("onnxruntime", "capi/build_and_package_info.py", 'cuda_version = "13.0"\n', 13),
        ("onnxruntime", "capi/other.py", "", None),
        ("llama_cpp", "version.py", "", None),
    ],
)
def test_cuda_version_is_read_from_a_librarys_files(
    library: str, file: str, text: str, major: int | None, tmp_path: Path
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert built_with(tmp_path, library) == major


def test_gpu_runtimes_give_one_line_why_a_gpu_is_unavailable() -> None:
    for name, row in RUNTIMES.items():
        if row.runs_on("cuda"):
            assert any(library in BUILDS for library in row.imports), name
            reason = row.unavailable(device="cuda:7")
            assert reason is not None
            assert "\n" not in reason


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("built", "loaded"), [("libggml-cuda.so", True), ("libggml-cpu.so", False)]
)
def test_cuda_libraries_are_loaded_from_nvidias_wheels(
    built: str, loaded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels, library = tmp_path / "nvidia" / "cu13" / "lib", tmp_path / "llama_cpp" / "lib"
    for folder in (wheels, library):
        folder.mkdir(parents=True)
    (library / built).touch()
    (library.parent / "__init__.py").touch()
    some = next(Path(np.__file__).parent.rglob("_multiarray_umath*.so"))
    shutil.copy(some, wheels / "libcudart.so.13")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in ("llama_cpp", "nvidia"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    load_linked("llama_cpp")
    assert (str(wheels) in Path("/proc/self/maps").read_text()) == loaded


def test_library_that_fails_to_load_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "libcudart.so.13: cannot open shared object file:\\nno such file"
    (tmp_path / "no_cudart.py").write_text(f'raise OSError("{said}")')
    monkeypatch.syspath_prepend(tmp_path)
    row = Runtime("runtimes.fake", targets=(), devices=("cuda",), imports=("no_cudart",))
    with pytest.raises(UserError) as error:
        row.preload()
    line = "no_cudart is installed and cannot be loaded: libcudart.so.13: cannot open shared object"
    assert str(error.value) == f"{line} file: no such file"


def test_only_out_of_memory_errors_become_user_errors() -> None:
    full = "CUDA out of memory. Tried to allocate 20.00 MiB"
    with (
        pytest.raises(UserError, match=r"^memory ran out while decoding \(CUDA out of memory"),
        memory_errors("while decoding"),
    ):
        raise RuntimeError(full)
    with pytest.raises(RuntimeError, match="a bug"), memory_errors("while decoding"):
        raise RuntimeError("a bug")


@pytest.mark.parametrize("name", ["tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl"])
def test_reference_in_bfloat16_stays_close_to_float32(name: str) -> None:
    """The GPU's precision on the CPU: bfloat16 has 8 significant bits, so errors of 2^-8."""
    model, exact = open_model(name), ReferenceScorer(open_model(name))
    weights = resident(model.weights, dtype=torch.bfloat16)
    backend = TorchBackend(model, weights, dtype=torch.bfloat16)
    session = GreedySession(backend, preparer_of(model), model.vlm.stop_token_ids)
    distance = Accumulator()
    for probe in probes(64)[:2]:
        request = Request(probe.question, probe.images, answer=exact.tokens(" no"), arrays=True)
        features = exact.features(request)
        expected = exact.score(request, features)
        events = list(session.generate(request))
        shown = next(event.features for event in events if event.features is not None)
        error = np.abs(shown - features).max() / np.abs(features).max()
        assert error < 2**-4  # through some twenty layers
        found = [event.logits for event in events if event.logits is not None]
        for p, q in zip(expected, found, strict=True):
            distance.add(p, q)
    assert distance.result().mean_kld < 0.01
