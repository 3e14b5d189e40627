"""Measures how far next-token distributions, and image features, are from a reference's.

An accumulator takes pairs of arrays of the reference and of the model under test (the subject),
keeps a few numbers of each pair and summarises them.
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
        """Adds the two models' logits [vocab] for one token; returns their KL divergence in nats.

        Both must follow the same prompt and the same earlier tokens.
        """
        self._klds.append(divergence(reference, subject))
        self._agree += int(np.argmax(reference) == np.argmax(subject))
        return self._klds[-1]

    def result(self) -> Fidelity | None:
        """Returns the statistics of all pairs so far; None if nothing was added."""
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
    """Collects statistics of pairs of image features; keeps one number per image token."""

    def __init__(self) -> None:
        self._cosines: list[float] = []
        self._errors: list[float] = []

    def add(self, reference: FloatArray, subject: FloatArray) -> None:
        """Adds the two models' features [image tokens, hidden] of one request's images."""
        a, b = reference.astype(np.float64), subject.astype(np.float64)
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        self._cosines += list((a * b).sum(-1) / norms)
        self._errors.append(float(np.abs(a - b).max() / np.abs(a).max()))

    def result(self) -> Features | None:
        """Returns the statistics of all pairs so far; None if nothing was added."""
        if not self._cosines:
            return None
        return Features(
            n=len(self._cosines),
            cosine=float(np.mean(self._cosines)),
            min_cosine=float(np.min(self._cosines)),
            max_error=max(self._errors),
        )


def surprise(logits: FloatArray, token: int) -> float:
    """Returns -log softmax(logits)[token] in nats, for logits [vocab].

    The exp of its mean over a text's tokens is the perplexity.
    """
    return float(-_log_softmax(logits)[token])


def divergence(reference: FloatArray, subject: FloatArray) -> float:
    """Returns KL(softmax(reference) || softmax(subject)) in nats, for logits [vocab] of one token.

    Computed in double precision; never negative.
    """
    log_p, log_q = _log_softmax(reference), _log_softmax(subject)
    return max(0.0, float(np.sum(np.exp(log_p) * (log_p - log_q))))


def _log_softmax(logits: FloatArray) -> NDArray[np.float64]:
    """Returns the logarithms of the probabilities [vocab], in double precision."""
    shifted = logits.astype(np.float64) - float(logits.max())
    return shifted - np.log(np.exp(shifted).sum())  # type: ignore[no-any-return]
