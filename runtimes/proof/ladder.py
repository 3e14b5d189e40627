"""The proof ladder: compares what an artifact computes with what its checkpoint computes.

Checks (a) that every tensor of the checkpoint is explained, (b) preprocessing, against the Hugging
Face processor, (c) vision features, (d) next-token distributions on fixed answers, (e) greedy
tokens, and (f) the regions that models with region heads return.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from export.arrays import FloatArray
from export.artifact import Artifact
from export.model import Model
from export.prompts import Templates
from export.quantize.recipe import base
from runtimes import RUNTIMES
from runtimes.base import Request, Session
from runtimes.prepare.image import edge, one_tile
from runtimes.proof import processor
from runtimes.proof.fidelity import Accumulator, FeatureAccumulator
from runtimes.proof.memory import free_bytes, proof_bytes, too_little
from runtimes.proof.probes import Probe, probes

if TYPE_CHECKING:
    from runtimes.reference import ReferenceScorer

Check = Mapping[str, Any]
MAX_TOKENS = 16
PLACE_TOLERANCE = 1e-6  # both sides must choose the same bins, which are 1/1024 wide


@dataclass(frozen=True)
class Bounds:
    """Limits for a recipe's results on the probes; a wrong graph misses them by far."""

    cosine: float
    mean_kld: float
    top1: float
    exact: bool
    """Whether the limits hold for random weights too, as rounding is too small to matter."""


BOUNDS: dict[str, Bounds] = {
    "fp32": Bounds(cosine=0.99999, mean_kld=1e-4, top1=1.0, exact=True),
    "fp16": Bounds(cosine=0.9999, mean_kld=1e-3, top1=0.98, exact=True),
    "int8": Bounds(cosine=0.99, mean_kld=0.05, top1=0.9, exact=False),
    "int4": Bounds(cosine=0.9, mean_kld=0.5, top1=0.7, exact=False),
}
BOUNDS |= {name: BOUNDS["int4"] for name in ("q4_k_m", "q5_k_m", "iq4_nl")}
BOUNDS |= {"q6_k": BOUNDS["int8"]}


def prove(
    model: Model, artifact: Artifact, *, free: int | None = None, threads: int = 2
) -> dict[str, Any]:
    """Run the ladder. `passed` is None where `unjudged` says why there is no verdict.

    `free` is how many bytes of memory may be taken (default: what the system says); `threads` are
    the artifact's.
    """
    checks: dict[str, Check] = {
        "tensors": {"explained": len(model.weights.shapes())},
        "preprocessing": processor.compare(model),
    }
    target = artifact.manifest.target
    runtime = next(r for r in RUNTIMES.values() if not r.hidden and r.opens(target))
    reason = (
        runtime.unavailable(artifact.manifest.layout)
        or RUNTIMES["reference"].unavailable()
        or too_little(proof_bytes(model, artifact), free_bytes() if free is None else free)
    )
    if reason is not None:
        checks |= {name: {"skipped": reason} for name in ("features", "logits", "greedy")}
    else:
        # Towers encode each tile alone, so one tile suffices here; the preprocessing check covers
        # how images are cut, with the full recipe.
        image = one_tile(model.image)
        manifest = replace(artifact.manifest, image=image)
        from runtimes.reference import ReferenceScorer  # torch: only where there is one

        session = runtime.open_session(replace(artifact, manifest=manifest), threads=threads)
        scorer = ReferenceScorer(replace(model, image=image))
        most = model.prompt.most_images
        asked = [p for p in probes(edge(image)) if most is None or len(p.images) <= most]
        checks |= _compare(scorer, session, asked)
        if isinstance(model.prompt, Templates) and "region" in manifest.components:
            checks |= {"places": _places(scorer, session, asked[0], model.prompt)}
        session.close()
    bounds = BOUNDS[base(artifact.manifest.recipe)]
    if reason is None and model.weights.synthetic and not bounds.exact:
        reason = "how much rounding hurts random weights says nothing"
    failures = list(_judge(checks, bounds, reason is None))
    passed = False if failures else True if reason is None else None
    return {"passed": passed, "unjudged": reason, "failures": failures, "checks": checks}


def _compare(
    reference: "ReferenceScorer", session: Session, asked: list[Probe]
) -> dict[str, Check]:
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
    result, rows = fidelity.result(), features.result()
    assert result is not None
    return {
        "features": vars(rows) if rows else {"skipped": "the model takes no images"},
        "logits": vars(result),
        "greedy": {"equal": equal, "of": total},
    }


def _places(
    reference: "ReferenceScorer", session: Session, probe: Probe, templates: Templates
) -> dict[str, Any]:
    """The first place of each task that answers with some: how far it is from the reference's.

    In shares of the image; one that only one side finds is as far as can be.
    """
    differences = {}
    for name, task in templates.tasks.items():
        if task.answer == "text":
            continue
        place = (0.25, 0.375) if "place" in task.needs else ()
        request = Request("shape", probe.images, task=name, region=place)
        wanted = reference.first_region(request)
        found = next((e.region for e in session.generate(request) if e.kind == "place"), ())
        same = len(wanted) == len(found)
        differences[name] = max((abs(a - b) for a, b in zip(wanted, found, strict=same)), default=0)
        differences[name] = differences[name] if same else 1.0
    return {"n": len(differences), "differences": differences}


def _request(probe: Probe, reference: "ReferenceScorer") -> Request:
    return Request(
        probe.question,
        probe.images,
        answer=reference.tokens(probe.answer),
        arrays=True,
    )


def _collect(
    session: Session, request: Request
) -> tuple[FloatArray | None, tuple[int, ...], list[FloatArray]]:
    features, tokens, logits = None, [], []
    for event in session.generate(request):
        if event.kind == "image":
            features = event.features
        if event.token is not None and event.logits is not None:
            tokens.append(event.token)
            logits.append(event.logits)
    return features, tuple(tokens), logits


def _agreeing(tokens: tuple[int, ...], judged: FloatArray) -> int:
    """Number of tokens before the first one that the reference would not have chosen."""
    differ = np.flatnonzero(judged.argmax(-1) != np.array(tokens))
    return int(differ[0]) if len(differ) else len(tokens)


def _judge(checks: Mapping[str, Check], bounds: Bounds, measured: bool) -> Iterator[str]:
    preprocessing = checks["preprocessing"]
    if preprocessing.get("equal") is False:
        yield f"preprocessing differs from the HF processor's: {preprocessing}"
    if not measured:
        return
    cosine, logits, greedy = checks["features"].get("cosine"), checks["logits"], checks["greedy"]
    # `not >=` instead of `<`, so that NaN fails, too.
    if cosine is not None and not cosine >= bounds.cosine:
        yield f"vision features: cosine {cosine:.6f}, expected at least {bounds.cosine}"
    if not logits["mean_kld"] <= bounds.mean_kld:
        yield f"logits: mean KLD {logits['mean_kld']:.2e}, expected at most {bounds.mean_kld}"
    if logits["top1"] < bounds.top1:
        yield f"logits: top-1 agreement {logits['top1']:.3f}, expected at least {bounds.top1}"
    if bounds.top1 == 1.0 and greedy["equal"] < greedy["of"]:
        yield f"greedy tokens: {greedy['equal']} of {greedy['of']} equal the reference's"
    if bounds.top1 == 1.0:
        yield from _moved(checks.get("places", {}).get("differences", {}))


def _moved(differences: Mapping[str, float]) -> Iterator[str]:
    for name, difference in differences.items():
        if not difference <= PLACE_TOLERANCE:
            yield f"places: the first of {name} is off by {difference:.4f} of the image"
