"""How far a subject's next-token distributions are from the reference's, token by token.

NOT aware of runtimes, prompts or artifacts: it sees pairs of logits and keeps three numbers each.
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


class Accumulator:
    """Collects pairs of logits without holding them."""

    def __init__(self) -> None:
        self._klds: list[float] = []
        self._agree = 0

    def add(self, reference: FloatArray, subject: FloatArray) -> None:
        """One token: logits [vocab] of both, computed after the same prefix."""
        self._klds.append(divergence(reference, subject))
        self._agree += int(np.argmax(reference) == np.argmax(subject))

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


def divergence(reference: FloatArray, subject: FloatArray) -> float:
    """KL(softmax(reference) || softmax(subject)) in nats, in double precision; never negative."""
    log_p, log_q = _log_softmax(reference), _log_softmax(subject)
    return max(0.0, float(np.sum(np.exp(log_p) * (log_p - log_q))))


def _log_softmax(logits: FloatArray) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return shifted - np.log(np.exp(shifted).sum())  # type: ignore[no-any-return]
