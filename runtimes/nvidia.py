"""Reads the state of NVIDIA GPUs from their driver, through NVIDIA's management library (NVML).

Also says why a library cannot use a GPU, and loads the CUDA libraries of pip packages. Imports no
library that computes with CUDA. Values that the driver does not report are None.
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
# library -> its file that states the CUDA version it was built with
VERSIONS: Mapping[str, str] = {
    "torch": "version.py",
    "onnxruntime": "capi/build_and_package_info.py",
}
LIBRARIES = (
    "libcudart.so.*", "libnvrtc.so.*", "libcublasLt.so.*", "libcublas.so.*", "libcurand.so.*",
    "libcufft.so.*", "libcudnn.so.*",
)  # fmt: skip
"""File patterns of the libraries that ONNX Runtime's CUDA provider needs, in the order in which
they must be loaded."""
LINKED: Mapping[str, tuple[str, ...]] = {
    "llama_cpp": ("libcudart.so.*", "libcublasLt.so.*", "libcublas.so.*"),
}
"""Python library -> file patterns of CUDA libraries that its CUDA build links; unless they are
loaded, it cannot be imported."""
MEMORY = re.compile(
    r"out of memory|failed to allocate|ALLOC_FAILED|unable to allocate", re.IGNORECASE
)
CLOCKS = (1, 2)  # NVML_CLOCK_SM, NVML_CLOCK_MEM
# nvmlClocksThrottleReason…: those that disturb a measurement; idling and fixed clocks do not
SLOWED: Mapping[int, str] = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "heat",
    0x40: "heat, by the hardware",
    0x80: "power brake",
}


@dataclass(frozen=True)
class Driver:
    """What NVML reports about this machine's NVIDIA driver and GPUs.

    If NVML cannot be read, `problem` says why and the other fields are empty.
    """

    cuda_major: int | None = None
    """The newest major version of CUDA that the driver supports."""
    gpus: tuple[str, ...] = ()
    """Names of the GPUs that CUDA lists in this process, in CUDA's order."""
    problem: str | None = None
    """Why NVML cannot be read; None if it can."""


@dataclass(frozen=True)
class GpuMemory:
    """Memory in use on one GPU at one moment: by this process and by all of them."""

    own_bytes: int | None
    """Used by this process; None if the driver does not list the process, as in a container, where
    process ids differ."""
    used_bytes: int
    """Used by all processes and the driver together."""
    others: int
    """Number of other processes that the driver lists on this GPU."""


@dataclass(frozen=True)
class GpuState:
    """Clocks, temperature and power of one GPU at one moment; None for what is not reported."""

    sm_hz: float | None
    """Clock of the multiprocessors, which compute."""
    memory_hz: float | None
    """Clock of the GPU's memory."""
    celsius: float | None
    watts: float | None
    slowed: tuple[str, ...] = ()
    """Why its clocks are reduced (values of SLOWED), for example by heat; () if they are not.
    Idling is not a reason."""


def problem(index: int, library: str) -> str | None:
    """Returns why a Python library cannot compute on a GPU, in words; None if it can.

    `index`: the GPU's number in CUDA. `library`: a key of BUILDS. Imports no CUDA library.
    """
    folder = _folder(library)
    if folder is None or not _has_cuda(folder, library):
        return f"{library} is built without CUDA here (make setup-cuda)"
    return missing(index, library, built_with(folder, library), driver())


def missing(index: int, library: str, cuda_major: int | None, driver: Driver) -> str | None:
    """Returns why a library cannot compute on GPU `index` with this driver; None if it can.

    `cuda_major`: the CUDA version that the library was built with (None: not compared). Pure: reads
    nothing but its arguments.
    """
    if driver.problem is not None:
        return driver.problem
    if index >= len(driver.gpus):
        return f"there is no GPU {index}, only {', '.join(map(str, range(len(driver.gpus))))}"
    if cuda_major and driver.cuda_major and driver.cuda_major < cuda_major:
        return (
            f"the NVIDIA driver runs CUDA {driver.cuda_major} at most and {library} needs CUDA "
            f"{cuda_major}; update the driver"
        )
    return None


def built_with(folder: Path, library: str) -> int | None:
    """Returns the major CUDA version that a Python library was built with.

    Reads it from a file in the library's `folder`; None if no file states it.
    """
    file = folder / VERSIONS.get(library, "")
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8")
    match = re.search(r"""^cuda(?:_version)?\b[^=\n]*= *["'](\d+)""", text, re.MULTILINE)
    return int(match[1]) if match else None


def driver() -> Driver:
    """Returns what NVML reports now about the driver and the GPUs.

    Where NVML cannot be read, only `problem` is set.
    """
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


def memory(index: int) -> GpuMemory | None:
    """Returns the memory in use on a GPU now; None if NVML cannot be read.

    `index`: the GPU's number in CUDA.
    """
    with _nvml() as nvml:
        return None if nvml is None else memory_of(nvml, _handle(nvml, index), os.getpid())


def memory_of(nvml: Any, handle: Any, process: int) -> GpuMemory | None:
    """Returns the memory in use on the GPU of an NVML handle; None on an NVML error.

    `process`: id of the process whose memory is `GpuMemory.own_bytes`.
    """
    try:
        rows = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        used = int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    except nvml.NVMLError:
        return None
    own = next((row.usedGpuMemory for row in rows if row.pid == process), None)
    return GpuMemory(own, used, sum(row.pid != process for row in rows))


def state(index: int) -> GpuState | None:
    """Returns a GPU's clocks, temperature and power now; None if NVML cannot be read.

    `index`: the GPU's number in CUDA.
    """
    with _nvml() as nvml:
        return None if nvml is None else state_of(nvml, _handle(nvml, index))


def state_of(nvml: Any, handle: Any) -> GpuState:
    """Returns clocks, temperature and power of the GPU of an NVML handle.

    A value that NVML does not report is None.
    """

    def read(name: str, *arguments: int) -> float | None:
        try:
            return float(getattr(nvml, name)(handle, *arguments))
        except nvml.NVMLError:
            return None

    sm, memory_clock = (read("nvmlDeviceGetClockInfo", kind) for kind in CLOCKS)
    milliwatts = read("nvmlDeviceGetPowerUsage")
    bits = int(read("nvmlDeviceGetCurrentClocksThrottleReasons") or 0)
    return GpuState(
        sm_hz=None if sm is None else sm * 1e6,
        memory_hz=None if memory_clock is None else memory_clock * 1e6,
        celsius=read("nvmlDeviceGetTemperature", 0),
        watts=None if milliwatts is None else milliwatts / 1e3,
        slowed=tuple(reason for bit, reason in SLOWED.items() if bits & bit),
    )


def load_linked(library: str) -> None:
    """Loads the CUDA libraries that a Python library links; must be called before it is imported.

    `library`: the Python library's name. Does nothing if it is not in LINKED or built without CUDA.
    """
    folder = _folder(library)
    if library in LINKED and folder is not None and _has_cuda(folder, library):
        load_libraries(LINKED[library])


def load_libraries(names: Sequence[str] = LIBRARIES) -> None:
    """Loads CUDA libraries from NVIDIA's pip packages, for code that does not search these itself.

    `names`: file patterns, in the order in which to load them; the first file that matches each is
    loaded. A library that no package contains, or that fails to load, is skipped without an error.
    """
    wheels = find_spec("nvidia")
    folders = wheels.submodule_search_locations if wheels else None
    for name in names:
        files = (file for folder in folders or () for file in Path(folder).rglob(name))
        file = next(files, None)
        if file is not None:
            with suppress(OSError):  # the library that needs it reports the error later
                ctypes.CDLL(str(file))


@contextmanager
def memory_errors(step: str) -> Iterator[None]:
    """Context manager: turns an out-of-memory error of any library into a UserError.

    `step` says when it happened, such as "while the model was loaded". Other errors pass through.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no narrower base class
        raise_if_out_of_memory(str(error), step)
        raise


def raise_if_out_of_memory(message: str, step: str) -> None:
    """Raises UserError if a library's error message says that GPU or host memory is exhausted.

    `step` says when it happened, such as "while decoding". Otherwise does nothing.
    """
    if MEMORY.search(message) is not None:
        said = short(" ".join(message.split()), 160)
        raise UserError(
            f"memory ran out {step} ({said}); ask for a smaller context, image or batch, or take a "
            f"smaller recipe"
        )


def _visible(count: int) -> tuple[int, ...]:
    """Returns NVML's indices of the GPUs that CUDA lists in this process, in CUDA's order.

    `count`: number of GPUs; all are listed if CUDA_VISIBLE_DEVICES is not set. The variable is
    ignored, too, if it contains UUIDs.
    """
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    if text is None or not re.fullmatch(r"\d+(,\d+)*|", text):
        return tuple(range(count))
    return tuple(int(number) for number in text.split(",") if number)


def _handle(nvml: Any, index: int) -> Any:
    return nvml.nvmlDeviceGetHandleByIndex(_physical(index))


def _physical(index: int) -> int:
    """Returns NVML's index of the GPU that CUDA calls number `index`."""
    visible = _visible(index + 1)
    return visible[index] if index < len(visible) else index


@contextmanager
def _nvml() -> Iterator[Any]:
    """Context manager: yields the initialised pynvml module, shut down at the end.

    Yields None if pynvml is not installed or there is no driver.
    """
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
    return any(folder.glob(f"{BUILDS[library]}*"))  # some names end with a version


def _folder(library: str) -> Path | None:
    spec = find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])
