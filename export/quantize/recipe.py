"""Defines recipes: in how many bits an export stores each of a model's tensors.

A recipe is an ordered list of rules over canonical (PocketVLM's) tensor names; the first rule that
matches a name decides. NOT aware of how a target, such as ONNX or GGUF, packs the bits.
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
    values of a row shares one scale, without a zero point. `method` says how scales of 4 bits are
    found: "search" tries several, "nearest" takes the one that fits the largest magnitude.
    """

    bits: Bits
    block: int = 32
    method: Method = "search"

    @property
    def quantized(self) -> bool:
        return self.bits < 16


@dataclass(frozen=True)
class Rule:
    """One rule of a recipe: tensors whose name matches `pattern` are stored as `storage`.

    The pattern is shell-style and matched against canonical names; an example is v.blk.*.
    """

    pattern: str
    storage: Storage


@dataclass(frozen=True)
class Calibration:
    """The questions on which GPTQ calibrated the rounding of a model, as artifact.json has them.

    questions: name of the user's file, or a description of PocketVLM's own questions. sha256, n:
    hash of the file and number of questions in it; None for PocketVLM's own.
    """

    questions: str
    sha256: str | None = None
    n: int | None = None


@dataclass(frozen=True)
class RecipeUsed:
    """The recipe that an artifact was exported with, as artifact.json has it.

    base: name of a recipe in KNOWN. rounding: how scales of 4 bits were found. budget_mb: as many
    layers got 8 bits instead of 4 as an artifact of this many MB allowed; None: no layer did.
    calibrated: the questions of GPTQ's calibration; None: not calibrated.
    """

    base: str
    rounding: Method = "search"
    budget_mb: float | None = None
    calibrated: Calibration | None = None

    @property
    def name(self) -> str:
        """Returns the recipe's full name, such as int4, int4-nearest or int4-12mb-gptq."""
        parts = [self.base]
        parts += [] if self.rounding == "search" else [self.rounding]
        parts += [] if self.budget_mb is None else [f"{self.budget_mb:g}mb"]
        parts += [] if self.calibrated is None else ["gptq"]
        return "-".join(parts)

    def options(self) -> list[str]:
        """Returns the options that make `python -m export` use the same recipe."""
        words = ["--recipe", self.base]
        words += [] if self.rounding == "search" else ["--rounding", self.rounding]
        words += [] if self.budget_mb is None else ["--budget-mb", f"{self.budget_mb:g}"]
        if self.calibrated is not None:
            words += ["--calibrate"]
            words += [self.calibrated.questions] if self.calibrated.sha256 else []
        return words


@dataclass(frozen=True)
class Recipe:
    """Says in how many bits each tensor is stored: the first of `rules` that matches decides.

    Vectors (one axis) stay 32-bit floats whatever the rules say. targets: names of the targets that
    can store its types; empty: all can. base, rounding, budget_mb, calibrated: how the rules were
    made, as in RecipeUsed.
    """

    base: str
    rules: tuple[Rule, ...]
    targets: tuple[str, ...] = ()
    rounding: Method = "search"
    budget_mb: float | None = None
    calibrated: Calibration | None = None

    @property
    def used(self) -> RecipeUsed:
        """Returns the recipe without its rules, as artifact.json stores it."""
        return RecipeUsed(self.base, self.rounding, self.budget_mb, self.calibrated)

    @property
    def name(self) -> str:
        """Returns the recipe's full name, such as int4 or int4-nearest (RecipeUsed.name)."""
        return self.used.name

    def storage(self, name: str, shape: Shape) -> Storage:
        """Returns how a tensor is stored: by the first matching rule; 32 bits if none matches.

        `name`: its canonical name. A tensor with one axis has 32 bits, whatever the rules say.
        """
        if len(shape) > 1:
            for rule in self.rules:
                if fnmatchcase(name, rule.pattern):
                    return rule.storage
        return Storage(32)

    @property
    def least_bits(self) -> Bits:
        """Returns the fewest bits that any rule gives; 32 for a recipe without rules."""
        return min((rule.storage.bits for rule in self.rules), default=32)

    def rounded(self, method: Method) -> "Recipe":
        """Returns the recipe with the same bits, and scales of 4 bits found by `method`."""
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
"""llama.cpp's mixtures, with the bits that most of their weights have; export/gguf/mixes.py chooses
the type of each tensor."""

KNOWN: Mapping[str, Recipe] = {**RECIPES, **MIXTURES}
