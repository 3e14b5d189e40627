"""Packs several questions about an image behind one image prefix.

Each question sees the prefix and itself, and its positions go on from the prefix, so the result
equals asking one question at a time. NOT aware of tasks or of how a model computes.
"""

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import pad

from models.train.family import Family, Prompt
from models.train.task import Question

NOTHING = -100  # label of a position that is not scored


@dataclass(frozen=True)
class Packed:
    """One question in rows of ids and labels, padded to `length`."""

    ids: Tensor  # (batch, questions, length)
    labels: Tensor  # (batch, questions, length), the next id where it belongs to the answer


class Packer:
    """Encodes each text once; prefix ids are those of the family's prompt."""

    def __init__(self, prompt: Prompt, image_tokens: int, tokenizer: Tokenizer) -> None:
        self._prompt = prompt
        self._tokenizer = tokenizer
        self._known: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        self.before = tokenizer.encode(prompt.before_image).ids
        self.after = tokenizer.encode(prompt.after_image).ids
        self.prefix = len(self.before) + image_tokens + len(self.after)

    def pack(self, asked: list[list[Question]]) -> Packed:
        """Rows of one number of questions each."""
        rows = [[self._encoded(question) for question in questions] for questions in asked]
        length = max(len(ids) for row in rows for ids, _ in row)
        ids = [[ids + [0] * (length - len(ids)) for ids, _ in row] for row in rows]
        labels = [[known + [NOTHING] * (length - len(known)) for _, known in row] for row in rows]
        return Packed(torch.tensor(ids), torch.tensor(labels))

    def _encoded(self, question: Question) -> tuple[list[int], list[int]]:
        key = (question.text, question.answer)
        if key not in self._known:
            asked = self._tokenizer.encode(self._prompt.question.format(question=question.text)).ids
            answer = self._tokenizer.encode(self._prompt.answer.format(answer=question.answer)).ids
            # The last id is predicted and never read.
            ids = asked + answer[:-1]
            self._known[key] = (ids, [NOTHING] * (len(asked) - 1) + answer)
        return self._known[key]


def scored_logits(
    family: Family, model: nn.Module, packer: Packer, images: Tensor, packed: Packed
) -> tuple[Tensor, Tensor]:
    """Logits (scored, vocabulary) and labels (scored,) of the answers' tokens.

    `images` are image tokens, (batch, grid * grid, width).
    """
    batch, questions, length = packed.ids.shape
    before, after = (
        family.embed(model, torch.tensor(ids, dtype=torch.long)).expand(batch, -1, -1)
        for ids in (packer.before, packer.after)
    )
    asked = family.embed(model, packed.ids.reshape(batch, -1))
    embeddings = torch.cat([before, images, after, asked], dim=1)
    positions = torch.cat(
        [torch.arange(packer.prefix), (packer.prefix + torch.arange(length)).repeat(questions)]
    )
    mask = block_mask(packer.prefix, questions, length)
    if family.sees_itself:
        start = len(packer.before) if family.sees_itself == "image" else 0
        itself = slice(start, len(packer.before) + images.shape[1])
        mask[:, :, itself, itself] = 0
    mask = mask.expand(batch, 1, -1, -1)
    hidden = family.hidden(model, embeddings, mask, positions.expand(batch, -1))
    labels = pad(packed.labels.reshape(batch, -1), (packer.prefix, 0), value=NOTHING)
    is_scored = labels != NOTHING
    return family.logits(model, hidden[is_scored]), labels[is_scored]


def block_mask(prefix: int, questions: int, length: int) -> Tensor:
    """(1, 1, total, total), 0 or -inf: causal, and no question sees another."""
    block = torch.cat([torch.zeros(prefix), 1 + torch.arange(questions).repeat_interleave(length)])
    is_seen = (block[None, :] == 0) | (block[None, :] == block[:, None])
    return torch.zeros(is_seen.shape).masked_fill(~is_seen.tril(), float("-inf"))[None, None]
