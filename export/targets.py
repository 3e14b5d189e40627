"""Targets: the formats an artifact can have, and what a writer reports of what it really did.

Writers are reached by name when they are needed: importing this table imports none of them.
"""

import importlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.families import FAMILIES
from export.model import Model
from export.modeling.vlm import Vlm
from export.quantize.recipe import Recipe


@dataclass(frozen=True)
class Fallback:
    """A tensor that is not kept as its recipe asked, and why."""

    tensor: str
    asked: str
    got: str
    reason: str


@dataclass(frozen=True)
class Share:
    """What one component's weights became: sums over its tensors."""

    parameters: int
    quantized_parameters: int
    weight_bytes: int


@dataclass(frozen=True)
class Quantization:
    """The truth beside the label: realised bits and every exception."""

    components: Mapping[str, Share]
    types: Mapping[str, int]
    """realised type (Q4_0, MatMulNBits 4, float32, …) -> parameters kept so."""
    fallbacks: tuple[Fallback, ...]

    @property
    def bits_per_weight(self) -> float:
        shares = self.components.values()
        return 8 * sum(s.weight_bytes for s in shares) / sum(s.parameters for s in shares)


@dataclass(frozen=True)
class Written:
    """What a writer left in its folder. `components` names the files of each component."""

    components: Mapping[str, tuple[str, ...]]
    quantization: Quantization
    details: Mapping[str, Any]
    """Target-specific facts for artifact.json (opset and domains, GGUF types, …)."""

    def beside(self, other: "Written") -> "Written":
        """Both, of other components each, in one folder."""
        mine, theirs = self.quantization, other.quantization
        types = Counter(mine.types) + Counter(theirs.types)
        return Written(
            {**self.components, **other.components},
            Quantization(
                {**mine.components, **theirs.components},
                dict(types),
                mine.fallbacks + theirs.fallbacks,
            ),
            {**self.details, **other.details},
        )


@dataclass(frozen=True)
class Target:
    """A format: its writer as "module:function" and the layouts it can arrange its files in.

    The first one is taken where a family prefers none of them.
    `sizer`, also a "module:function", tells the bytes that the writer would write; `dresser` gives
    the model's own files as a layout's clients read them.
    """

    writer: str
    layouts: tuple[str, ...]
    sizer: str = ""
    dresser: str = ""

    def layout_for(self, vlm: Vlm) -> str:
        """The layout of an export that names none (Family.layout)."""
        preferred = FAMILIES[vlm.family].layout if vlm.vision else ""
        return preferred if preferred in self.layouts else self.layouts[0]

    def write(self, model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
        """Write the target's files of `model` into the empty `folder`, tensor by tensor."""
        function: Callable[[Model, Recipe, Path, str], Written] = _function(self.writer)
        return function(model, recipe, folder, layout)

    def sizes(self, model: Model, recipe: Recipe, layout: str) -> Mapping[str, int]:
        """Exact bytes of each file that `write` would write; no weight is read."""
        function: Callable[[Model, Recipe, str], Mapping[str, int]] = _function(self.sizer)
        return function(model, recipe, layout)

    def files(self, model: Model, recipe: Recipe, layout: str) -> Mapping[str, bytes]:
        """What goes beside the target's files: the model's own, and what a client wants of them."""
        if not self.dresser:
            return model.files
        function: Callable[[Model, Recipe, str], Mapping[str, bytes]] = _function(self.dresser)
        return function(model, recipe, layout)


TARGETS: Mapping[str, Target] = {
    "onnx": Target(
        "export.onnx.write:write",
        ("native", "cuda", "transformers.js", "genai"),
        "export.onnx.write:sizes",
        "export.onnx.write:files",
    ),
    "gguf": Target("export.gguf.write:write", ("native", "onnx-vision"), "export.gguf.write:sizes"),
}


def folder_name(target: str, recipe: str, layout: str) -> str:
    """Of an artifact beside others of the same model: <target>-<recipe>[-<layout>]."""
    return f"{target}-{recipe}" + ("" if layout == "native" else f"-{layout}")


def _function(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
