"""Measures the distance between next-token distributions, and between image features.

Takes pairs of a reference and a subject, keeps a few numbers of each pair and summarises them.
"""

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray
from export.proof import Features, Fidelity


class Accumulator:
    """Collects statistics of pairs of logits; keeps one number per token, not the logits."""

    def __init__(self) -> None:
        self._klds: list[float] = []
        self._agree = 0

    def add(self, reference: FloatArray, subject: FloatArray) -> float:
        """Add the logits [vocab] of one token, after the same prefix; returns their divergence."""
        self._klds.append(divergence(reference, subject))
        self._agree += int(np.argmax(reference) == np.argmax(subject))
        return self._klds[-1]

    def result(self) -> Fidelity | None:
        """The statistics so far; None if nothing was added."""
        if not self._klds:
            return None
        klds = np.array(self._klds)
        return Fidelity(
            n=len(klds),
            mean_kld=float(klds.mean()),
            kld_p99=float(np.quantile(klds, 0.99)),
            kld_p999=float(np.quantile(klds, 0.999)),
            max_kld=float(klds.max()),
            top1=self._agree / len(klds),
        )


class FeatureAccumulator:
    """Collects statistics of pairs of image features; keeps one number per row, not the rows."""

    def __init__(self) -> None:
        self._cosines: list[float] = []
        self._errors: list[float] = []

    def add(self, reference: FloatArray, subject: FloatArray) -> None:
        """Add the features [image tokens, hidden] of one request."""
        a, b = reference.astype(np.float64), subject.astype(np.float64)
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        self._cosines += list((a * b).sum(-1) / norms)
        self._errors.append(float(np.abs(a - b).max() / np.abs(a).max()))

    def result(self) -> Features | None:
        """The statistics so far; None if nothing was added."""
        if not self._cosines:
            return None
        return Features(
            n=len(self._cosines),
            cosine=float(np.mean(self._cosines)),
            min_cosine=float(np.min(self._cosines)),
            max_error=max(self._errors),
        )


def surprise(logits: FloatArray, token: int) -> float:
    """-log softmax(logits)[token] in nats; the exp of their mean is the perplexity."""
    return float(-_log_softmax(logits)[token])


def divergence(reference: FloatArray, subject: FloatArray) -> float:
    """KL(softmax(reference) || softmax(subject)) in nats, in double precision; never negative."""
    log_p, log_q = _log_softmax(reference), _log_softmax(subject)
    return max(0.0, float(np.sum(np.exp(log_p) * (log_p - log_q))))


def _log_softmax(logits: FloatArray) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return shifted - np.log(np.exp(shifted).sum())  # type: ignore[no-any-return]
