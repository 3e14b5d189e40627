"""Trains one twin on all tasks at once, on a GPU in minutes.

    python -m models.train pooled smolvlm --pool build/pool --steps 4000 --out build/tiny-smolvlm

`--pool` is what `python -m models.train draw` has drawn. With `--steps ask` it trains for nothing
and prints how fast that is until a number of steps is written to its input. NOT aware of other
trainings beside it.
"""

import argparse
import select
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from bench.analysis.stats import proportion
from models.train import plan as plans
from models.train import pool as pools
from models.train.families import FAMILIES
from models.train.family import Family
from models.train.lesson import STATISTICS, Lesson, Shown
from models.train.optimizer import Optimizer
from models.train.pace import PACES
from models.train.toys import PART

SPELLED = frozenset({"latin", "hangul", PART})
"""Kinds of questions whose answers do not become tokens of their own."""
TOKENIZED = 20000
"""Pictures whose texts the tokenizer learns from."""
CHAT_WORDS = ("User:", "Assistant:")
ASK = "ask"
LOG_EVERY = 100
CHECKS = 4
"""How often what is held out is asked about, and the weights are stored, on the way."""
EXAM_BATCH = 512
TRIED = 20


def main(words: Sequence[str]) -> int:
    arguments = _parser().parse_args(words)
    _settle(arguments.device)
    trained, held_out = (pools.load(arguments.pool / name) for name in ("train", "held-out"))
    course = Course(FAMILIES[arguments.family], trained, held_out, arguments.device, arguments.seed)
    recipe = plans.Recipe(
        2 * plans.Recipe.warm_up, batch=arguments.batch, placed_batch=arguments.batch // 2
    )
    trainer = Trainer(course, recipe, arguments.pace)
    steps = _asked(trainer) if arguments.steps == ASK else int(arguments.steps)
    _report(f"{arguments.family}: {steps} steps of {recipe.batch}, seed {course.seed}")
    trainer.train(replace(recipe, steps=steps), arguments.out)
    return 0


@dataclass(frozen=True)
class Course:
    """All that decides the weights, but for the recipe."""

    family: Family
    trained: pools.Pool
    held_out: pools.Pool
    device: str
    seed: int


class Trainer:
    """A model with the memory of its steps."""

    def __init__(self, course: Course, recipe: plans.Recipe, pace: str) -> None:
        self._course, device = course, course.device
        torch.manual_seed(course.seed)
        family = course.family
        self.tokenizer = tokenizer(family, course.trained)
        self.model = family.build(self.tokenizer).train().to(device)
        weights = (recipe.label_weight, recipe.place_weight)
        self._lesson, self._exam = (
            Lesson(family, self.model, self.tokenizer, pool, weights, device)
            for pool in (course.trained, course.held_out)
        )
        self._optimizer = Optimizer(self._lesson.named_parameters(), device)
        self._sums = torch.zeros(len(STATISTICS), device=device)
        self._rate = torch.zeros((), device=device)
        self._trial = self._planned(recipe)
        self._shown = next(_rows(self._trial))[0]
        of_loss, of_step = PACES[pace]
        self._loss = of_loss(self._lesson)
        _report("ready to step")
        self._step = of_step(self._one)

    def _one(self) -> None:
        loss, statistics = self._loss(self._shown)
        self._optimizer.step(loss, self._rate)
        self._sums += statistics

    def pace(self) -> float:
        """Steps a second, over a few of them."""
        self._wait()
        begin = time.perf_counter()
        for shown, rate in islice(_rows(self._trial), TRIED):
            self._take(shown, rate)
        self._wait()
        return TRIED / (time.perf_counter() - begin)

    def train(self, recipe: plans.Recipe, out: Path) -> None:
        self._optimizer.reset()
        self._sums.zero_()
        checks = {round(recipe.steps * n / CHECKS) for n in range(1, CHECKS + 1)}
        begin = time.perf_counter()
        for step, (shown, rate) in enumerate(_rows(self._planned(recipe)), 1):
            self._take(shown, rate)
            if step % LOG_EVERY == 0:
                means = self._sums.tolist()
                named = zip(STATISTICS, means, strict=True)
                _report(
                    f"{step}: {step / (time.perf_counter() - begin):.1f} steps/s "
                    + " ".join(f"{name} {value / LOG_EVERY:.4f}" for name, value in named)
                )
                self._sums.zero_()
            if step in checks:
                self._check(out)

    def _check(self, out: Path) -> None:
        self._course.family.write(self.model, self.tokenizer, out)
        held_out = self._course.held_out
        scores = self._exam.right(held_out, EXAM_BATCH)
        if self._course.family.region_loss is not None:
            scores["points"] = self._exam.pointed(held_out)
        for kind, (right, asked) in scores.items():
            share = proportion(right, asked)
            if share is not None:
                _report(
                    f"held out, {kind}: {right}/{asked} = {share.value:.2%} "
                    f"[{share.low:.2%}, {share.high:.2%}]"
                )

    def _take(self, shown: Shown, rate: Tensor) -> None:
        for name, value in vars(shown).items():
            getattr(self._shown, name).copy_(value)
        self._rate.copy_(rate)
        self._step()

    def _planned(self, recipe: plans.Recipe) -> plans.Plan:
        has_places = self._course.family.region_loss is not None
        drawn = plans.drawn(self._course.trained, recipe, self._course.seed, has_places)
        tensors = (torch.from_numpy(rows).to(self._course.device) for rows in vars(drawn).values())
        return plans.Plan(*tensors)

    def _wait(self) -> None:
        if self._course.device != "cpu":
            torch.cuda.synchronize()


def _rows(plan: plans.Plan) -> Iterator[tuple[Shown, Tensor]]:
    """What each step shows, and its rate."""
    for *shown, rate, weight in zip(*vars(plan).values(), strict=True):
        yield Shown(*shown, weight), rate


def tokenizer(family: Family, pool: pools.Pool) -> Tokenizer:
    """Of the family's kind, learnt from the texts of some pictures of every kind."""
    chosen = np.random.default_rng(0).permutation(len(pool.asked))[:TOKENIZED]
    texts = []
    for row in pool.asked[chosen]:
        for question in (pool.questions[index] for index in row[row != pools.NONE]):
            texts.append(question.text)
            if question.kind not in SPELLED:
                texts.append(f" {question.answer}")
    return family.tokenizer([*texts, *CHAT_WORDS * TOKENIZED])


def _asked(trainer: Trainer) -> int:
    while not select.select([sys.stdin], [], [], 0)[0]:
        _report(f"pace {trainer.pace():.3f} steps/s")
    return int(sys.stdin.readline())


def _settle(device: str) -> None:
    if device == "cpu":
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("high")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.train pooled", description=__doc__)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--pool", type=Path, required=True, help="see draw")
    parser.add_argument("--steps", required=True, help=f"a number, or '{ASK}'")
    parser.add_argument("--batch", type=int, default=plans.Recipe.batch)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pace", choices=PACES, default="compiled")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def _report(line: str) -> None:
    print(line, flush=True)
