"""Collects the Hessians of a model's linear layers on questions, for quantization with GPTQ.

The reference answers the questions. The Hessian of a weight matrix is the sum of x xT over all its
inputs x. As many Hessians are collected at a time as a limit of memory allows.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from export.arrays import FloatArray
from export.errors import UserError
from export.files import sha256_of
from export.model import Model
from export.modeling.vlm import component
from export.quantize.gptq import inverse_cholesky
from runtimes.base import Request
from runtimes.calibrate.questions import read_questions
from runtimes.prepare.image import edge, one_tile
from runtimes.proof.probes import Probe, probes
from runtimes.reference import ReferenceScorer

HESSIAN_BYTES = 1 << 30
"""Limit of the Hessians that are in memory at a time, in bytes."""
SAME_INPUT = re.compile(r"(?<=attn_)[qkv]$|(?<=ffn_)(gate|up)$")
CACHED_FACTORS = 4  # query, key and value share one, and two threads round at a time


def calibrated(model: Model, questions: Path | None) -> Model:
    """Returns the model with Hessians (`Model.hessians`), each collected when it is needed.

    `questions`: a file of calibration questions; None: the proof's probes are used. Raises
    UserError for an invalid file (see runtimes.calibrate.questions), and for a question that is
    longer than the model's context.
    """
    asked, origin = _asked(model, questions)
    return replace(model, hessians=CollectedHessians(model, asked, origin))


def requests_of(model: Model, questions: Path | None) -> tuple[Request, ...]:
    """Returns a request with a forced answer for each calibration question.

    `questions`: a file of them; None: the proof's probes are used. Questions with more images than
    the model takes are left out. Raises UserError for an invalid file and for a question that is
    longer than the model's context.
    """
    asked, _ = _asked(model, questions)
    return _requests(ReferenceScorer(one_tile_images(model)), model, asked)


def _asked(model: Model, questions: Path | None) -> tuple[Sequence[Probe], Mapping[str, Any]]:
    """Returns the calibration questions, and a description of their origin for artifact.json."""
    if questions is None:
        return probes(edge(one_tile(model.image))), {"questions": "the proof's probes"}
    asked = read_questions(questions)
    return asked, {"questions": questions.name, "sha256": sha256_of(questions), "n": len(asked)}


def one_tile_images(model: Model) -> Model:
    """Returns the model with a recipe that makes one tile of each image.

    That takes less time, and the tiles of an image are alike.
    """
    return replace(model, image=one_tile(model.image))


def _requests(scorer: ReferenceScorer, model: Model, asked: Sequence[Probe]) -> tuple[Request, ...]:
    """Returns requests that force the questions' answers; an empty answer becomes a stop token.

    Raises UserError for the first question that does not fit the context with its answer.
    """
    most = model.prompt.most_images
    return tuple(_request(scorer, model, p) for p in asked if most is None or len(p.images) <= most)


def _request(scorer: ReferenceScorer, model: Model, asked: Probe) -> Request:
    try:
        answer = scorer.tokens(asked.answer) or model.vlm.stop_token_ids[:1]
        request = Request(asked.question, asked.images, answer=answer)
        positions = scorer.positions(request)
    except UserError as error:
        raise UserError(f"{asked.name}: {error}") from None
    if positions > model.vlm.text.context:
        raise UserError(
            f"{asked.name}: the question with its image and answer takes {positions} positions, "
            f"the model's context has {model.vlm.text.context}; shorten it or leave it out"
        )
    return request


class CollectedHessians:
    """The Hessians of a model's weight matrices, each collected when it is needed.

    Implements export.quantize.rounding.Hessians. `origin` describes the questions, for
    artifact.json.
    """

    def __init__(
        self,
        model: Model,
        asked: Sequence[Probe],
        origin: Mapping[str, Any],
        limit_bytes: int = HESSIAN_BYTES,
    ) -> None:
        self.origin = origin
        self._shapes = model.weights.shapes()
        self._collector = HessianCollector()
        self._scorer = ReferenceScorer(one_tile_images(model), self._collector)
        self._requests = _requests(self._scorer, model, asked)
        self._features: list[FloatArray | None] | None = None
        self._limit_bytes = limit_bytes
        self._collected: frozenset[str] = frozenset()
        self._factors: OrderedDict[int, tuple[Tensor, FloatArray]] = OrderedDict()
        self._lock = threading.Lock()

    def inverse_cholesky(self, name: str) -> FloatArray | None:
        """Returns the inverse Cholesky factor of the Hessian of `{name}.weight`, for GPTQ.

        None if the questions gave the matrix no inputs. May be called from several threads. It is
        fast for matrices in the order in which the network uses them.
        """
        if component(name) == "region":
            return None  # answers of text do not use the region heads
        with self._lock:
            if name not in self._collected:
                self._collect(name)
            hessian = self._collector.sums.get(name)
            return None if hessian is None else self._factor(hessian)

    def _factor(self, hessian: Tensor) -> FloatArray:
        """Returns a Hessian's inverse Cholesky factor; the last few factors are cached."""
        key = id(hessian)
        if key not in self._factors:
            self._factors[key] = (hessian, inverse_cholesky(hessian.numpy()))
            if len(self._factors) > CACHED_FACTORS:
                self._factors.popitem(last=False)
        return self._factors[key][1]

    def _collect(self, first: str) -> None:
        """Collects the Hessians of `first` and of the matrices after it, up to the memory limit.

        Discards those that were collected before.
        """
        self._collected = frozenset(self._window(first))
        self._collector.names, self._collector.sums = self._collected, {}
        self._factors.clear()
        if component(first) == "vision" or self._features is None:
            self._features = [self._scorer.features(request) for request in self._requests]
        if component(first) != "vision":
            for request, features in zip(self._requests, self._features, strict=True):
                self._collector.missing = set(self._collected)
                with suppress(StopForward):
                    self._scorer.score(request, features)

    def _window(self, first: str) -> list[str]:
        """Returns the names of `first` and of the matrices after it that fit the memory limit.

        All are of one component of the model, in the order in which the network uses them.
        """
        names = [n.removesuffix(".weight") for n in self._shapes if n.endswith(".weight")]
        window, sizes = [first], dict[str, int]()
        for name in names[names.index(first) :]:
            shape = self._shapes[f"{name}.weight"]
            if len(shape) != 2 or component(name) != component(first):
                continue
            sizes[SAME_INPUT.sub("", name)] = 4 * shape[1] ** 2
            if sum(sizes.values()) > self._limit_bytes:
                break
            window.append(name)
        return window


class StopForward(Exception):
    """Ends a forward pass early, once all Hessians that are collected have their inputs."""


class HessianCollector:
    """Collects Hessians while the reference runs; it is called with each linear layer's input.

    `sums`: matrix name -> Hessian so far, the sum of x xT [columns, columns] over the inputs x of
    all positions; only for the matrices in `names`. Raises StopForward after the last of the
    matrices in `missing`, so that the pass ends early; with an empty `missing`, never.
    """

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self.sums: dict[str, Tensor] = {}
        self.missing: set[str] = set()

    def __call__(self, x: Tensor, names: tuple[str, ...]) -> None:
        """Adds the input x [..., columns] of the matrices `names` to their Hessians."""
        collected = [name for name in names if name in self.names]
        if not collected:
            return
        rows = x.flatten(0, -2)
        sums = rows.T @ rows
        if collected[0] in self.sums:
            self.sums[collected[0]] += sums
        else:
            self.sums |= dict.fromkeys(collected, sums)  # one for all: their inputs are the same
        if self.missing and self.missing <= set(collected):
            raise StopForward
        self.missing.difference_update(collected)
