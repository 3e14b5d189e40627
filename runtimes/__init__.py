"""Runtimes: open an artifact or a checkpoint and ask it questions.

    import runtimes

    answer = runtimes.ask("build/tiny-smolvlm/onnx-int4", "picture.png", "what color is it?")
    print(answer.text)

RUNTIMES is the table of them: what each one opens and where its code is. Importing this package
imports no runtime's library. NOT aware of how long an answer takes.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, cast

from export.artifact import Artifact
from export.errors import UserError
from export.files import short
from export.lazy import importing
from export.model import Model
from runtimes.base import Event, Request, Session
from runtimes.devices import device_of
from runtimes.nvidia import BUILDS, load_linked, problem

__all__ = [
    "RUNTIMES",
    "Answer",
    "Event",
    "Request",
    "Runtime",
    "Session",
    "ask",
    "load_image",
    "open_session",
]

if TYPE_CHECKING:
    from runtimes.answer import Answer, ask, open_session
    from runtimes.prepare.image import load_image
else:
    __getattr__ = importing(
        __name__,
        {
            "Answer": "runtimes.answer",
            "ask": "runtimes.answer",
            "load_image": "runtimes.prepare.image",
            "open_session": "runtimes.answer",
        },
    )

ANY_TARGET = "*"
GPU_VALUE_BYTES = 2
# module -> the extra of pyproject.toml that brings it, where they are called differently
EXTRAS: Mapping[str, str] = {
    "llama_cpp": "llama-cpp",
    "onnxruntime_genai": "peers",
    "torch": "reference",
}


@dataclass(frozen=True)
class Runtime:
    """One runtime: `module` offers `open_session(subject, *, threads, device) -> Session`."""

    module: str
    targets: tuple[str, ...]
    devices: tuple[str, ...]
    takes: Literal["artifact", "checkpoint"] = "artifact"
    imports: tuple[str, ...] = ()
    """Modules it needs. Imported before the clock runs, so that loading is only loading."""
    layouts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of the artifacts it opens, those that it runs on a kind of device; not named: all."""
    imports_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Layouts that need more of them."""
    distributions: tuple[str, ...] = ()
    """What they are called on PyPI; their versions belong to every measurement."""
    hidden: bool = False
    """True for runtimes that are only used when asked for by name."""
    ours: bool = True
    """Whether what it measures is PocketVLM, and not a peer or a test's."""
    cache_value_bytes: int = 4
    """What a key or a value takes in its cache on the CPU."""
    batches: bool = False
    """Whether its sessions are runtimes.base.BatchSession."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the process's environment, set before its libraries are loaded."""

    def opens(self, target: str | None) -> bool:
        """Whether it opens artifacts of `target`; None stands for a checkpoint."""
        if target is None:
            return self.takes == "checkpoint"
        return target in self.targets or ANY_TARGET in self.targets

    def unavailable(self, layout: str | None = None, device: str = "cpu") -> str | None:
        """Why it cannot be used here (for artifacts of a layout), or None. Imports nothing."""
        where = device_of(device)
        layouts = self.layouts.get(where.kind)
        if layout is not None and layouts is not None and layout not in layouts:
            return f"on {device} it runs layout {' or '.join(layouts)}, and this is {layout}"
        absent = [name for name in self._needed(layout) if find_spec(name) is None]
        if not absent:
            problems = (problem(where.index, name) for name in self.imports if name in BUILDS)
            return next(filter(None, problems), None) if where.kind == "cuda" else None
        extras = ",".join(EXTRAS.get(name, name) for name in absent)
        return f"{', '.join(absent)} is not installed (pip install 'pocket-vlm[{extras}]')"

    def open_session(
        self, subject: Artifact | Model, *, threads: int, device: str = "cpu"
    ) -> Session:
        """Load an artifact (or a checkpoint, see `takes`). Raises UserError where it cannot."""
        self.preload()
        function = importlib.import_module(self.module).open_session
        return cast(Session, function(subject, threads=threads, device=device))

    def runs_on(self, device: str) -> bool:
        """Whether its code knows the kind of device; `unavailable` says whether it can here."""
        return device_of(device).kind in self.devices

    def value_bytes(self, device: str) -> int:
        """What a key or a value takes in its cache: on a GPU all keep 16 bits."""
        return self.cache_value_bytes if device_of(device).kind == "cpu" else GPU_VALUE_BYTES

    def preload(self, layout: str | None = None) -> None:
        """Import the libraries it needs (for artifacts of a layout).

        Raises UserError for one that is there and cannot be loaded, for want of CUDA's own, say.
        """
        for name in self._needed(layout):
            load_linked(name)
            try:
                importlib.import_module(name)
            except (ImportError, OSError, RuntimeError) as error:
                words = short(" ".join(str(error).split()), 200)
                raise UserError(f"{name} is installed and cannot be loaded: {words}") from error

    def _needed(self, layout: str | None) -> tuple[str, ...]:
        return (*self.imports, *self.imports_for.get(layout or "", ()))


RUNTIMES: Mapping[str, Runtime] = {
    "reference": Runtime(
        "runtimes.reference",
        targets=(),
        devices=("cpu", "cuda"),
        takes="checkpoint",
        imports=("torch",),
        distributions=("torch",),
        batches=True,
    ),
    "onnxruntime": Runtime(
        "runtimes.onnxruntime.session",
        targets=("onnx",),
        devices=("cpu", "cuda"),
        layouts={"cuda": ("cuda",)},
        imports=("onnxruntime",),
        distributions=("onnxruntime", "onnxruntime-gpu"),
    ),
    # The same in less memory, for a load of tower and decoder with every new image.
    "onnxruntime_lean": Runtime(
        "runtimes.onnxruntime.lean",
        targets=("onnx",),
        devices=("cpu",),
        imports=("onnxruntime",),
        distributions=("onnxruntime",),
        hidden=True,
    ),
    "llama_cpp": Runtime(
        "runtimes.llama_cpp.session",
        targets=("gguf",),
        devices=("cpu", "cuda"),
        imports=("llama_cpp",),
        imports_for={"onnx-vision": ("onnxruntime",)},
        distributions=("llama-cpp-python", "onnxruntime"),
        cache_value_bytes=2,
        batches=True,
    ),
    # As llama_cpp, each kernel of a decode step launched on its own: what CUDA graphs bring.
    "llama_cpp_no_graphs": Runtime(
        "runtimes.llama_cpp.session",
        targets=("gguf",),
        devices=("cuda",),
        imports=("llama_cpp",),
        imports_for={"onnx-vision": ("onnxruntime",)},
        distributions=("llama-cpp-python", "onnxruntime"),
        cache_value_bytes=2,
        batches=True,
        variables={"GGML_CUDA_DISABLE_GRAPHS": "1"},
        hidden=True,
    ),
    # What others offer for the same files, to be measured beside ours.
    "llama_bench": Runtime(
        "runtimes.peers.llama_bench",
        targets=("gguf",),
        devices=("cpu", "cuda"),
        imports=("llama_cpp",),
        distributions=("llama-cpp-python",),
        cache_value_bytes=2,
        hidden=True,
        ours=False,
    ),
    "onnx_loop": Runtime(
        "runtimes.peers.onnx_loop",
        targets=("onnx",),
        devices=("cpu",),
        imports=("onnxruntime",),
        distributions=("onnxruntime",),
        hidden=True,
        ours=False,
    ),
    "onnxruntime_no_graphs": Runtime(
        "runtimes.peers.onnxruntime_no_graphs",
        targets=("onnx",),
        devices=("cuda",),
        layouts={"cuda": ("cuda",)},
        imports=("onnxruntime",),
        distributions=("onnxruntime-gpu",),
        hidden=True,
    ),
    "genai": Runtime(
        "runtimes.peers.genai",
        targets=("genai",),
        devices=("cpu",),
        imports=("onnxruntime_genai",),
        distributions=("onnxruntime-genai",),
        hidden=True,
        ours=False,
    ),
    "fake": Runtime(
        "runtimes.fake",
        targets=(ANY_TARGET,),
        devices=("cpu",),
        batches=True,
        hidden=True,
        ours=False,
    ),
}
