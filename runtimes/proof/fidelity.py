"""How far a subject's next-token distributions are from the reference's, token by token.

NOT aware of runtimes, prompts or artifacts: it sees pairs of logits, or of rows of features, and
keeps a few numbers of each.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.base import FloatArray


@dataclass(frozen=True)
class Fidelity:
    """Kullback-Leibler divergence KL(reference || subject) in nats over `n` tokens."""

    n: int
    mean_kld: float
    kld_p99: float
    kld_p999: float
    max_kld: float
    top1: float
    """Share of tokens where both distributions have the same largest entry."""


@dataclass(frozen=True)
class Features:
    """Rows of image features against the reference's: cosines, and the largest error as a share."""

    n: int
    cosine: float
    min_cosine: float
    max_error: float


class Accumulator:
    """Collects pairs of logits without holding them."""

    def __init__(self) -> None:
        self._klds: list[float] = []
        self._agree = 0

    def add(self, reference: FloatArray, subject: FloatArray) -> float:
        """One token: logits [vocab] of both, computed after the same prefix; their divergence."""
        self._klds.append(divergence(reference, subject))
        self._agree += int(np.argmax(reference) == np.argmax(subject))
        return self._klds[-1]

    def result(self) -> Fidelity | None:
        """The figures so far; None when nothing was added."""
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
    """Collects the rows [image tokens, hidden] of several images without holding them."""

    def __init__(self) -> None:
        self._cosines: list[float] = []
        self._errors: list[float] = []

    def add(self, reference: FloatArray, subject: FloatArray) -> None:
        a, b = reference.astype(np.float64), subject.astype(np.float64)
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        self._cosines += list((a * b).sum(-1) / norms)
        self._errors.append(float(np.abs(a - b).max() / np.abs(a).max()))

    def result(self) -> Features | None:
        """The figures so far; None when nothing was added."""
        if not self._cosines:
            return None
        return Features(
            n=len(self._cosines),
            cosine=float(np.mean(self._cosines)),
            min_cosine=float(np.min(self._cosines)),
            max_error=max(self._errors),
        )


def surprise(logits: FloatArray, token: int) -> float:
    """-log softmax(logits)[token] in nats; a perplexity is exp of their mean."""
    return float(-_log_softmax(logits)[token])


def divergence(reference: FloatArray, subject: FloatArray) -> float:
    """KL(softmax(reference) || softmax(subject)) in nats, in double precision; never negative."""
    log_p, log_q = _log_softmax(reference), _log_softmax(subject)
    return max(0.0, float(np.sum(np.exp(log_p) * (log_p - log_q))))


def _log_softmax(logits: FloatArray) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return shifted - np.log(np.exp(shifted).sum())  # type: ignore[no-any-return]
