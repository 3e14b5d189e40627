"""How much each layer suffers from 4 bits: measured, with all others as they are.

The reference answers the same forced questions with one layer rounded at a time. NOT aware of what
is done about it (export/quantize/budget.py) or of formats.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from statistics import fmean

from export.model import Model
from export.quantize.budget import layers_of, within_budget
from export.quantize.recipe import Recipe
from export.quantize.simulate import Rounded
from export.targets import Target
from runtimes.base import Request
from runtimes.calibrate.hessian import requests_of, small
from runtimes.proof.fidelity import divergence
from runtimes.reference import ReferenceScorer


def within(
    model: Model,
    target: Target,
    recipe: Recipe,
    layout: str,
    budget_mb: float,
    questions: Path | None,
) -> Recipe:
    """The recipe with 8 bits where they help most, for an artifact of at most `budget_mb`.

    Raises UserError for a budget that 4 bits alone exceed, or questions that are none.
    """
    names = {
        name: prod(shape)
        for name, shape in model.weights.shapes().items()
        if recipe.storage(name, shape).bits == 4
    }
    files = sum(map(len, model.files.values()))
    requests = requests_of(model, questions)
    expected = Answers(model, requests)
    layers = layers_of(names, lambda pattern: expected.harm(pattern, recipe))
    return within_budget(
        recipe,
        layers,
        budget_mb,
        lambda tried: files + sum(target.sizes(model, tried, layout).values()),
    )


class Answers:
    """The reference's logits behind each token of forced answers, to compare with."""

    def __init__(self, model: Model, requests: Sequence[Request]) -> None:
        self._model = small(model)
        self._requests = requests
        scorer = ReferenceScorer(self._model)
        self._logits = [scorer.score(r, scorer.features(r)) for r in requests]

    def harm(self, pattern: str, recipe: Recipe) -> float:
        """Mean divergence over all tokens with the matrices of `pattern` rounded as it says."""
        weights = Rounded(self._model.weights, recipe, pattern)
        return fmean(self._divergences(ReferenceScorer(replace(self._model, weights=weights))))

    def _divergences(self, scorer: ReferenceScorer) -> list[float]:
        found = []
        for request, logits in zip(self._requests, self._logits, strict=True):
            other = scorer.score(request, scorer.features(request))
            found += [divergence(p, q) for p, q in zip(logits, other, strict=True)]
        return found
