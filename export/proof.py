"""What a proof found, as artifact.json keeps it: a verdict, and the figures of every check.

The proof itself is run by runtimes/proof/ladder.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias


@dataclass(frozen=True)
class Skipped:
    """A check that was not made, and why."""

    skipped: str


@dataclass(frozen=True)
class TensorCheck:
    """The checkpoint's tensors: none was missing, and none was left over."""

    explained: int
    """How many the model has."""


@dataclass(frozen=True)
class PreprocessingCheck:
    """Our pixels and token ids against those of the HF processor, over `n` probes."""

    n: int
    max_pixel_difference: float
    equal_ids: int
    """Probes whose token ids are equal."""
    equal: bool
    """Whether all pixels are within the tolerance and all ids are equal."""


@dataclass(frozen=True)
class Features:
    """Statistics of `n` rows of image features compared with the reference's."""

    n: int
    cosine: float
    """Mean cosine similarity."""
    min_cosine: float
    max_error: float
    """Largest absolute error of an image, relative to its largest absolute value."""


@dataclass(frozen=True)
class Fidelity:
    """Statistics of the divergence KL(reference || subject) in nats over `n` tokens."""

    n: int
    mean_kld: float
    kld_p99: float
    kld_p999: float
    max_kld: float
    top1: float
    """Fraction of tokens for which both distributions have the same most probable token."""


@dataclass(frozen=True)
class GreedyCheck:
    """Tokens of greedy answers before the first that the reference would not choose."""

    equal: int
    of: int


@dataclass(frozen=True)
class RegionCheck:
    """The first point or box that each of `n` tasks answers with, against the reference's."""

    n: int
    differences: Mapping[str, float]
    """task -> largest difference, as a fraction of the image's edges; 1.0 where only one side
    answers."""


Check: TypeAlias = (
    TensorCheck | PreprocessingCheck | Features | Fidelity | GreedyCheck | RegionCheck | Skipped
)


@dataclass(frozen=True)
class Checks:
    """The checks in the order in which they are made."""

    tensors: TensorCheck
    preprocessing: PreprocessingCheck | Skipped
    features: Features | Skipped
    logits: Fidelity | Skipped
    greedy: GreedyCheck | Skipped
    places: RegionCheck | Skipped | None = None
    """None: the artifact has no region heads."""

    def by_name(self) -> Mapping[str, Check]:
        """The checks that concern the artifact, in order."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: check for name, check in found.items() if check is not None}


@dataclass(frozen=True)
class Proof:
    """The verdict and what it rests on."""

    passed: bool | None
    """None: there is no verdict, for the reason in `unjudged`."""
    unjudged: str | None
    failures: tuple[str, ...]
    """What missed its bounds, a line each."""
    checks: Checks
