"""Formats a proof as lines of text for people: the verdict, and each check with its limits."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from export.bounds import MAX_ERROR, PIXEL_TOLERANCE, PLACE_TOLERANCE, Bounds
from export.proof import (
    Checks,
    Features,
    Fidelity,
    GreedyCheck,
    PreprocessingCheck,
    Proof,
    ReferenceCheck,
    RegionCheck,
    Skipped,
)

VERDICTS = {True: "passed", False: "FAILED, kept by --allow-drift", None: "no verdict"}
BACKENDS = {"pil": "Pillow"}

C = TypeVar("C")


def proof_lines(proof: Proof | None, bounds: Bounds) -> Iterator[str]:
    """Yields the lines on a proof (None: none was made), not indented.

    `bounds`: the limits of the artifact's recipe, shown if the proof judged the artifact by them.
    """
    if proof is None:
        yield "proof: not asked for"
        return
    why = f" ({proof.unjudged})" if proof.unjudged else ""
    yield f"proof: {VERDICTS[proof.passed]}{why}"
    for failure in proof.failures:
        yield f"  ! {failure}"
    yield from (f"  {line}" for line in _reading(proof.checks))
    yield "  the artifact against our torch model:"
    compared = _compared(proof.checks, None if proof.unjudged else bounds)
    yield from (f"    {line}" for line in compared)


def _reading(checks: Checks) -> Iterator[str]:
    """Yields a line for each check of how the checkpoint was read."""
    yield f"tensors: all {checks.tensors.explained} of the checkpoint are explained"
    yield f"preprocessing: {_made(checks.preprocessing, _preprocessing)}"
    if checks.reference is not None:
        yield f"reference: {_made(checks.reference, _reference)}"


def _compared(checks: Checks, bounds: Bounds | None) -> Iterator[str]:
    """Yields a line for each check that compares the artifact with the torch model."""
    yield f"vision features: {_made(checks.features, partial(_features, bounds=bounds))}"
    yield f"logits: {_made(checks.logits, partial(_fidelity, bounds=bounds))}"
    yield f"greedy tokens: {_made(checks.greedy, partial(_greedy, bounds=bounds))}"
    if checks.places is not None:
        yield f"points and boxes: {_made(checks.places, partial(_places, bounds=bounds))}"


def _made(check: C | Skipped, shown: Callable[[C], str]) -> str:
    """Returns what `shown` makes of a check, or why the check was not made."""
    return f"not compared: {check.skipped}" if isinstance(check, Skipped) else shown(check)


def _preprocessing(check: PreprocessingCheck) -> str:
    """Describes the compared pixels and ids; of a model without images, the ids alone."""
    ids = (
        f"token ids {check.prompts}"
        if check.equal_ids is None
        else f"token ids are equal in {check.equal_ids} of {check.n} prompts"
    )
    sources = [] if check.equal_ids is None else [check.prompts]
    if check.backend is not None:
        sources.append(f"{BACKENDS.get(check.backend, check.backend)} backend")
    shown = f"{_pixels(check)}{ids}"
    return f"{shown} ({', '.join(sources)})" if sources else shown


def _pixels(check: PreprocessingCheck) -> str:
    """Describes the compared pixels, up to the "and" before the ids; "" without images."""
    difference = check.max_pixel_difference
    if difference is None:
        return f"pixels {check.pixels}; "
    if check.backend is None:
        return ""
    if math.isinf(difference):
        return "images differ in shape and "
    return f"pixels differ by at most {_short(difference)}{_limit('at most', PIXEL_TOLERANCE)} and "


def _reference(check: ReferenceCheck) -> str:
    layers = f"{check.text_layers} of {check.of_text_layers} text layers"
    if check.of_vision_layers:
        layers += f" and {check.vision_layers} of {check.of_vision_layers} vision layers"
    return (
        f"our torch model against transformers' {check.model}, largest error of a logit "
        f"{_short(check.max_error)} of the largest one{_limit('at most', MAX_ERROR)}, over "
        f"{check.n} tokens, {layers}"
    )


def _features(check: Features, bounds: Bounds | None) -> str:
    limit = _limit("at least", bounds.cosine) if bounds else ""
    return (
        f"mean cosine {_short(check.cosine)}{limit}, lowest {_short(check.min_cosine)}, largest "
        f"error {_short(check.max_error)} of the largest value, over {check.n} feature vectors"
    )


def _fidelity(check: Fidelity, bounds: Bounds | None) -> str:
    kld = _limit("at most", bounds.mean_kld) if bounds else ""
    top1 = _limit("at least", bounds.top1) if bounds else ""
    return (
        f"mean KLD {_short(check.mean_kld)} nats{kld}, 99th percentile {_short(check.kld_p99)}, "
        f"99.9th {_short(check.kld_p999)}, largest {_short(check.max_kld)}; top-1 agreement "
        f"{_short(check.top1)}{top1}, over {check.n} tokens"
    )


def _greedy(check: GreedyCheck, bounds: Bounds | None) -> str:
    limit = " (limit: all)" if bounds and bounds.top1 == 1.0 else ""
    return f"{check.equal} of {check.of} equal{limit}"


def _places(check: RegionCheck, bounds: Bounds | None) -> str:
    limit = _limit("at most", PLACE_TOLERANCE) if bounds and bounds.top1 == 1.0 else ""
    off = (f"{task} {_short(value)}" for task, value in check.differences.items())
    return f"{', '.join(off)} of the image off{limit}"


def _limit(words: str, limit: float) -> str:
    return f" (limit: {words} {limit})"


def _short(value: float) -> str:
    """Returns a number with 4 digits, or 6 just below 1, where 4 would say 1."""
    return f"{value:.6g}" if 0.9995 <= value < 1 else f"{value:.4g}"
