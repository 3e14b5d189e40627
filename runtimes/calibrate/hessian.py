"""What the inputs of a model's linear maps are like on real questions, for calibrated rounding.

The reference answers the questions while sums of x xT are taken of what reaches each matrix; as
many matrices at a time as a bound of memory allows. NOT aware of bits or formats.
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
from export.files import sha256_of
from export.model import Model
from export.modeling.vlm import component
from export.quantize.gptq import compensation
from runtimes.base import Request
from runtimes.calibrate.questions import read_questions
from runtimes.prepare.image import edge, one_tile
from runtimes.proof.probes import Probe, probes
from runtimes.reference import ReferenceScorer

SUMS_BYTES = 1 << 30
SAME_INPUT = re.compile(r"(?<=attn_)[qkv]$|(?<=ffn_)(gate|up)$")
KEPT_FACTORS = 4  # query, key and value share one; two threads round at a time


def calibrated(model: Model, questions: Path | None) -> Model:
    """The model with the curvature of its inputs on a file's questions, or on the proof's probes.

    Raises UserError for a file that is none (runtimes.calibrate.questions).
    """
    asked, origin = _asked(model, questions)
    return replace(model, curvature=Curvatures(model, asked, origin))


def requests_of(model: Model, questions: Path | None) -> tuple[Request, ...]:
    """The questions as forced requests: answers are given, not found."""
    asked, _ = _asked(model, questions)
    return _requests(ReferenceScorer(small(model)), model, asked)


def _asked(model: Model, questions: Path | None) -> tuple[Sequence[Probe], Mapping[str, Any]]:
    if questions is None:
        return probes(edge(one_tile(model.image))), {"questions": "the proof's probes"}
    found = read_questions(questions)
    return found, {"questions": questions.name, "sha256": sha256_of(questions), "n": len(found)}


def small(model: Model) -> Model:
    """Tiles of one image are alike, so one of them says enough."""
    return replace(model, image=one_tile(model.image))


def _requests(scorer: ReferenceScorer, model: Model, asked: Sequence[Probe]) -> tuple[Request, ...]:
    most = model.prompt.most_images
    return tuple(
        Request(
            p.question, p.images, answer=scorer.tokens(p.answer) or model.vlm.stop_token_ids[:1]
        )
        for p in asked
        if most is None or len(p.images) <= most
    )


class Curvatures:
    """export.quantize.rounding.Curvature of a model; collects when it is asked."""

    def __init__(
        self,
        model: Model,
        asked: Sequence[Probe],
        origin: Mapping[str, Any],
        sums_bytes: int = SUMS_BYTES,
    ) -> None:
        self.origin = origin
        self._shapes = model.weights.shapes()
        self._listener = HessianCollector()
        self._scorer = ReferenceScorer(small(model), self._listener)
        self._requests = _requests(self._scorer, model, asked)
        self._features: list[FloatArray | None] | None = None
        self._sums_bytes = sums_bytes
        self._collected: frozenset[str] = frozenset()
        self._factors: OrderedDict[int, tuple[Tensor, FloatArray]] = OrderedDict()
        self._lock = threading.Lock()

    def factor(self, name: str) -> FloatArray | None:
        """See export.quantize.rounding.Curvature; several threads may ask."""
        if component(name) == "region":
            return None  # no question leads there
        with self._lock:
            if name not in self._collected:
                self._collect(name)
            sums = self._listener.sums.get(name)
            return None if sums is None else self._factor(sums)

    def _factor(self, sums: Tensor) -> FloatArray:
        """Of the last few sums it is kept."""
        key = id(sums)
        if key not in self._factors:
            self._factors[key] = (sums, compensation(sums.numpy()))
            if len(self._factors) > KEPT_FACTORS:
                self._factors.popitem(last=False)
        return self._factors[key][1]

    def _collect(self, first: str) -> None:
        """The sums of `first` and of those behind it, until the bound."""
        self._collected = frozenset(self._window(first))
        self._listener.names, self._listener.sums = self._collected, {}
        self._factors.clear()
        if component(first) == "vision" or self._features is None:
            self._features = [self._scorer.features(request) for request in self._requests]
        if component(first) != "vision":
            for request, features in zip(self._requests, self._features, strict=True):
                self._listener.missing = set(self._collected)
                with suppress(StopForward):
                    self._scorer.score(request, features)

    def _window(self, first: str) -> list[str]:
        """Matrices of one component, in the order of the network."""
        names = [n.removesuffix(".weight") for n in self._shapes if n.endswith(".weight")]
        window, sizes = [first], dict[str, int]()
        for name in names[names.index(first) :]:
            shape = self._shapes[f"{name}.weight"]
            if len(shape) != 2 or component(name) != component(first):
                continue
            sizes[SAME_INPUT.sub("", name)] = 4 * shape[1] ** 2
            if sum(sizes.values()) > self._sums_bytes:
                break
            window.append(name)
        return window


class StopForward(Exception):
    """Nothing after this in the network is collected."""


class HessianCollector:
    """Sums over positions of x xT [columns, columns], for the inputs x of the matrices `names`.

    An observer of the reference interpreter. Raises StopForward once it has seen the last of the
    matrices in `missing`, so that a pass ends early.
    """

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self.sums: dict[str, Tensor] = {}
        self.missing: set[str] = set()

    def __call__(self, x: Tensor, names: tuple[str, ...]) -> None:
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
