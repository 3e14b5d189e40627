"""Measures each layer's sensitivity to 4 bits, to spend a limit of bytes where it helps most.

The reference answers the same questions with forced answers, with one layer rounded at a time.
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
    """The recipe with 8 bits for the most sensitive layers, for an artifact of at most `budget_mb`.

    `sizes` returns the bytes of the target's files with a recipe. Sensitivity is measured on a file
    of questions, or on the proof's probes. Raises UserError for an invalid file, and for a budget
    that 4 bits for all layers exceed.
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
    """The logits of the unrounded model for each token of forced answers."""

    def __init__(self, model: Model, requests: Sequence[Request]) -> None:
        self._model = one_tile_images(model)
        self._requests = requests
        scorer = ReferenceScorer(self._model)
        self._logits = [scorer.score(r, scorer.features(r)) for r in requests]

    def sensitivity(self, pattern: str, recipe: Recipe) -> float:
        """Mean divergence in nats over all tokens, with the matrices of `pattern` rounded."""
        weights = Rounded(self._model.weights, recipe, pattern)
        return fmean(self._divergences(ReferenceScorer(replace(self._model, weights=weights))))

    def _divergences(self, scorer: ReferenceScorer) -> list[float]:
        divergences = []
        for request, logits in zip(self._requests, self._logits, strict=True):
            other = scorer.score(request, scorer.features(request))
            divergences += [divergence(p, q) for p, q in zip(logits, other, strict=True)]
        return divergences
