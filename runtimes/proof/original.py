"""Compares the torch reference with transformers' own model of the checkpoint.

All other checks compare an artifact with the reference, which reads config.json as the exporters
do: what is misread there, they cannot see.
"""

import importlib.util
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from export.arrays import FloatArray
from export.images import Crops
from export.model import Model
from export.modeling.depth import Depth, cut, least, whole
from export.modeling.vlm import Vlm, shapes
from export.proof import ReferenceCheck, Skipped
from runtimes import RUNTIMES
from runtimes.base import Request
from runtimes.prepare.image import edge, one_tile
from runtimes.prepare.request import Prepared, preparer_of
from runtimes.proof.fidelity import Accumulator
from runtimes.proof.memory import FLOAT_BYTES, LIBRARIES_BYTES
from runtimes.proof.probes import probes

if TYPE_CHECKING:
    from runtimes.proof.transformers_model import TransformersModel

ASKED = ("no image", "two images")
"""Names of the probes that both models answer; a model without images answers the first one."""
LONGEST = 2048
"""Most tokens to which the prompt without images is lengthened."""
WEIGHTS_FACTOR = 1.6
"""Estimated peak memory of transformers' model per byte of its float32 weights: loading has the
bfloat16 ones beside them."""


def compare(model: Model, free: int | None) -> ReferenceCheck | Skipped:
    """Compares next-token distributions of the reference with those of transformers' model.

    Both compute in float32 on the same pixel values and token ids. If the whole model does not fit
    into the `free` bytes of memory (None: unknown, enough), both keep only their first layers, as
    many as it takes to have one of every kind. Returns Skipped with a reason if transformers has no
    model to compare with.
    """
    reason = _unavailable(model)
    depth = whole(model.vlm)
    if not _fits(model.vlm, free):
        depth = least(model.vlm)
    part = replace(model, vlm=cut(model.vlm, depth), image=one_tile(model.image))
    if reason is None and not _fits(part.vlm, free):
        needed, there = peak_bytes(part.vlm) / 1e9, (free or 0) / 1e9
        reason = f"transformers' model needs about {needed:.1f} GB of memory, {there:.1f} are free"
    if reason is not None or model.folder is None:
        return Skipped(reason or "")
    from runtimes.proof.transformers_model import TransformersModel, Unusable  # imports torch

    try:
        theirs = TransformersModel(model.folder, depth)
    except Unusable as error:
        return Skipped(str(error))
    return measure(part, theirs, whole(model.vlm))


def peak_bytes(vlm: Vlm) -> int:
    """Returns an estimate of the memory that transformers' model of these parts needs."""
    values = sum(math.prod(shape) for shape in shapes(vlm).values())
    return int(WEIGHTS_FACTOR * FLOAT_BYTES * values) + LIBRARIES_BYTES


def _fits(vlm: Vlm, free: int | None) -> bool:
    return free is None or peak_bytes(vlm) <= free


def _unavailable(model: Model) -> str | None:
    if model.weights.synthetic or model.folder is None:
        return "random weights come without a checkpoint that transformers could open"
    if isinstance(model.image, Crops):
        return "transformers has no model of this family"
    if importlib.util.find_spec("transformers") is None:
        return "transformers is not installed (pip install 'pocket-vlm[reference]')"
    return RUNTIMES["reference"].unavailable()


def measure(model: Model, theirs: "TransformersModel", of: Depth) -> ReferenceCheck:
    """Compares the reference of a model, or of its first layers, with transformers' model.

    `of`: the depth of the whole model. transformers' model is closed before ours is read.
    """
    from runtimes.reference import ReferenceScorer  # imports torch

    preparer, requests, depth = preparer_of(model), _requests(model), whole(model.vlm)
    expected = [_logits(theirs, model, preparer(request), request) for request in requests]
    theirs.close()
    scorer, fidelity, error = ReferenceScorer(model), Accumulator(), 0.0
    for request, wanted in zip(requests, expected, strict=True):
        found = scorer.score(request, scorer.features(request))
        error = max(error, float(np.abs(found - wanted).max() / np.abs(wanted).max()))
        for one, other in zip(wanted, found, strict=True):
            fidelity.add(one, other)
    result = fidelity.result()
    assert result is not None
    return ReferenceCheck(
        model=theirs.name,
        prompts=len(requests),
        n=result.n,
        text_layers=depth.text,
        of_text_layers=of.text,
        vision_layers=depth.vision,
        of_vision_layers=of.vision,
        max_error=error,
        mean_kld=result.mean_kld,
        max_kld=result.max_kld,
        top1=result.top1,
    )


def _requests(model: Model) -> list[Request]:
    """Returns a request without and one with images, and the answers whose logits are compared.

    The first one is longer than the window of layers that attend to the last positions only.
    """
    preparer, text = preparer_of(model), model.vlm.text
    asked = [probe for probe in probes(edge(model.image)) if probe.name in ASKED]
    window = text.sliding.window if text.sliding else 0
    longer = min(window, LONGEST, text.context // 2)
    requests = []
    for probe in asked:
        times = 1 if probe.images else 1 + longer // len(preparer.tokens(probe.question))
        question = " ".join([probe.question] * times)
        answer = preparer.tokens(probe.answer)
        requests.append(Request(question, probe.images, answer=answer))
    return requests


def _logits(
    theirs: "TransformersModel", model: Model, prepared: Prepared, request: Request
) -> FloatArray:
    """Returns transformers' logits [tokens, vocab] that each token of the answer is chosen from."""
    answer = request.answer or ()
    ids = np.array([*prepared.ids, *answer[:-1]], np.int64)
    return theirs.logits(model, ids, prepared.images, keep=len(answer))
