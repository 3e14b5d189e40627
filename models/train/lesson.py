"""One step's loss in tensors of fixed shapes, all data on the device.

Nothing in it depends on values or is copied from the host, so that it can be compiled, captured
as a CUDA graph and replayed. NOT aware of optimizers or schedules.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from models.train import toys
from models.train.family import Family
from models.train.moondream_regions import STEPS, Wanted, prompt
from models.train.packing import NOTHING, Frame, Packer
from models.train.plan import QUESTIONS, WORDS
from models.train.pool import BOXES, MOST_THINGS, NAMES, NONE, Pool

STATISTICS = ("answers", "right", "labels", "places")


@dataclass(frozen=True)
class Shown:
    """What a step shows, see plan.Plan: a row of each of its arrays."""

    pictures: Tensor
    asked: Tensor
    placed: Tensor
    subjects: Tensor
    things: Tensor
    sized: Tensor
    answer_weight: Tensor


class Lesson(nn.Module):
    """A model, heads that read labels off its image tokens, and the tables of a pool."""

    def __init__(
        self,
        family: Family,
        model: nn.Module,
        tokenizer: Tokenizer,
        pool: Pool,
        weights: tuple[float, float],
        device: str,
    ) -> None:
        super().__init__()
        self.family, self.model, self.device = family, model, device
        self.label_weight, self.place_weight = weights
        self._parts = (toys.FIELDS // family.grid) ** 2
        classes = self._parts * sum(toys.CLASSES) + 2 * (1 + family.grid)
        # A name with "head" in it is for AdamW.
        self.label_head = nn.Linear(family.width, classes)
        self._packer = Packer(family.prompt, family.grid**2, tokenizer)
        self._tables(pool)
        self._frame = Frame(family, self._packer, QUESTIONS, self._ids.shape[1], device)
        if family.region_loss is not None:
            self._prompts(tokenizer)
        self.to(device)

    def forward(self, shown: Shown) -> tuple[Tensor, Tensor]:
        """The loss, and means in the order of STATISTICS."""
        pictures = torch.cat([shown.pictures, shown.placed])
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            images = self.family.image_tokens(self.model, self._shown(pictures))
            labels = self._label_loss(images, pictures)
            asked = images[: len(shown.pictures)]
            logits, wanted = self._answered(asked, shown.asked)
            answers = cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=NOTHING)
            places = torch.zeros_like(labels)
            if self.family.region_loss is not None:
                places, _ = self._placed(images[len(shown.pictures) :], shown)
        total = answers + self.place_weight * places
        total = shown.answer_weight * total + self.label_weight * labels
        is_scored = wanted != NOTHING
        right = ((logits.argmax(-1) == wanted) & is_scored).sum() / is_scored.sum()
        return total, torch.stack([answers, right, labels, places]).detach()

    def _label_loss(self, images: Tensor, pictures: Tensor) -> Tensor:
        """Of what is in each field of each image token, and of the token's own row and column."""
        grid, side = self.family.grid, toys.FIELDS // self.family.grid
        fields = self._fields[pictures].view(-1, grid, side, grid, side, len(toys.CLASSES))
        fields = fields.transpose(2, 3).reshape(len(pictures), grid**2, self._parts, -1).long()
        logits = self.label_head(images).float()
        named, where = logits.split([self._parts * sum(toys.CLASSES), 2 * (1 + grid)], dim=-1)
        loss = torch.zeros((), device=logits.device)
        split = named.unflatten(-1, (self._parts, -1)).split(toys.CLASSES, dim=-1)
        for index, attribute in enumerate(split):
            wanted = fields[..., index].flatten()
            loss = loss + cross_entropy(attribute.flatten(0, -2), wanted)
        is_occupied = fields.flatten(2).any(-1).flatten(1)
        cell = torch.arange(grid**2, device=logits.device)
        axes = where.unflatten(-1, (2, -1)).unbind(2)
        for axis, place in zip(axes, (1 + cell // grid, 1 + cell % grid), strict=True):
            loss = loss + cross_entropy(axis.flatten(0, 1), (place * is_occupied).flatten())
        return loss

    def _answered(self, images: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (batch, places, vocabulary), and labels (batch, places)."""
        ids = self._ids[asked].flatten(1)
        hidden = self._frame.hidden(self.model, images, self.family.embed(self.model, ids))
        return self.family.logits(self.model, hidden).float(), self._labels[asked].flatten(1)

    def _placed(self, images: Tensor, shown: Shown) -> tuple[Tensor, Tensor]:
        assert self.family.region_loss is not None
        which = 2 * shown.subjects + shown.sized  # (placed, QUESTIONS)
        boxes = self._boxes[shown.placed[:, None], shown.things.clamp_min(0)]
        wanted = Wanted(
            self._prompt_ids[which].flatten(0, 1),
            self._prompt_ends[which].flatten(),
            boxes.flatten(0, 1),
            (shown.things != NONE).flatten(),
            shown.sized.flatten(),
        )
        return self.family.region_loss(self.model, self._place_frame, images, wanted)

    def _shown(self, pictures: Tensor) -> Tensor:
        """(batch, 3, height, width) in [-1, 1]"""
        return self._pixels[pictures].permute(0, 3, 1, 2).float() / 127.5 - 1

    def _tables(self, pool: Pool) -> None:
        rows = [self._packer.encoded(question) for question in pool.questions]
        length = max(len(ids) for ids, _ in rows)
        ids = [known + [0] * (length - len(known)) for known, _ in rows]
        labels = [known + [NOTHING] * (length - len(known)) for _, known in rows]
        self._ids, self._labels = self._on_device(np.array(ids)), self._on_device(np.array(labels))
        self._pixels, self._fields = self._on_device(pool.pixels), self._on_device(pool.fields)
        self._boxes = self._on_device(pool.boxes)

    def _prompts(self, tokenizer: Tokenizer) -> None:
        """Point and box of each of NAMES."""
        rows = [tokenizer.encode(prompt(n, sized)).ids for n in NAMES for sized in (False, True)]
        length = max(map(len, rows)) + STEPS
        self._prompt_ids = self._on_device(np.array([r + [0] * (length - len(r)) for r in rows]))
        self._prompt_ends = self._on_device(np.array([len(row) for row in rows]))
        self._place_frame = Frame(self.family, self._packer, QUESTIONS, length, self.device)

    def _on_device(self, values: np.ndarray) -> Tensor:  # type: ignore[type-arg]
        return torch.from_numpy(values).to(self.device)

    @torch.no_grad()
    def right(self, pool: Pool, batch: int) -> dict[str, tuple[int, int]]:
        """(right, asked) of each kind of question in a pool that this lesson was made of.

        An answer is right when all its tokens are the most probable ones. Only pictures that a
        course asks about in words count.
        """
        right: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        is_asked = np.isin(np.arange(len(pool.kinds)), pool.of_kinds(WORDS))
        rows, columns = np.nonzero((pool.asked != NONE) & is_asked[:, None])
        for first in range(0, len(rows), batch):
            of = pool.asked[rows[first : first + batch], columns[first : first + batch]]
            pictures = self._on_device(rows[first : first + batch])
            # One question of each row counts; the others are there for the shape alone.
            repeated = self._on_device(of.astype(np.int64))[:, None].expand(-1, QUESTIONS)
            with torch.autocast(torch.device(self.device).type, torch.bfloat16):
                images = self.family.image_tokens(self.model, self._shown(pictures))
                logits, wanted = self._answered(images, repeated)
            length = self._ids.shape[1]
            is_right = (logits.argmax(-1) == wanted) | (wanted == NOTHING)
            for question, hit in zip(of, is_right[:, :length].all(1).tolist(), strict=True):
                asked[pool.questions[question].kind] += 1
                right[pool.questions[question].kind] += hit
        return {kind: (right[kind], asked[kind]) for kind in sorted(asked)}

    @torch.no_grad()
    def pointed(self, pool: Pool) -> tuple[int, int]:
        """(within its box, asked) of all things of a pool's pictures of BOXES."""
        pictures = pool.of_kinds((BOXES,))
        columns = np.arange(QUESTIONS)  # one more than there are things
        things = np.tile(columns % MOST_THINGS, (len(pictures), 1))
        subjects = np.take_along_axis(pool.named[pictures], things, axis=1)
        is_asked = (subjects != NONE) & (columns < MOST_THINGS)
        shown = Shown(
            pictures=self._on_device(pictures[:0]),
            asked=self._on_device(things[:0]),
            placed=self._on_device(pictures),
            subjects=self._on_device(np.maximum(subjects, 0).astype(np.int64)),
            things=self._on_device(things),
            sized=self._on_device(np.zeros_like(is_asked)),
            answer_weight=torch.ones(()),
        )
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            images = self.family.image_tokens(self.model, self._shown(shown.placed))
            _, found = self._placed(images, shown)
        box = np.take_along_axis(pool.boxes[pictures], things[..., None], axis=1)
        point = found.float().cpu().numpy().reshape(*is_asked.shape, 2)
        is_within = ((box[..., :2] <= point) & (point <= box[..., 2:])).all(-1)
        return int((is_within & is_asked).sum()), int(is_asked.sum())
