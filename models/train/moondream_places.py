"""What teaches Moondream to answer with places: a loss over its region heads.

A point is x, y; a box is the x and y of its middle, then width and height. Each is read from the
state before it and, as its true value, fed back as the next position. NOT aware of data sets.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from export import network
from models.train import moondream_files as files
from models.train.packing import block_mask
from models.train.task import Example
from runtimes.places import SMALLEST_LOG2

if TYPE_CHECKING:
    from models.train.moondream import Moondream

ASKED = 4  # packed behind one image
ABSENT = 0.2  # share of questions about something that is not there
POSITIONS = 3  # x, y, size
BLUR = 1.0  # bins: a neighbour of the right one is nearly right
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Asked:
    """One question: prompt ids, and the box of what it is about (None: not in the image)."""

    ids: list[int]
    box: Box | None
    sized: bool


def place_loss(
    model: nn.Module, images: Tensor, examples: list[Example], rng: np.random.Generator
) -> Tensor:
    """Of ASKED questions about each image, (batch, cells, width) of image tokens."""
    made = cast("Moondream", model)
    asked = [_drawn(made, example, rng) for example in examples]
    flat = [question for row in asked for question in row]
    length = max(len(question.ids) for question in flat) + POSITIONS
    starts = torch.tensor([len(question.ids) for question in flat])
    boxes = torch.tensor([question.box or (0.0,) * 4 for question in flat])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = (boxes[:, 2:] - boxes[:, :2]).clamp_min(2**SMALLEST_LOG2)
    states = _states(made, images, flat, length, (starts, middle, size))
    at = [states[torch.arange(len(flat)), starts - 1 + step] for step in range(POSITIONS + 1)]
    is_there = torch.tensor([question.box is not None for question in flat])
    is_sized = torch.tensor([question.sized for question in flat]) & is_there
    is_point = is_there & ~is_sized
    coordinates = torch.cat([at[0][is_there], at[1][is_there]])
    loss = _bins_loss(
        network.place_logits(made.ops, "coord", coordinates), middle[is_there].T.flatten()
    )
    both = network.place_logits(made.ops, "size", at[2][is_sized]).unflatten(-1, (2, -1))
    shares = 1 - torch.log2(size[is_sized]) / SMALLEST_LOG2
    # the last bin is 1
    loss = loss + _bins_loss(both.flatten(0, 1), shares.flatten(), last=True)
    ends = torch.cat([at[0], at[2][is_point], at[3][is_sized]])
    more = torch.cat([is_there, torch.zeros(len(ends) - len(is_there), dtype=torch.bool)])
    end = made.vlm.stop_token_ids[0]
    wanted = torch.where(more, made.vlm.image_token_id, end)
    from models.train.moondream import logits

    return loss + cross_entropy(logits(made, ends), wanted)


def _drawn(model: "Moondream", example: Example, rng: np.random.Generator) -> list[Asked]:
    names = [thing.name for thing in example.things]
    boxes = {thing.name: thing.box for thing in example.things if names.count(thing.name) == 1}
    there = list(boxes)
    from bench.tasks.scenes.drawing import COLOURS, SHAPES

    anything = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    absent = [name for name in anything if name not in names]
    found = []
    for _ in range(ASKED):
        pool = there if there and rng.random() > ABSENT else absent
        name, sized = pool[rng.integers(len(pool))], bool(rng.random() < 0.5)
        task = "detect" if sized else "point"
        text = f"{files.PREFIXES[task]} {name}{files.SUFFIXES[task]}"
        box = cast(Box | None, boxes.get(name))
        found.append(Asked(model.tokenizer.encode(text).ids, box, sized))
    return found


def _states(
    model: "Moondream",
    images: Tensor,
    flat: list[Asked],
    length: int,
    places: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """(questions, length, width): the decoder's states, true places fed back behind each prompt."""
    from models.train.moondream import embed, hidden

    starts, middle, size = places
    padded = [question.ids + [0] * (length - len(question.ids)) for question in flat]
    embeddings = embed(model, torch.tensor(padded)).clone()
    rows = torch.arange(len(flat))
    for step, (part, numbers) in enumerate(
        (("coord", middle[:, :1]), ("coord", middle[:, 1:]), ("size", size))
    ):
        with torch.autocast("cpu", enabled=False):  # bfloat16 has no room for the angles
            embedded = network.place_embedding(model.ops, part, numbers)
        embeddings[rows, starts + step] = embedded.to(embeddings.dtype)
    batch = len(images)
    begin = embed(model, torch.tensor([model.vlm.bos_token_id])).expand(batch, -1, -1)
    inputs = torch.cat([begin, images, embeddings.reshape(batch, -1, embeddings.shape[-1])], dim=1)
    prefix = 1 + images.shape[1]
    mask = block_mask(prefix, ASKED, length)
    mask[:, :, :prefix, :prefix] = 0
    positions = torch.cat([torch.arange(prefix), (prefix + torch.arange(length)).repeat(ASKED)])
    states = hidden(model, inputs, mask, positions.expand(batch, -1))
    return states[:, prefix:].reshape(len(flat), length, -1)


def _bins_loss(logits: Tensor, shares: Tensor, last: bool = False) -> Tensor:
    """Against a bell around the bin of each share; bin n is n / bins, or n / (bins - 1) if `last`.

    (n, bins) and (n,)."""
    bins = logits.shape[-1]
    place = (shares * (bins - 1 if last else bins)).clamp(0, bins - 1)[:, None]
    bell = torch.softmax(-((torch.arange(bins) - place) ** 2) / (2 * BLUR**2), dim=-1)
    # There may be none.
    return cross_entropy(logits, bell, reduction="sum") / max(1, len(logits))
