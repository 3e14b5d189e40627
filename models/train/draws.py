"""Whether a way of rounding loses less, or was lucky with one model's layout.

    python -m models.train.draws models/tiny-gemma3 --task easy-vqa --draws 24

If a matrix's columns and its inputs change places and signs together, the model is the same, but
its blocks are others, and so is what rounding loses: one more draw. Each draw is rounded to nearest
and by the search, and the reference is asked along its own answers. NOT aware of file formats.
"""

import argparse
import zlib
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean
from typing import Any

import numpy as np
import torch

from bench.tasks.scenes import GENERATORS
from export.arrays import FloatArray
from export.checkpoint.registry import open_model
from export.model import Model
from export.quantize.recipe import RECIPES, Method
from export.quantize.rounding import Rounding
from export.quantize.simulate import rounded
from export.weights import Weights, Wrapper
from models.train.questions import EASY_VQA
from models.train.rounded import Asker, questions
from runtimes.base import Request
from runtimes.calibrate.hessian import one_tile_images
from runtimes.proof.fidelity import divergence
from runtimes.reference import ReferenceScorer, open_session

NORMAL_95 = 1.96


@dataclass(frozen=True)
class Drawn(Wrapper):
    """Weights as int4 keeps them in one layout; draw 0 is the stored one."""

    weights: Weights
    method: Method
    draw: int

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        """As Weights.read."""
        values = self.weights.read(name, start, stop)
        storage = RECIPES["int4"].rounded(self.method).storage(name, self.shapes()[name])
        if storage.bits != 4:
            return values
        rows = values.reshape(len(values), -1)
        place, sign = _layout(name, rows.shape[1], self.draw)
        moved = np.ascontiguousarray((rows * sign)[:, place])
        back = np.empty_like(rows)
        back[:, place] = rounded(name, moved, storage, Rounding())
        return (back * sign).reshape(values.shape)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.train.draws", description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--task", action="append", required=True, choices=[EASY_VQA, *GENERATORS])
    parser.add_argument("--limit", type=int, default=60, help="questions of each task")
    parser.add_argument("--draws", type=int, default=24)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = one_tile_images(open_model(arguments.folder))
    print("| task | tokens | search by nearest | 95 % | least | most | as stored |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for task in arguments.task:
        asked = _asked(model, task, arguments.limit)
        ratios = [
            _loss(model, "search", draw, asked) / _loss(model, "nearest", draw, asked)
            for draw in range(arguments.draws)
        ]
        print(_row(task, sum(len(request.answer or ()) for request, _ in asked), ratios))


def _asked(model: Model, task: str, limit: int) -> list[tuple[Request, FloatArray]]:
    """Questions with the reference's answers, and its logits [answer, vocab]."""
    asker, scorer = Asker(model, open_session(model, threads=1)), ReferenceScorer(model)
    found = []
    for one in islice(questions(task), limit):
        request = Request(one.question, (one.image,), answer=asker.words(one)[1])
        found.append((request, scorer.score(request, scorer.features(request))))
    return found


def _loss(
    model: Model, method: Method, draw: int, asked: list[tuple[Request, FloatArray]]
) -> float:
    """Mean divergence over all tokens."""
    scorer = ReferenceScorer(replace(model, weights=Drawn(model.weights, method, draw)))
    losses = []
    for request, expected in asked:
        found = scorer.score(request, scorer.features(request))
        losses += [divergence(p, q) for p, q in zip(expected, found, strict=True)]
    return fmean(losses)


def _layout(name: str, columns: int, draw: int) -> tuple[np.ndarray[Any, Any], FloatArray]:
    """Where columns go, and their signs."""
    if draw == 0:
        return np.arange(columns), np.ones(columns, np.float32)
    rng = np.random.default_rng([draw, zlib.crc32(name.encode())])
    return rng.permutation(columns), rng.choice(np.array([-1, 1], np.float32), columns)


def _row(task: str, tokens: int, ratios: list[float]) -> str:
    """Geometric means: a ratio of one half and one of two are even."""
    logs = np.log(ratios)
    half = NORMAL_95 * logs.std(ddof=1) / np.sqrt(len(logs))
    middle, low, high = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    return (
        f"| {task} | {tokens} | {middle:.2f} | {low:.2f} to {high:.2f} "
        f"| {min(ratios):.2f} | {max(ratios):.2f} | {ratios[0]:.2f} |"
    )


if __name__ == "__main__":
    main()
