"""Measures how much 4 bits in each layer change a model's answers, to decide which get 8 bits.

The reference computes the same forced answers several times, each time with another layer rounded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from statistics import fmean

from export.model import Model
from export.quantize.budget import layers_of, within_budget
from export.quantize.recipe import Recipe
from export.quantize.simulate import Rounded
from runtimes.base import Request
from runtimes.calibrate.hessian import one_tile_images, requests_of
from runtimes.proof.fidelity import divergence
from runtimes.reference import ReferenceScorer


def within(
    model: Model,
    recipe: Recipe,
    sizes: Callable[[Recipe], Mapping[str, int]],
    budget_mb: float,
    questions: Path | None,
) -> Recipe:
    """Returns the recipe with 8 bits in the most sensitive layers, for an artifact of limited size.

    `budget_mb`: limit of all the artifact's files, in MB (10^6 bytes). `sizes`: returns the bytes
    of each of the export target's files for a recipe. `questions`: a file of questions to measure
    on; None: the proof's probes. Raises UserError for an invalid file, and if 4 bits in all layers
    already exceed the limit.
    """
    names = {
        name: prod(shape)
        for name, shape in model.weights.shapes().items()
        if recipe.storage(name, shape).bits == 4
    }
    files = sum(map(len, model.files.values()))
    requests = requests_of(model, questions)
    answers = Answers(model, requests)
    layers = layers_of(names, lambda pattern: answers.sensitivity(pattern, recipe))
    return within_budget(
        recipe,
        layers,
        budget_mb,
        lambda tried: files + sum(sizes(tried).values()),
    )


class Answers:
    """The logits of the unrounded model for forced answers, to compare rounded models with."""

    def __init__(self, model: Model, requests: Sequence[Request]) -> None:
        self._model = one_tile_images(model)
        self._requests = requests
        scorer = ReferenceScorer(self._model)
        self._logits = [scorer.score(r, scorer.features(r)) for r in requests]

    def sensitivity(self, pattern: str, recipe: Recipe) -> float:
        """Returns how much the answers change if some matrices are rounded as the recipe says.

        That is the mean KL divergence in nats of the next-token distributions, over all answers'
        tokens. `pattern`: shell-style pattern of the matrices' names.
        """
        weights = Rounded(self._model.weights, recipe, pattern)
        return fmean(self._divergences(ReferenceScorer(replace(self._model, weights=weights))))

    def _divergences(self, scorer: ReferenceScorer) -> list[float]:
        """Returns the KL divergence in nats of each answer token between the two models."""
        divergences = []
        for request, logits in zip(self._requests, self._logits, strict=True):
            other = scorer.score(request, scorer.features(request))
            divergences += [divergence(p, q) for p, q in zip(logits, other, strict=True)]
        return divergences
