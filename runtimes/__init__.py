"""Opens artifacts and checkpoints in a runtime, such as ONNX Runtime, and asks them questions.

    import runtimes

    answer = runtimes.ask("build/tiny-smolvlm/onnx-int4", "picture.png", "what color is it?")
    print(answer.text)

RUNTIMES is the table of runtimes: what each one opens, where it runs and which module has its
code. Importing this package imports none of those modules or their libraries.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, cast, get_args

from export.artifact import Artifact, verify_digests
from export.errors import UserError
from export.files import short
from export.lazy import importing
from export.model import Model
from export.target import late
from runtimes.base import Event, Request, Session, ThreadedSession
from runtimes.devices import MachineKind, device_of
from runtimes.nvidia import BUILDS, load_linked, problem
from runtimes.threads import ThreadWatch

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
MACHINES: tuple[MachineKind, ...] = get_args(MachineKind)
GPU_VALUE_BYTES = 2
# module -> the extra of pyproject.toml that installs it, where the names differ
EXTRAS: Mapping[str, str] = {
    "ai_edge_litert": "litert",
    "litert_lm": "litert",
    "litert_lm_builder": "litert",
    "llama_cpp": "llama-cpp",
    "playwright": "browser",
    "starlette": "browser",
    "torch": "reference",
    "uvicorn": "browser",
}


@dataclass(frozen=True)
class Runtime:
    """One entry of RUNTIMES: a way to run models, what it can open and what it needs.

    `targets` and `layouts` limit the artifacts (exported models) that it opens; `devices` and
    `machines` limit where it runs. `imports`, `imports_for` and `distributions` name its libraries.
    """

    module: str
    """Name of the module with its code, whose function `open_session(subject, *, threads, device)`
    returns a Session."""
    targets: tuple[str, ...]
    """Export targets, such as "onnx", whose artifacts it opens. (ANY_TARGET,): all; (): none,
    because it opens checkpoints."""
    devices: tuple[str, ...]
    """Kinds of devices (runtimes.devices.Device.kind) that it can compute on."""
    takes: Literal["artifact", "checkpoint"] = "artifact"
    """What `open_session` accepts."""
    machines: tuple[MachineKind, ...] = MACHINES
    """Kinds of machines that it can be installed on."""
    imports: tuple[str, ...] = ()
    """Python modules that it always needs; `preload` imports them, so that the time to load a model
    does not include imports."""
    layouts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kind of device -> artifact layouts (Manifest.layout) that it runs there; a kind that is not a
    key runs all layouts."""
    imports_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Artifact layout -> Python modules that artifacts of this layout need in addition to
    `imports`."""
    distributions: tuple[str, ...] = ()
    """PyPI names of its libraries; bench records their versions."""
    hidden: bool = False
    """Whether it is used only if a caller names it: never chosen by default, nor listed."""
    by_name: bool = False
    """Whether it is used only if a caller names it, but listed: it opens what a default runtime
    opens, in other time and memory than footprints predict."""
    ours: bool = True
    """Whether its results count as PocketVLM's; False for other projects' baselines and the
    fake."""
    cache_value_bytes: int = 4
    """Bytes of one number in its key-value cache on the CPU."""
    batches: bool = False
    """Whether its sessions are BatchSessions, which answer several requests at once."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to set in the process before its libraries are loaded."""
    lacks: Callable[[], str | None] = field(default=lambda: None)
    """Returns what else is missing on this machine, such as a program, in words; None: nothing."""

    @property
    def default(self) -> bool:
        """Returns whether it may be used where the caller names no runtime."""
        return not (self.hidden or self.by_name)

    def opens(self, target: str | None) -> bool:
        """Returns whether it opens artifacts of an export target; None asks about checkpoints."""
        if target is None:
            return self.takes == "checkpoint"
        return target in self.targets or ANY_TARGET in self.targets

    def runs_layout(self, layout: str | None) -> bool:
        """Returns whether any of its devices runs artifacts of a layout; None: a checkpoint."""
        if layout is None:
            return True
        return any(layout in self.layouts.get(kind, (layout,)) for kind in self.devices)

    def unavailable(self, layout: str | None = None, device: str = "cpu") -> str | None:
        """Returns why it cannot be used on this machine, in words; None if it can be used.

        `layout`: the layout of the artifact to open (None: of any). Checks that its modules are
        installed and, on a GPU, that they support CUDA, but imports none of them.
        """
        where = device_of(device)
        layouts = self.layouts.get(where.kind)
        if layout is not None and layouts is not None and layout not in layouts:
            run = " or ".join(layouts)
            return f"on {device} it runs layout {run}, and this is {layout} (export --layout)"
        absent = [name for name in self._needed(layout) if find_spec(name) is None]
        if absent:
            extras = ",".join(dict.fromkeys(EXTRAS.get(name, name) for name in absent))
            return f"{', '.join(absent)} is not installed (pip install 'pocket-vlm[{extras}]')"
        if where.kind == "cuda":
            problems = (problem(where.index, name) for name in self.imports if name in BUILDS)
            return next(filter(None, problems), None)
        return self.lacks()

    def open_session(
        self, subject: Artifact | Model, *, threads: int | ThreadWatch, device: str = "cpu"
    ) -> Session:
        """Loads an artifact or a checkpoint, whichever it `takes`, and returns the session.

        `threads`: CPU threads, or a ThreadWatch that chooses and lowers them. `device`: "cpu",
        "cuda" or "cuda:N". Raises UserError if the model cannot be loaded, or if a file of the
        artifact has changed since its export.
        """
        self.preload()
        if isinstance(subject, Artifact):
            verify_digests(subject)
        watch = threads if isinstance(threads, ThreadWatch) else ThreadWatch(threads, fixed=True)
        adapts = not watch.fixed and device_of(device).kind == "cpu"
        if adapts:
            watch.choose(subject.manifest.vlm if isinstance(subject, Artifact) else subject.vlm)
        function = importlib.import_module(self.module).open_session
        session = cast(Session, function(subject, threads=watch.threads.count, device=device))
        if adapts and isinstance(session, ThreadedSession):
            session.adapt(watch)
        return session

    def runs_on(self, device: str) -> bool:
        """Returns whether it supports the kind of this device ("cpu", "cuda" or "cuda:N").

        It does not check the machine, as `unavailable` does.
        """
        return device_of(device).kind in self.devices

    def value_bytes(self, device: str) -> int:
        """Returns the bytes of one number in its key-value cache on a device: on a GPU always 2."""
        return self.cache_value_bytes if device_of(device).kind == "cpu" else GPU_VALUE_BYTES

    def preload(self, layout: str | None = None) -> None:
        """Imports the Python modules that it needs, and those that artifacts of `layout` need.

        Raises UserError for a module that is missing or cannot be loaded, for example because a
        CUDA library is missing.
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


LACK = late("runtimes.peers.environments:lack")
# llama.cpp's own programs, in an environment of their own.
LLAMA_PROGRAM = Runtime(
    "runtimes.peers.llama_server",
    targets=("gguf",),
    devices=("cpu",),
    layouts={"cpu": ("native",)},
    imports=("gguf",),
    cache_value_bytes=2,
    hidden=True,
    ours=False,
    lacks=partial(LACK, "llama.cpp"),
)
# transformers.js in Chromium, which runs here and on any phone.
BROWSER = Runtime(
    "runtimes.browser.session",
    targets=("onnx",),
    devices=("cpu",),
    layouts={"cpu": ("transformers.js",)},
    imports=("playwright", "starlette", "uvicorn"),
    distributions=("playwright",),
    lacks=late("runtimes.browser.chromium:problem"),
)
RUNTIMES: Mapping[str, Runtime] = {
    "reference": Runtime(
        "runtimes.reference",
        targets=(),
        devices=("cpu", "cuda"),
        takes="checkpoint",
        machines=("computer",),
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
    "openvino": Runtime(
        "runtimes.openvino.session",
        targets=("onnx",),
        devices=("cpu",),
        machines=("board", "computer"),
        layouts={"cpu": ("native",)},
        imports=("runtimes.openvino", "openvino"),  # in this order: the first one says why
        distributions=("openvino",),
        by_name=True,
    ),
    # In less memory: loads the tower and then the decoder for every new image.
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
    "browser": BROWSER,
    "browser_webgpu": replace(BROWSER, module="runtimes.browser.webgpu", hidden=True),
    # Baseline without CUDA graphs: each kernel of a decode step is launched on its own.
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
    "executorch": Runtime(
        "runtimes.executorch.session",
        targets=("executorch",),
        devices=("cpu",),
        imports=("executorch", "export.executorch.library"),
        distributions=("executorch",),
    ),
    "litert": Runtime(
        "runtimes.litert.session",
        targets=("litert",),
        devices=("cpu",),
        imports=("ai_edge_litert", "litert_lm_builder"),
        distributions=("ai-edge-litert",),
    ),
    # Baselines: other ways to run the same files.
    # The C++ class that apps on Android and iOS use.
    "executorch_runner": Runtime(
        "runtimes.peers.executorch_runner",
        targets=("executorch",),
        devices=("cpu",),
        imports=("executorch", "export.executorch.library"),
        distributions=("executorch",),
        hidden=True,
        ours=False,
    ),
    # Google's runner, which apps on Android and iOS use.
    "litert_lm": Runtime(
        "runtimes.peers.litert_lm",
        targets=("litert",),
        devices=("cpu",),
        imports=("litert_lm",),
        distributions=("litert-lm-api",),
        hidden=True,
        ours=False,
    ),
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
    "onnxruntime_no_kleidiai": Runtime(
        "runtimes.peers.onnxruntime_no_kleidiai",
        targets=("onnx",),
        devices=("cpu",),
        imports=("onnxruntime",),
        distributions=("onnxruntime",),
        hidden=True,
    ),
    "llama_server": LLAMA_PROGRAM,
    "llama_bench_program": replace(LLAMA_PROGRAM, module="runtimes.peers.llama_bench_program"),
    "llama_mtmd_cli": replace(LLAMA_PROGRAM, module="runtimes.peers.llama_mtmd_cli"),
    "genai": Runtime(
        "runtimes.peers.genai",
        targets=("genai",),
        devices=("cpu",),
        hidden=True,
        ours=False,
        lacks=partial(LACK, "genai"),
    ),
    "openvino_genai": Runtime(
        "runtimes.peers.openvino_genai",
        targets=("openvino",),
        devices=("cpu",),
        hidden=True,
        ours=False,
        lacks=partial(LACK, "openvino"),
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
