"""Defines a target: everything that the rest of PocketVLM needs to know of one output format.

Each format has a Target in its package (export/onnx/target.py); the table is export/targets.py.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from export.errors import UserError
from export.families import FAMILIES
from export.manifest import Details, Quantization
from export.memory import RuntimeMemory
from export.model import Model
from export.modeling.vlm import Vlm
from export.quantize.recipe import Recipe


@dataclass(frozen=True)
class Written:
    """The result of writing a model's weights in one format.

    components: component (vision, embedding, …) -> its files. quantization: how the weights are
    stored. details: facts that depend on the format.
    """

    components: Mapping[str, tuple[str, ...]]
    quantization: Quantization
    details: Details = field(default_factory=Details)

    def beside(self, other: "Written") -> "Written":
        """Merges the results for two sets of components that were written to one folder."""
        return Written(
            {**self.components, **other.components},
            self.quantization.beside(other.quantization),
            self.details.beside(other.details),
        )


Write: TypeAlias = Callable[[Model, Recipe, Path, str], Written]
Sizes: TypeAlias = Callable[[Model, Recipe, str], Mapping[str, int]]
ClientFiles: TypeAlias = Callable[[Model, Recipe, str], Mapping[str, bytes]]


def late(place: str) -> Callable[..., Any]:
    """Returns a function that imports `place` ("module:function") when called, then calls it.

    So a Target can name its functions without importing the library of its format.
    """
    module, _, name = place.partition(":")

    def call(*args: object) -> Any:
        return getattr(importlib.import_module(module), name)(*args)

    return call


def own_files(model: Model, recipe: Recipe, layout: str) -> Mapping[str, bytes]:
    """Returns the model's tokenizer and configuration files unchanged: name -> content."""
    return model.files


@dataclass(frozen=True)
class Target:
    """One output format, such as ONNX: its layouts, and the functions that write and predict it.

    Each function takes a model, a recipe and a layout, one of `layouts` (the first is the default).
    write: fills an empty folder. sizes: predicts the bytes of each file; None: it cannot.
    size_error: layout -> largest error of the predicted `sizes` together, as a share of what is
    written, where a library writes the files; in other layouts each size is exact. client_files:
    makes the other files that clients need. memory: predicts the memory of running it; None: there
    is no prediction. tools: module -> PyPI distribution whose version is recorded. recipes,
    families: the names of those that it can store; None: all. extra: of pyproject.toml, if the
    format's library is not part of `all`; `imports` are its modules.
    """

    layouts: tuple[str, ...]
    write: Write
    """Works tensor by tensor. Raises UserError."""
    sizes: Sizes | None = None
    """Reads no weight. Raises UserError."""
    size_error: Mapping[str, float] = field(default_factory=dict)
    client_files: ClientFiles = own_files
    """Returns path in the artifact -> content."""
    memory: RuntimeMemory | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    recipes: tuple[str, ...] | None = None
    families: tuple[str, ...] | None = None
    extra: str | None = None
    imports: tuple[str, ...] = ()

    def unavailable(self) -> str | None:
        """Returns why it cannot be written on this machine, in words; None if it can."""
        absent = [name for name in self.imports if find_spec(name) is None]
        if not absent:
            return None
        return f"{', '.join(absent)} is not installed (pip install 'pocket-vlm[{self.extra}]')"

    def of(self, recipes: Iterable[str]) -> list[str]:
        """Returns those of the recipes' names that the format can store."""
        return [name for name in recipes if self.recipes is None or name in self.recipes]

    def expect(self, recipe: Recipe, family: str) -> None:
        """Raises UserError if the format has no types for a recipe, or no inputs for a family."""
        if self.families is not None and family not in self.families:
            raise UserError(
                f"the target has no inputs for models of {family}; expected one of "
                f"{', '.join(self.families)}"
            )
        if self.recipes is not None and recipe.base not in self.recipes:
            raise UserError(
                f"the target has no recipe {recipe.base}; expected one of {', '.join(self.recipes)}"
            )

    def layout_for(self, vlm: Vlm) -> str:
        """Selects the layout for an export that names none.

        For a model with images, the family's best if the target has it; otherwise the first one.
        """
        preferred = FAMILIES[vlm.family].layout if vlm.vision else ""
        return preferred if preferred in self.layouts else self.layouts[0]
