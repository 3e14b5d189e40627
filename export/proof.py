"""The result of a proof, as stored in artifact.json: a verdict, and the figures of every check.

A proof compares an artifact with its checkpoint; runtimes/proof/ladder.py runs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TypeAlias


@dataclass(frozen=True)
class Skipped:
    """Stands for the result of a check that was not made; `skipped` says why."""

    skipped: str


@dataclass(frozen=True)
class TensorCheck:
    """States that the checkpoint has exactly the tensors that the model needs.

    explained: their number.
    """

    explained: int


@dataclass(frozen=True)
class PreprocessingCheck:
    """Result of comparing our pixels and token ids with Hugging Face's on `n` test requests.

    max_pixel_difference: of normalized values; None: they were not compared, for the reason in
    `pixels`. equal_ids: number of requests whose token ids are equal; None: they were not compared.
    equal: whether what was compared is equal: all ids, and all pixels within the tolerance.
    prompts: the file of the chat template that made the compared prompts, or what made them
    instead. backend: of transformers' image processor; None: pixels were not compared, the model
    takes no images, or an older version made the proof.
    """

    n: int
    max_pixel_difference: float | None
    equal_ids: int | None
    equal: bool
    prompts: str = ""
    backend: str | None = None
    pixels: str = ""

    @property
    def verdict(self) -> str:
        """Returns "equal" or "unequal", and which of the two was not compared."""
        parts = {"pixels": self.max_pixel_difference, "ids": self.equal_ids}
        left_out = [f"{name} not compared" for name, found in parts.items() if found is None]
        return ", ".join(["equal" if self.equal else "unequal", *left_out])


@dataclass(frozen=True)
class ReferenceCheck:
    """Result of comparing our reference with transformers' own model of the checkpoint.

    model: transformers' class. prompts, n: their number, and that of the tokens whose
    distributions were compared. text_layers, vision_layers: how many first layers both kept for
    it, of all (of_text_layers, of_vision_layers); fewer if memory was short. max_error: largest
    absolute error of a logit, divided by the prompt's largest absolute logit. kld: KL(transformers
    || reference) in nats. top1: fraction of tokens at which both have the same most probable one.
    """

    model: str
    prompts: int
    n: int
    text_layers: int
    of_text_layers: int
    vision_layers: int
    of_vision_layers: int
    max_error: float
    mean_kld: float
    max_kld: float
    top1: float


@dataclass(frozen=True)
class Features:
    """Result of comparing `n` feature vectors of images with the reference's.

    cosine, min_cosine: mean and smallest cosine similarity. max_error: largest absolute error in
    any image, divided by that image's largest absolute value.
    """

    n: int
    cosine: float
    min_cosine: float
    max_error: float


@dataclass(frozen=True)
class Fidelity:
    """Result of comparing next-token probabilities with the reference's, over `n` tokens.

    kld: the divergence KL(reference || tested model) in nats: mean, 99th and 99.9th percentile,
    maximum. top1: fraction of the tokens at which both have the same most probable token.
    """

    n: int
    mean_kld: float
    kld_p99: float
    kld_p999: float
    max_kld: float
    top1: float


@dataclass(frozen=True)
class GreedyCheck:
    """Counts, over the greedy answers to all test requests, the tokens that equal the reference's.

    equal: tokens up to each answer's first difference. of: all tokens of the answers.
    """

    equal: int
    of: int


@dataclass(frozen=True)
class RegionCheck:
    """Result of comparing the first point or box of the answers to `n` tasks with the reference's.

    differences: task -> largest difference of a coordinate, as a fraction of the image's edge; 1.0
    if only one of the two models answers with one.
    """

    n: int
    differences: Mapping[str, float]


Check: TypeAlias = (
    TensorCheck
    | PreprocessingCheck
    | ReferenceCheck
    | Features
    | Fidelity
    | GreedyCheck
    | RegionCheck
    | Skipped
)


@dataclass(frozen=True)
class Checks:
    """The results of the checks of one proof, in the order in which they are made.

    reference None: the proof is of a version that did not make this check. places None: the model
    has no region heads, so it finds no points and boxes.
    """

    tensors: TensorCheck
    preprocessing: PreprocessingCheck | Skipped
    reference: ReferenceCheck | Skipped | None = field(default=None, kw_only=True)
    features: Features | Skipped
    logits: Fidelity | Skipped
    greedy: GreedyCheck | Skipped
    places: RegionCheck | Skipped | None = None

    def by_name(self) -> Mapping[str, Check]:
        """Returns the results by name, in order, without those that are None."""
        found = {check.name: getattr(self, check.name) for check in fields(self)}
        return {name: check for name, check in found.items() if check is not None}


@dataclass(frozen=True)
class Proof:
    """The result of comparing an artifact with its checkpoint.

    passed: the verdict; None: there is none, for the reason in `unjudged`. failures: one line for
    each figure that misses its bound. checks: all figures.
    """

    passed: bool | None
    unjudged: str | None
    failures: tuple[str, ...]
    checks: Checks
