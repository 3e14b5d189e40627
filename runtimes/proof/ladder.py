"""Runs the proof: compares what an artifact computes with what its checkpoint computes.

Checks (a) that every tensor of the checkpoint is explained, (b) preprocessing, against that of
transformers, (c) the torch reference, against transformers' own model, (d) vision features, (e)
next-token distributions on fixed answers, (f) greedy tokens, and (g) the points and boxes that
models with region heads return. From (d) on, the artifact is compared with the reference.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from export.arrays import FloatArray
from export.artifact import Artifact
from export.bounds import BOUNDS, MAX_ERROR, PLACE_TOLERANCE, Bounds
from export.model import Model
from export.prompts import Templates
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
    TensorCheck,
)
from runtimes import RUNTIMES, Runtime
from runtimes.base import Request, Session
from runtimes.prepare.image import edge, one_tile
from runtimes.proof import original, processor
from runtimes.proof.fidelity import Accumulator, FeatureAccumulator
from runtimes.proof.memory import free_bytes, proof_bytes, too_little
from runtimes.proof.probes import Probe, probes
from runtimes.proof.torchvision import hide_broken
from runtimes.threads import ThreadWatch

if TYPE_CHECKING:
    from runtimes.reference import ReferenceScorer

MAX_TOKENS = 16
NO_IMAGES = "the model takes no images"


def prove(
    model: Model,
    artifact: Artifact,
    *,
    runtime: Runtime | None = None,
    free: int | None = None,
    threads: int = 2,
) -> Proof:
    """Runs all checks of an artifact against its checkpoint (`model`) and returns the Proof.

    `Proof.passed` is None if the artifact cannot be run or judged here. `runtime` runs the artifact
    (default: the first one of its target). `free`: bytes of memory that may be used (default: all
    that is free). `threads`: CPU threads of the artifact's session, at most.
    """
    target = artifact.manifest.target
    runtime = runtime or next(r for r in RUNTIMES.values() if r.default and r.opens(target))
    free = free_bytes() if free is None else free
    reason = (
        runtime.unavailable(artifact.manifest.layout)
        or RUNTIMES["reference"].unavailable()
        or too_little(proof_bytes(model, artifact), free)
    )
    skipped = Skipped(reason or "")
    hide_broken()
    checks = Checks(
        tensors=TensorCheck(len(model.weights.shapes())),
        preprocessing=processor.compare(model),
        reference=original.compare(model, free),
        features=skipped,
        logits=skipped,
        greedy=skipped,
    )
    if reason is None:
        # Towers encode each tile alone, so one tile suffices here; the preprocessing check covers
        # how images are cut, with the full recipe.
        image = one_tile(model.image)
        manifest = replace(artifact.manifest, image=image)
        from runtimes.reference import ReferenceScorer  # imports torch

        shown = replace(artifact, manifest=manifest)
        session = runtime.open_session(shown, threads=ThreadWatch(threads))
        scorer = ReferenceScorer(replace(model, image=image))
        most = model.prompt.most_images
        asked = [p for p in probes(edge(image)) if most is None or len(p.images) <= most]
        checks = _compare(checks, scorer, session, asked)
        if isinstance(model.prompt, Templates) and "region" in manifest.components:
            checks = replace(
                checks, places=_compare_regions(scorer, session, asked[0], model.prompt)
            )
        session.close()
    bounds = BOUNDS[artifact.manifest.recipe_used.base]
    if reason is None and model.weights.synthetic and not bounds.exact:
        reason = "weights are random, so quantization error is not judged"
    judge = _judge_reading(checks) if reason else _judge(checks, bounds)
    failures = tuple(judge)
    passed = False if failures else True if reason is None else None
    return Proof(passed, reason, failures, checks)


def _compare(
    checks: Checks, reference: "ReferenceScorer", session: Session, asked: list[Probe]
) -> Checks:
    """Returns `checks` with results for features, logits and greedy tokens filled in.

    `asked`: the probes that both models answer.
    """
    fidelity, features, equal, total = Accumulator(), FeatureAccumulator(), 0, 0
    for probe in asked:
        request = _request(probe, reference)
        expected_features = reference.features(request)
        expected = reference.score(request, expected_features)
        shown, _, logits = _collect(session, request)
        if shown is not None and expected_features is not None:
            features.add(expected_features, shown)
        for one, other in zip(expected, logits, strict=True):
            fidelity.add(one, other)
        free = replace(request, answer=None, max_tokens=MAX_TOKENS)
        _, tokens, _ = _collect(session, free)
        judged = reference.score(replace(free, answer=tokens), expected_features)
        judged[1:, list(reference.only_first)] = -np.inf
        equal += _agreeing(tokens, judged)
        total += len(tokens)
    logits_check = fidelity.result()
    assert logits_check is not None
    return replace(
        checks,
        features=features.result() or Skipped(NO_IMAGES),
        logits=logits_check,
        greedy=GreedyCheck(equal, total),
    )


def _compare_regions(
    reference: "ReferenceScorer", session: Session, probe: Probe, templates: Templates
) -> RegionCheck:
    """Compares the first point or box that both models return, for each task that asks for regions.

    A task's difference is the largest one of a coordinate, as a fraction of the image; it is 1 if
    only one model returns a region.
    """
    differences = {}
    for name, task in templates.tasks.items():
        if task.answer == "text":
            continue
        region = (0.25, 0.375) if "place" in task.needs else ()
        request = Request("shape", probe.images, task=name, region=region)
        expected = reference.first_region(request)
        first = next((e.region for e in session.generate(request) if e.kind == "place"), ())
        differences[name] = (
            max((abs(a - b) for a, b in zip(expected, first, strict=True)), default=0.0)
            if len(expected) == len(first)
            else 1.0
        )
    return RegionCheck(len(differences), differences)


def _request(probe: Probe, reference: "ReferenceScorer") -> Request:
    """Returns a request for a probe (a question with a fixed answer) that also returns arrays.

    The session must answer with exactly the probe's answer, whose token ids the reference's
    tokenizer gives, and return the image features and the logits of each token.
    """
    return Request(
        probe.question,
        probe.images,
        answer=reference.tokens(probe.answer),
        arrays=True,
    )


def _collect(
    session: Session, request: Request
) -> tuple[FloatArray | None, tuple[int, ...], list[FloatArray]]:
    """Returns the features (or None), the tokens and the logits of a session's answer."""
    features, tokens, logits = None, [], []
    for event in session.generate(request):
        if event.kind == "image":
            features = event.features
        if event.token is not None and event.logits is not None:
            tokens.append(event.token)
            logits.append(event.logits)
    return features, tuple(tokens), logits


def _agreeing(tokens: tuple[int, ...], judged: FloatArray) -> int:
    """Returns the number of tokens before the first one that the reference would not choose.

    `judged`: the logits [tokens, vocab] from which the reference would choose each token.
    """
    differ = np.flatnonzero(judged.argmax(-1) != np.array(tokens))
    return int(differ[0]) if len(differ) else len(tokens)


def _judge(checks: Checks, bounds: Bounds) -> Iterator[str]:
    """Yields a line for each result that misses its bound; a skipped check yields none."""
    yield from _judge_reading(checks)
    match checks.features:
        # `not >=` instead of `<`, so that NaN fails, too.
        case Features(cosine=cosine) if not cosine >= bounds.cosine:
            yield f"vision features: cosine {cosine:.6f}, expected at least {bounds.cosine}"
    if isinstance(checks.logits, Fidelity):
        yield from _judge_logits(checks.logits, bounds)
    if bounds.top1 < 1.0:
        return
    match checks.greedy:
        case GreedyCheck(equal, of) if equal < of:
            yield f"greedy tokens: {equal} of {of} equal the reference's"
    if isinstance(checks.places, RegionCheck):
        for name, difference in checks.places.differences.items():
            if not difference <= PLACE_TOLERANCE:
                yield f"places: the first of {name} is off by {difference:.4f} of the image"


def _judge_reading(checks: Checks) -> Iterator[str]:
    """Yields a line for each way in which transformers reads the checkpoint otherwise."""
    match checks.preprocessing:
        case PreprocessingCheck(n, difference, equal_ids, equal=False):
            other_ids = 0 if equal_ids is None else n - equal_ids
            by = "not compared" if difference is None else f"by up to {difference:.2g}"
            yield (
                f"preprocessing differs from transformers': pixels {by}, token ids in {other_ids} "
                f"of {n} probes"
            )
    match checks.reference:
        case ReferenceCheck(model=name, max_error=error) if not error <= MAX_ERROR:
            yield (
                f"reference: logits are off from those of transformers' {name} by {error:.2g} of "
                f"the largest one, expected at most {MAX_ERROR}: transformers reads "
                f"config.json otherwise than PocketVLM"
            )


def _judge_logits(logits: Fidelity, bounds: Bounds) -> Iterator[str]:
    """Yields a line for each statistic of the logits that misses its bound."""
    if not logits.mean_kld <= bounds.mean_kld:
        yield f"logits: mean KLD {logits.mean_kld:.2e}, expected at most {bounds.mean_kld}"
    if logits.top1 < bounds.top1:
        yield f"logits: top-1 agreement {logits.top1:.3f}, expected at least {bounds.top1}"
