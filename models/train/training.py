"""Trains a twin in two stages of counted steps.

1. labels: the vision modules learn to name what is in each image cell;
2. answers: the whole model learns to answer, with the first loss kept on beside it.

From scratch, answers alone stop at a plateau where colours are solved and shapes are guessed.
Deterministic for one thread and one seed. NOT aware of files.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from models.train.family import Family
from models.train.optimizer import Optimizer
from models.train.packing import Packer, scored_logits
from models.train.task import Example, Pixels, Question, Task

LOG_EVERY = 50


@dataclass(frozen=True)
class Recipe:
    label_steps: int = 300
    label_batch: int = 64
    answer_steps: int = 1000
    answer_batch: int = 32
    # The rate falls to zero in `answer_steps`, or in more with turns on the way: see Optimizer.
    answer_decay_steps: int | None = None
    answer_turns: tuple[tuple[int, int], ...] = ()
    label_loss_weight: float = 0.5
    place_loss_weight: float = 0.5
    # Share of the first stage's rate. At the full rate the second stage spoils what the first one
    # learned, and matching the question's colour to the image's is learned much later.
    answer_peak: float = 0.4
    # Matrix products of a step in bfloat16, weights and their updates in float32: about twice as
    # fast where the CPU multiplies in bfloat16.
    bfloat16: bool = False


@dataclass(frozen=True)
class Course:
    """All that decides the weights, and where to report progress lines."""

    family: Family
    task: Task
    tokenizer: Tokenizer
    examples: list[Example]
    recipe: Recipe
    seed: int
    report: Callable[[str], None]


def train(course: Course) -> nn.Module:
    torch.manual_seed(course.seed)
    model = course.family.build(course.tokenizer).train()
    if course.recipe.bfloat16 and isinstance(model, PreTrainedModel):
        # The fused attention's gradient is several times slower in bfloat16.
        model.set_attn_implementation("eager")
    attributes = course.task.attributes(course.family.grid)
    heads = nn.ModuleList(nn.Linear(course.family.width, count) for count in attributes)
    rng = np.random.default_rng(course.seed)
    _learn_labels(course, model, heads, rng)
    _learn_answers(course, model, heads, rng)
    return model.eval()


def _learn_labels(
    course: Course, model: nn.Module, heads: nn.ModuleList, rng: np.random.Generator
) -> None:
    family, task, recipe = course.family, course.task, course.recipe
    named = [*_named(family.vision(model)), *_named([heads], "head.")]
    optimizer = Optimizer(named, recipe.label_steps, floor=0.1)
    log = Log("labels", course.report)
    for chosen in batches(course.examples, recipe.label_batch, recipe.label_steps, rng):
        pixels = [task.shown(example, rng) for example in chosen]
        with precision(recipe):
            images = family.image_tokens(model, to_tensor(pixels))
            loss, accuracy = label_loss(heads, images, cell_labels(course, chosen, pixels))
        optimizer.step(loss)
        log.add(loss=loss, accuracy=accuracy)


def _learn_answers(
    course: Course, model: nn.Module, heads: nn.ModuleList, rng: np.random.Generator
) -> None:
    family, task, recipe = course.family, course.task, course.recipe
    packer = Packer(family.prompt, family.grid**2, course.tokenizer)
    named = [*model.named_parameters(), *_named([heads], "head.")]
    decay_steps = recipe.answer_decay_steps or recipe.answer_steps
    optimizer = Optimizer(named, decay_steps, recipe.answer_peak, turns=recipe.answer_turns)
    counts = answer_counts(course.examples)
    log = Log("answers", course.report)
    for chosen in batches(course.examples, recipe.answer_batch, recipe.answer_steps, rng):
        pixels = [task.shown(example, rng) for example in chosen]
        asked = [drawn(e, weights(e, counts, task.by_kind), rng) for e in chosen]
        with precision(recipe):
            images = family.image_tokens(model, to_tensor(pixels))
            labels_loss, _ = label_loss(heads, images, cell_labels(course, chosen, pixels))
            parts = [
                scored_logits(family, model, packer, images[rows], packer.pack(questions))
                for rows, questions in by_number(asked)
            ]
            logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
            answers_loss = cross_entropy(logits, labels)
            places_loss = _places_loss(course, model, images, chosen, rng)
        total = answers_loss + recipe.label_loss_weight * labels_loss
        optimizer.step(total + recipe.place_loss_weight * places_loss)
        accuracy = (logits.argmax(-1) == labels).float().mean()
        log.add(
            loss=answers_loss, accuracy=accuracy, labels_loss=labels_loss, places_loss=places_loss
        )


def _places_loss(
    course: Course,
    model: nn.Module,
    images: Tensor,
    chosen: list[Example],
    rng: np.random.Generator,
) -> Tensor:
    """0 for models that answer in words only, and where no shape is placed."""
    rows = [row for row, example in enumerate(chosen) if course.task.has_places(example)]
    if course.family.place_loss is None or not rows:
        return torch.zeros(())
    return course.family.place_loss(model, images[rows], [chosen[row] for row in rows], rng)


def label_loss(heads: nn.ModuleList, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss, summed over attributes, and the share of occupied cells with all attributes right."""
    loss = torch.zeros(())
    is_right = torch.ones(labels.shape[:2], dtype=torch.bool)
    for index, head in enumerate(heads):
        logits = head(images)  # (batch, cells, classes)
        loss = loss + cross_entropy(logits.flatten(0, 1), labels[:, :, index].flatten())
        is_right &= logits.argmax(-1) == labels[:, :, index]
    return loss, is_right[labels.any(-1)].float().mean()


def batches(
    examples: list[Example], size: int, steps: int, rng: np.random.Generator
) -> Iterator[list[Example]]:
    """`steps` batches; every example by its weight before any comes again."""
    order: list[int] = []
    once = np.repeat(np.arange(len(examples)), [example.weight for example in examples])
    for _ in range(steps):
        if len(order) < size:
            order += once[rng.permutation(len(once))].tolist()
        yield [examples[index] for index in order[:size]]
        order = order[size:]


def answer_counts(examples: list[Example]) -> Counter[tuple[str, str]]:
    return Counter(
        (asked.text, asked.answer) for example in examples for asked in example.questions
    )


def weights(
    example: Example, counts: Counter[tuple[str, str]], by_kind: bool
) -> NDArray[np.float64]:
    """Probabilities of an image's questions: the rarer the answer among its text's, the higher.

    Drawn evenly, "is there a red shape?" is answered "no" in eight of nine images, and so it is
    by the model. `by_kind`: each kind of question has the same share.
    """
    rarity = np.array([1 / counts[asked.text, asked.answer] for asked in example.questions])
    if by_kind:
        kinds = np.array([asked.kind for asked in example.questions])
        for kind in set(kinds.tolist()):
            rarity[kinds == kind] /= rarity[kinds == kind].sum()
    return rarity / rarity.sum()


def drawn(
    example: Example, weights: NDArray[np.float64], rng: np.random.Generator
) -> list[Question]:
    chosen = rng.choice(len(weights), size=example.asked, p=weights)
    return [example.questions[n] for n in chosen]


def by_number(asked: list[list[Question]]) -> Iterator[tuple[list[int], list[list[Question]]]]:
    """Images with as many questions each: their rows, and the questions."""
    for number in sorted({len(questions) for questions in asked}):
        rows = [row for row, questions in enumerate(asked) if len(questions) == number]
        yield rows, [asked[row] for row in rows]


def precision(recipe: Recipe) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16)


def to_tensor(pixels: list[Pixels]) -> Tensor:
    """(batch, 3, height, width) in [-1, 1]: what the image processor makes of them."""
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return (stacked.float() / 255 - 0.5) / 0.5


def cell_labels(course: Course, chosen: list[Example], pixels: list[Pixels]) -> Tensor:
    """(batch, grid * grid, attributes)"""
    grid = course.family.grid
    labels = map(course.task.cell_labels, chosen, pixels, [grid] * len(chosen))
    return torch.from_numpy(np.stack(list(labels)))


def _named(modules: list[nn.Module], prefix: str = "") -> Iterator[tuple[str, nn.Parameter]]:
    for module in modules:
        for name, parameter in module.named_parameters():
            yield prefix + name, parameter


class Log:
    """Means of the last LOG_EVERY steps, as lines."""

    def __init__(self, stage: str, report: Callable[[str], None]) -> None:
        self._stage = stage
        self._report = report
        self._step = 0
        self._sums: dict[str, float] = {}

    def add(self, **values: Tensor) -> None:
        self._step += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        if self._step % LOG_EVERY == 0:
            means = " ".join(f"{k} {v / LOG_EVERY:.4f}" for k, v in self._sums.items())
            self._report(f"{self._stage} {self._step}: {means}")
            self._sums = {}
