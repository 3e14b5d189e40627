"""Recipes: which tensors are stored in how many bits. NOT aware of how any target packs them.

A recipe is an ordered list of rules over canonical tensor names; the first match decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, get_args

from export.modeling.tensors import Shape

Bits = Literal[32, 16, 8, 6, 5, 4]
Method = Literal["search", "nearest"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Storage:
    """How the values of one tensor are stored.

    32 and 16 bits are floats. 8 and fewer bits are integers; each block of `block` neighbouring
    values of a row shares one scale, without a zero point. `method` finds the scales of 4 bits:
    "search" tries several, "nearest" takes the one that fits the block's largest magnitude.
    """

    bits: Bits
    block: int = 32
    method: Method = "search"

    @property
    def quantized(self) -> bool:
        return self.bits < 16


@dataclass(frozen=True)
class Rule:
    """Tensors whose canonical name matches `pattern` (shell style) are stored as `storage`."""

    pattern: str
    storage: Storage


@dataclass(frozen=True)
class Calibration:
    """The questions that a model's rounding was calibrated on with GPTQ."""

    questions: str
    """Name of their file, or what they are."""
    sha256: str | None = None
    """Of the file; None: the questions are PocketVLM's own."""
    n: int | None = None


@dataclass(frozen=True)
class RecipeUsed:
    """The recipe of an artifact: a row of KNOWN, and how 4 bits were chosen and rounded."""

    base: str
    rounding: Method = "search"
    budget_mb: float | None = None
    """Of an artifact that was given 8 bits in some layers, as far as so many MB allowed."""
    calibrated: Calibration | None = None

    @property
    def name(self) -> str:
        """The recipe's full name, such as int4, int4-nearest or int4-12mb-gptq."""
        parts = [self.base]
        parts += [] if self.rounding == "search" else [self.rounding]
        parts += [] if self.budget_mb is None else [f"{self.budget_mb:g}mb"]
        parts += [] if self.calibrated is None else ["gptq"]
        return "-".join(parts)

    def options(self) -> list[str]:
        """Options of `python -m export` that give the same recipe."""
        words = ["--recipe", self.base]
        words += [] if self.rounding == "search" else ["--rounding", self.rounding]
        words += [] if self.budget_mb is None else ["--budget-mb", f"{self.budget_mb:g}"]
        if self.calibrated is not None:
            words += ["--calibrate"]
            words += [self.calibrated.questions] if self.calibrated.sha256 else []
        return words


@dataclass(frozen=True)
class Recipe:
    """An ordered list of rules; vectors (one axis) stay 32-bit floats whatever the rules say.

    `base`, `rounding`, `budget_mb` and `calibrated` say where the rules come from (RecipeUsed).
    """

    base: str
    rules: tuple[Rule, ...]
    targets: tuple[str, ...] = ()
    """Targets that have its types; empty: all targets."""
    rounding: Method = "search"
    budget_mb: float | None = None
    calibrated: Calibration | None = None

    @property
    def used(self) -> RecipeUsed:
        """The recipe as artifact.json stores it."""
        return RecipeUsed(self.base, self.rounding, self.budget_mb, self.calibrated)

    @property
    def name(self) -> str:
        """RecipeUsed.name."""
        return self.used.name

    def storage(self, name: str, shape: Shape) -> Storage:
        """The storage of one tensor; 32 bits where no rule matches."""
        if len(shape) > 1:
            for rule in self.rules:
                if fnmatchcase(name, rule.pattern):
                    return rule.storage
        return Storage(32)

    @property
    def least_bits(self) -> Bits:
        """The fewest bits of any rule."""
        return min((rule.storage.bits for rule in self.rules), default=32)

    def rounded(self, method: Method) -> "Recipe":
        """The same bits with scales found by `method`."""
        rules = tuple(replace(r, storage=replace(r.storage, method=method)) for r in self.rules)
        return replace(self, rules=rules, rounding=method)


# Never quantized: patch and position embeddings, which are read once a tile and are under 1 % of
# the weights, and frequencies, which are multiplied by up to 2 pi.
_KEEP = (
    Rule("v.patch_embd.*", Storage(32)),
    Rule("v.position_embd.*", Storage(32)),
    Rule("region.*_features.weight", Storage(32)),
)

RECIPES: Mapping[str, Recipe] = {
    "fp32": Recipe("fp32", ()),
    "fp16": Recipe("fp16", (*_KEEP, Rule("*", Storage(16)))),
    "int8": Recipe("int8", (*_KEEP, Rule("*", Storage(8)))),
    # Heads decide an argmax: at 4 bits they cost most and save least.
    "int4": Recipe(
        "int4",
        (
            *_KEEP,
            Rule("output.weight", Storage(8)),
            Rule("*", Storage(4)),
        ),
    ),
}

MIXTURES: Mapping[str, Recipe] = {
    name: Recipe(name, (*_KEEP, Rule("*", storage)), ("gguf",))
    for name, storage in {
        "q4_k_m": Storage(4, 256),
        "q5_k_m": Storage(5, 256),
        "q6_k": Storage(6, 256),
        "iq4_nl": Storage(4, 32),
    }.items()
}
"""llama.cpp's mixtures, with the bits of most weights; the rest is in export/gguf/mixes.py."""

KNOWN: Mapping[str, Recipe] = {**RECIPES, **MIXTURES}
