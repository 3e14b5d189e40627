"""Packs several questions about an image behind one image prefix.

Each question sees the prefix and itself, and its positions go on from the prefix, so the result
equals asking one question at a time. NOT aware of tasks or of how a model computes.
"""

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.train.family import Family, Prompt
from models.train.task import Question

NOTHING = -100  # label of a position that is not scored


class Packer:
    """Encodes each text once; prefix ids are those of the family's prompt."""

    def __init__(self, prompt: Prompt, image_tokens: int, tokenizer: Tokenizer) -> None:
        self._prompt = prompt
        self._tokenizer = tokenizer
        self._known: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        self.before = tokenizer.encode(prompt.before_image).ids
        self.after = tokenizer.encode(prompt.after_image).ids
        self.prefix = len(self.before) + image_tokens + len(self.after)

    def encoded(self, question: Question) -> tuple[list[int], list[int]]:
        """Ids of a question with its answer, and as many labels."""
        key = (question.text, question.answer)
        if key not in self._known:
            asked = self._tokenizer.encode(self._prompt.question.format(question=question.text)).ids
            answer = self._tokenizer.encode(self._prompt.answer.format(answer=question.answer)).ids
            # The last id is predicted and never read.
            ids = asked + answer[:-1]
            self._known[key] = (ids, [NOTHING] * (len(asked) - 1) + answer)
        return self._known[key]


class Frame:
    """Where everything stands when `questions` of `length` ids follow an image's prefix.

    All tensors are on `device` and made once. The row is filled up to a multiple of 8 positions,
    which fused attention needs of a mask.
    """

    def __init__(
        self, family: Family, packer: Packer, questions: int, length: int, device: str = "cpu"
    ) -> None:
        self._family = family
        self._before, self._after = (
            torch.tensor([ids], dtype=torch.long, device=device)
            for ids in (packer.before, packer.after)
        )
        self.prefix = packer.prefix
        self._total = self.prefix + questions * length
        self._filled = -self._total % 8
        positions = torch.cat(
            [
                torch.arange(self.prefix),
                (self.prefix + torch.arange(length)).repeat(questions),
                torch.arange(self._filled),
            ]
        )
        mask = block_mask(self.prefix, questions, length, self._filled)
        if family.sees_itself:
            start = len(packer.before) if family.sees_itself == "image" else 0
            itself = slice(start, self.prefix - len(packer.after))
            mask[:, :, itself, itself] = 0
        self._positions, self._mask = positions[None].to(device), mask.to(device)

    def hidden(self, model: nn.Module, images: Tensor, asked: Tensor) -> Tensor:
        """Image tokens and embedded questions, (batch, places, width) each, to the questions'
        states (batch, questions * length, width)."""
        batch, _, width = images.shape
        before, after = (
            self._family.embed(model, ids).expand(batch, -1, -1)
            for ids in (self._before, self._after)
        )
        filled = asked.new_zeros(batch, self._filled, width)
        embeddings = torch.cat([before, images, after, asked, filled], dim=1)
        positions = self._positions.expand(batch, -1)
        states = self._family.hidden(model, embeddings, self._mask, positions)
        return states[:, self.prefix : self._total]


def block_mask(prefix: int, questions: int, length: int, filled: int = 0) -> Tensor:
    """(1, 1, total, total), 0 or -inf: causal, and no question sees another.

    What the row is `filled` up with counts as one more.
    """
    lengths = torch.tensor([prefix, *[length] * questions, filled])
    block = torch.arange(questions + 2).repeat_interleave(lengths)
    is_seen = (block[None, :] == 0) | (block[None, :] == block[:, None])
    return torch.zeros(is_seen.shape).masked_fill(~is_seen.tril(), float("-inf"))[None, None]
