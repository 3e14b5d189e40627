"""What a target is: everything that the rest of PocketVLM needs of one format, in one row.

The row of a format is in its own package (export/onnx/target.py), the table in export/targets.py.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from export.families import FAMILIES
from export.manifest import Details, Quantization
from export.memory import RuntimeMemory
from export.model import Model
from export.modeling.vlm import Vlm
from export.quantize.recipe import Recipe


@dataclass(frozen=True)
class Written:
    """What a target wrote: the files of each component, and what it did to the weights."""

    components: Mapping[str, tuple[str, ...]]
    quantization: Quantization
    details: Details = field(default_factory=Details)

    def beside(self, other: "Written") -> "Written":
        """Both, of other components each, in one folder."""
        return Written(
            {**self.components, **other.components},
            self.quantization.beside(other.quantization),
            self.details.beside(other.details),
        )


Write: TypeAlias = Callable[[Model, Recipe, Path, str], Written]
Sizes: TypeAlias = Callable[[Model, Recipe, str], Mapping[str, int]]
ClientFiles: TypeAlias = Callable[[Model, Recipe, str], Mapping[str, bytes]]


def late(place: str) -> Callable[..., Any]:
    """The function at `place` ("module:function"), which is imported when it is called.

    So rows import no library of their format.
    """
    module, _, name = place.partition(":")

    def call(*args: object) -> Any:
        return getattr(importlib.import_module(module), name)(*args)

    return call


def own_files(model: Model, recipe: Recipe, layout: str) -> Mapping[str, bytes]:
    """The model's tokenizer and configuration files, as its checkpoint has them."""
    return model.files


@dataclass(frozen=True)
class Target:
    """One format. Its functions take a model, a recipe and the name of a layout."""

    layouts: tuple[str, ...]
    """How its files can be arranged; the first one where a family prefers none of them."""
    write: Write
    """Writes its files into an empty folder, tensor by tensor. Raises UserError."""
    sizes: Sizes | None = None
    """Exact bytes of each file that `write` would write, without reading a weight. None: only an
    export tells. Raises UserError."""
    client_files: ClientFiles = own_files
    """What else its clients need: path in the artifact -> content."""
    memory: RuntimeMemory | None = None
    """Memory of the runtime that opens it; None: there is no model of it."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Module -> its distribution on PyPI, of what may take part in writing and proving it."""

    def layout_for(self, vlm: Vlm) -> str:
        """The layout of an export that names none: the family's, if the target has it."""
        preferred = FAMILIES[vlm.family].layout if vlm.vision else ""
        return preferred if preferred in self.layouts else self.layouts[0]
