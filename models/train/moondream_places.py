"""What teaches Moondream to answer with places: a loss over its region heads.

A point is x, y; a box is the x and y of its middle, then width and height. Each is read from the
state before it and, as its true value, fed back as the next position. NOT aware of data sets.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.tasks.scenes import Thing
from bench.tasks.scenes.drawing import COLOURS, SHAPES
from export import network
from models.train import moondream_files as files
from models.train.moondream_model import Moondream, embed, hidden, logits, of
from models.train.packing import block_mask
from models.train.task import Example
from runtimes.places import SMALLEST_LOG2

ASKED = 4  # packed behind one image
ABSENT = 0.2  # share of questions about something that is not there
STEPS = 3  # x, y, size
BLUR = 1.0  # bins: a neighbour of the right one is nearly right
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Asked:
    """One question: prompt ids, and the box of what it is about (None: not in the image)."""

    ids: list[int]
    box: Box | None
    sized: bool


@dataclass(frozen=True)
class Batch:
    """Questions in one row: what they are, where each one's answer begins, what it is.

    `starts` (questions,); `middle` and `size` (questions, 2) in shares of the image.
    """

    asked: list[Asked]
    starts: Tensor
    middle: Tensor
    size: Tensor

    @staticmethod
    def of(asked: list[Asked]) -> "Batch":
        boxes = torch.tensor([question.box or (0.0,) * 4 for question in asked])
        return Batch(
            asked,
            starts=torch.tensor([len(question.ids) for question in asked]),
            middle=(boxes[:, :2] + boxes[:, 2:]) / 2,
            size=(boxes[:, 2:] - boxes[:, :2]).clamp_min(2**SMALLEST_LOG2),
        )


def place_loss(
    model: nn.Module, images: Tensor, examples: list[Example], rng: np.random.Generator
) -> Tensor:
    """Of ASKED questions about each image, whose image tokens are (batch, cells, width)."""
    made = of(model)
    batch = Batch.of([asked for e in examples for asked in drawn(made, e.things, rng)])
    states = _states(made, images, batch)
    rows = torch.arange(len(batch.asked))
    at = [states[rows, batch.starts - 1 + step] for step in range(STEPS + 1)]
    is_there = torch.tensor([question.box is not None for question in batch.asked])
    is_sized = torch.tensor([question.sized for question in batch.asked]) & is_there
    coordinates = torch.cat([at[0][is_there], at[1][is_there]])
    loss = bins_loss(
        network.place_logits(made.ops, "coord", coordinates), batch.middle[is_there].T.flatten()
    )
    sizes = network.place_logits(made.ops, "size", at[2][is_sized]).unflatten(-1, (2, -1))
    shares = 1 - torch.log2(batch.size[is_sized]) / SMALLEST_LOG2
    loss = loss + bins_loss(sizes.flatten(0, 1), shares.flatten(), last=True)
    ends = torch.cat([at[0], at[2][is_there & ~is_sized], at[3][is_sized]])
    more = torch.cat([is_there, torch.zeros(len(ends) - len(is_there), dtype=torch.bool)])
    wanted = torch.where(more, made.vlm.image_token_id, made.vlm.stop_token_ids[0])
    return loss + cross_entropy(logits(made, ends), wanted)


def drawn(model: Moondream, things: tuple[Thing, ...], rng: np.random.Generator) -> list[Asked]:
    """ASKED questions about what is there once, or not at all; points and boxes."""
    names = [thing.name for thing in things]
    boxes = {thing.name: thing.box for thing in things if names.count(thing.name) == 1}
    there, absent = list(boxes), [name for name in NAMES if name not in names]
    found = []
    for _ in range(ASKED):
        pool = there if there and rng.random() > ABSENT else absent
        name, sized = pool[rng.integers(len(pool))], bool(rng.random() < 0.5)
        task = "detect" if sized else "point"
        text = f"{files.PREFIXES[task]} {name}{files.SUFFIXES[task]}"
        box = cast(Box | None, boxes.get(name))
        found.append(Asked(model.tokenizer.encode(text).ids, box, sized))
    return found


def bins_loss(logits: Tensor, shares: Tensor, last: bool = False) -> Tensor:
    """Mean of `bins_losses`; there may be none."""
    return bins_losses(logits, shares, last).sum() / max(1, len(logits))


def bins_losses(logits: Tensor, shares: Tensor, last: bool = False) -> Tensor:
    """(n,), of (n, bins) against a bell around the bin of each share (n,).

    Bin i is i / bins, or i / (bins - 1) where the `last` one is 1.
    """
    bins = logits.shape[-1]
    place = (shares * (bins - 1 if last else bins)).clamp(0, bins - 1)[:, None]
    bin_ = torch.arange(bins, device=logits.device)
    bell = torch.softmax(-((bin_ - place) ** 2) / (2 * BLUR**2), dim=-1)
    return cross_entropy(logits, bell, reduction="none")


def _states(model: Moondream, images: Tensor, batch: Batch) -> Tensor:
    """(questions, length, width): the decoder's states, true places fed back behind each prompt."""
    length = int(batch.starts.max()) + STEPS
    padded = [asked.ids + [0] * (length - len(asked.ids)) for asked in batch.asked]
    embeddings = embed(model, torch.tensor(padded)).clone()
    rows = torch.arange(len(padded))
    fed = (("coord", batch.middle[:, :1]), ("coord", batch.middle[:, 1:]), ("size", batch.size))
    for step, (part, numbers) in enumerate(fed):
        with torch.autocast("cpu", enabled=False):  # bfloat16 has no room for the angles
            embedded = network.place_embedding(model.ops, part, numbers)
        embeddings[rows, batch.starts + step] = embedded
    begin = embed(model, torch.tensor([model.vlm.bos_token_id])).expand(len(images), -1, -1)
    blocks = embeddings.reshape(len(images), -1, embeddings.shape[-1])
    inputs = torch.cat([begin, images, blocks], dim=1)
    prefix = 1 + images.shape[1]
    mask = block_mask(prefix, ASKED, length)
    mask[:, :, :prefix, :prefix] = 0
    positions = torch.cat([torch.arange(prefix), (prefix + torch.arange(length)).repeat(ASKED)])
    states = hidden(model, inputs, mask, positions.expand(len(images), -1))
    return states[:, prefix:].reshape(len(padded), length, -1)
