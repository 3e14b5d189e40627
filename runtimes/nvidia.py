"""NVIDIA's GPUs as their driver tells of them (NVML): what is there, and what stands in the way.

Imports no CUDA library. What the driver does not tell is None. NOT aware of sessions or models.
"""

import ctypes
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from export.errors import UserError
from runtimes.devices import Device

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
MEMORY = re.compile(
    r"out of memory|failed to allocate|ALLOC_FAILED|unable to allocate", re.IGNORECASE
)


@dataclass(frozen=True)
class Driver:
    """What NVML says of this machine; `problem` is why it says nothing."""

    cuda_major: int | None = None
    """The newest CUDA that the driver runs."""
    gpus: tuple[str, ...] = ()
    problem: str | None = None


def problem(index: int, library: str) -> str | None:
    """Why `library` cannot compute on the GPU number `index`, or None. Imports no CUDA library."""
    folder = _folder(library)
    if folder is None or not (folder / BUILDS[library]).is_file():
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


def process_bytes(index: int) -> int | None:
    """What this process holds of one GPU's memory now; None where the driver does not know the
    process: in a container it has other numbers."""
    with _nvml() as nvml:
        if nvml is None:
            return None
        handle = nvml.nvmlDeviceGetHandleByIndex(_physical(index))
        try:
            rows = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except nvml.NVMLError:
            return None
        return next((row.usedGpuMemory for row in rows if row.pid == os.getpid()), None)


def load_libraries() -> None:
    """Load CUDA's libraries from NVIDIA's wheels, for a library that does not look there itself.

    What is not in a wheel is left to the system's loader.
    """
    wheels = find_spec("nvidia")
    places = wheels.submodule_search_locations if wheels else None
    for name in LIBRARIES:
        found = next((file for place in places or () for file in Path(place).rglob(name)), None)
        if found is not None:
            with suppress(OSError):  # the library that needs it says so in its own words
                ctypes.CDLL(str(found))


@contextmanager
def memory_errors(step: str, device: Device) -> Iterator[None]:
    """A library's own words for a GPU that is full become a UserError that names the step."""
    try:
        yield
    except Exception as error:  # ONNX Runtime's have no other base
        if device.kind == "cpu" or MEMORY.search(str(error)) is None:
            raise
        raise UserError(
            f"the GPU's memory ran out {step}; ask for a smaller context or image, or take a "
            f"smaller recipe"
        ) from error


def _visible(count: int) -> tuple[int, ...]:
    """Which GPUs CUDA shows to this process, in its order; UUIDs are left to CUDA itself."""
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    if text is None or not re.fullmatch(r"\d+(,\d+)*|", text):
        return tuple(range(count))
    return tuple(int(number) for number in text.split(",") if number)


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


def _folder(library: str) -> Path | None:
    spec = find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])
