"""Recipes: which tensor keeps how many bits. NOT aware of how any target packs them.

A recipe is an ordered list of rules over canonical tensor names; the first match decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, get_args

from export.modeling.tensors import Shape

Bits = Literal[32, 16, 8, 6, 5, 4]
Method = Literal["search", "nearest"]
METHODS: tuple[Method, ...] = get_args(Method)
CALIBRATED = "gptq"
"""In the names of recipes whose rounding was calibrated."""


@dataclass(frozen=True)
class Storage:
    """How the values of one tensor are kept.

    32 and 16 bits are floats. 8 and 4 bits are integers that share one scale in each block of
    `block` neighbouring values of a row (symmetric: no zero point). `method` finds the scale of 4
    bits: "search" tries several, "nearest" takes the one that keeps a block's largest magnitude.
    """

    bits: Bits
    block: int = 32
    method: Method = "search"

    @property
    def quantized(self) -> bool:
        return self.bits < 16


@dataclass(frozen=True)
class Rule:
    """Tensors whose canonical name matches `pattern` (shell style) are kept as `storage`."""

    pattern: str
    storage: Storage


@dataclass(frozen=True)
class Recipe:
    """An ordered list of rules; vectors (one axis) stay 32-bit floats whatever the rules say."""

    name: str
    rules: tuple[Rule, ...]
    targets: tuple[str, ...] = ()
    """Those that have such types; none named: all."""

    def storage(self, name: str, shape: Shape) -> Storage:
        """The storage of one tensor; what no rule matches stays 32-bit."""
        if len(shape) > 1:
            for rule in self.rules:
                if fnmatchcase(name, rule.pattern):
                    return rule.storage
        return Storage(32)

    @property
    def least_bits(self) -> Bits:
        """The fewest that any tensor keeps."""
        return min((rule.storage.bits for rule in self.rules), default=32)

    def rounded(self, method: Method) -> "Recipe":
        """The same bits with scales found by `method`; the name says which if it is not usual."""
        rules = tuple(replace(r, storage=replace(r.storage, method=method)) for r in self.rules)
        return Recipe(self.name if method == "search" else f"{self.name}-{method}", rules)

    def with_8_bits(self, patterns: Sequence[str], name: str) -> "Recipe":
        """The same, but tensors that match one of `patterns` keep 8 bits."""
        return Recipe(name, (*(Rule(p, Storage(8)) for p in patterns), *self.rules))


def base(name: str) -> str:
    """The row of RECIPES that a recipe was made from: int4 of int4-nearest-gptq."""
    return name.partition("-")[0]


def arguments(name: str) -> list[str]:
    """What `python -m export` was told of a recipe of this name, but for a file of questions."""
    row, *rest = name.split("-")
    words = ["--recipe", row]
    for part in rest:
        if part in METHODS:
            words += ["--rounding", part]
        else:
            words += ["--calibrate"] if part == CALIBRATED else ["--budget-mb", part[:-2]]
    return words


# Patches and positions are read once per tile and are under 1 % of the weights: never quantized.
# Nor are frequencies, which multiply by up to 2 pi.
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
"""Recipes under llama.cpp's names, and most weights' bits; export/gguf/mixes.py has the rest."""

KNOWN: Mapping[str, Recipe] = {**RECIPES, **MIXTURES}
