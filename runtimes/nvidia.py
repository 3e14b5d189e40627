"""NVIDIA's GPUs as their driver tells of them (NVML): what is there, and what stands in the way.

Imports no CUDA library. What the driver does not tell is None. NOT aware of sessions or models.
"""

import ctypes
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from export.errors import UserError
from export.files import short

# library -> the file that only its CUDA build has
BUILDS: Mapping[str, str] = {
    "torch": "lib/libtorch_cuda.so",
    "onnxruntime": "capi/libonnxruntime_providers_cuda.so",
    "llama_cpp": "lib/libggml-cuda.so",
}
# library -> where it says which CUDA it was built with
VERSIONS: Mapping[str, str] = {
    "torch": "version.py",
    "onnxruntime": "capi/build_and_package_info.py",
}
LIBRARIES = (
    "libcudart.so.*", "libnvrtc.so.*", "libcublasLt.so.*", "libcublas.so.*", "libcurand.so.*",
    "libcufft.so.*", "libcudnn.so.*",
)  # fmt: skip
"""What ONNX Runtime's CUDA provider links or opens, those first that others need."""
LINKED: Mapping[str, tuple[str, ...]] = {
    "llama_cpp": ("libcudart.so.*", "libcublasLt.so.*", "libcublas.so.*"),
}
"""library -> what its CUDA build links itself: without it the library is not even imported."""
MEMORY = re.compile(
    r"out of memory|failed to allocate|ALLOC_FAILED|unable to allocate", re.IGNORECASE
)
CLOCKS = (1, 2)  # NVML_CLOCK_SM, NVML_CLOCK_MEM
# nvmlClocksThrottleReason…: those that disturb, without idling and clocks that someone has set
SLOWED: Mapping[int, str] = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "heat",
    0x40: "heat, by the hardware",
    0x80: "power brake",
}


@dataclass(frozen=True)
class Driver:
    """What NVML says of this machine; `problem` is why it says nothing."""

    cuda_major: int | None = None
    """The newest CUDA that the driver runs."""
    gpus: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Memory:
    """One GPU's at one moment."""

    own_bytes: int | None
    """Of this process; None where the driver does not list it: in a container it has other
    numbers."""
    used_bytes: int
    """Of all processes, and of the driver."""
    others: int
    """Further processes on it that the driver lists."""


@dataclass(frozen=True)
class State:
    """How one GPU runs at one moment."""

    sm_hz: float | None
    memory_hz: float | None
    celsius: float | None
    watts: float | None
    slowed: tuple[str, ...] = ()
    """Why it runs slower than it could; an idle one does not."""


def problem(index: int, library: str) -> str | None:
    """Why `library` cannot compute on the GPU number `index`, or None. Imports no CUDA library."""
    folder = _folder(library)
    if folder is None or not _has_cuda(folder, library):
        return f"{library} is built without CUDA here (make setup-cuda)"
    return missing(index, library, built_with(folder, library), driver())


def missing(index: int, library: str, cuda_major: int | None, found: Driver) -> str | None:
    """What the driver lacks for a library that was built with that CUDA, or None. Pure."""
    if found.problem is not None:
        return found.problem
    if index >= len(found.gpus):
        return f"there is no GPU {index}, only {', '.join(map(str, range(len(found.gpus))))}"
    if cuda_major and found.cuda_major and found.cuda_major < cuda_major:
        return (
            f"the NVIDIA driver runs CUDA {found.cuda_major} at most and {library} needs CUDA "
            f"{cuda_major}; update the driver"
        )
    return None


def built_with(folder: Path, library: str) -> int | None:
    """The major version of CUDA that a library was built with, read from its files."""
    file = folder / VERSIONS.get(library, "")
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8")
    found = re.search(r"""^cuda(?:_version)?\b[^=\n]*= *["'](\d+)""", text, re.MULTILINE)
    return int(found[1]) if found else None


def driver() -> Driver:
    """What NVML says now."""
    if find_spec("pynvml") is None:
        return Driver(problem="nvidia-ml-py is not installed (pip install 'pocket-vlm[cuda]')")
    with _nvml() as nvml:
        if nvml is None:
            return Driver(problem="there is no NVIDIA driver, or it does not answer")
        handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
        names = [nvml.nvmlDeviceGetName(handle) for handle in handles]
        visible = _visible(len(names))
        return Driver(
            nvml.nvmlSystemGetCudaDriverVersion_v2() // 1000,
            tuple(names[n] for n in visible if n < len(names)),
        )


def memory(index: int) -> Memory | None:
    """One GPU's memory now; None where its driver does not answer."""
    with _nvml() as nvml:
        return None if nvml is None else memory_of(nvml, _handle(nvml, index), os.getpid())


def memory_of(nvml: Any, handle: Any, process: int) -> Memory | None:
    """As NVML tells it; None where it does not."""
    try:
        rows = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        used = int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    except nvml.NVMLError:
        return None
    own = next((row.usedGpuMemory for row in rows if row.pid == process), None)
    return Memory(own, used, sum(row.pid != process for row in rows))


def state(index: int) -> State | None:
    """One GPU now; None where its driver does not answer."""
    with _nvml() as nvml:
        return None if nvml is None else state_of(nvml, _handle(nvml, index))


def state_of(nvml: Any, handle: Any) -> State:
    """As NVML tells it; what it does not is None."""

    def told(name: str, *arguments: int) -> float | None:
        try:
            return float(getattr(nvml, name)(handle, *arguments))
        except nvml.NVMLError:
            return None

    sm, memory_clock = (told("nvmlDeviceGetClockInfo", kind) for kind in CLOCKS)
    milliwatts = told("nvmlDeviceGetPowerUsage")
    bits = int(told("nvmlDeviceGetCurrentClocksThrottleReasons") or 0)
    return State(
        sm_hz=None if sm is None else sm * 1e6,
        memory_hz=None if memory_clock is None else memory_clock * 1e6,
        celsius=told("nvmlDeviceGetTemperature", 0),
        watts=None if milliwatts is None else milliwatts / 1e3,
        slowed=tuple(reason for bit, reason in SLOWED.items() if bits & bit),
    )


def load_linked(library: str) -> None:
    """Before it is imported: load what its CUDA build links. Of another build, nothing."""
    folder = _folder(library)
    if library in LINKED and folder is not None and _has_cuda(folder, library):
        load_libraries(LINKED[library])


def load_libraries(names: Sequence[str] = LIBRARIES) -> None:
    """Load CUDA's libraries from NVIDIA's wheels, for a library that does not look there itself.

    What is not in a wheel is left to the system's loader.
    """
    wheels = find_spec("nvidia")
    places = wheels.submodule_search_locations if wheels else None
    for name in names:
        found = next((file for place in places or () for file in Path(place).rglob(name)), None)
        if found is not None:
            with suppress(OSError):  # the library that needs it says so in its own words
                ctypes.CDLL(str(found))


@contextmanager
def memory_errors(step: str) -> Iterator[None]:
    """A library's own words for memory that is full become a UserError that names the step."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # ONNX Runtime's own errors are nothing more special
        expect_memory(str(error), step)
        raise


def expect_memory(words: str, step: str) -> None:
    """Raises UserError where a library's words say that memory, the GPU's or any, is full."""
    if MEMORY.search(words) is not None:
        said = short(" ".join(words.split()), 160)
        raise UserError(
            f"memory ran out {step} ({said}); ask for a smaller context, image or batch, or take a "
            f"smaller recipe"
        )


def _visible(count: int) -> tuple[int, ...]:
    """Which GPUs CUDA shows to this process, in its order; UUIDs are left to CUDA itself."""
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    if text is None or not re.fullmatch(r"\d+(,\d+)*|", text):
        return tuple(range(count))
    return tuple(int(number) for number in text.split(",") if number)


def _handle(nvml: Any, index: int) -> Any:
    return nvml.nvmlDeviceGetHandleByIndex(_physical(index))


def _physical(index: int) -> int:
    """NVML's number of the GPU that CUDA calls `index`."""
    visible = _visible(index + 1)
    return visible[index] if index < len(visible) else index


@contextmanager
def _nvml() -> Iterator[Any]:
    """The library, started; None where there is none or no driver."""
    if find_spec("pynvml") is None:
        yield None
        return
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _has_cuda(folder: Path, library: str) -> bool:
    return any(folder.glob(f"{BUILDS[library]}*"))  # some have a version behind


def _folder(library: str) -> Path | None:
    spec = find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])
