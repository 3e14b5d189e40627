"""Accuracy of a model in training, and intervals of shares.

An answer is right when every one of its tokens, the end included, is the most probable one: what
greedy generation would write. NOT aware of files.
"""

from collections import Counter

import torch
from tokenizers import Tokenizer
from torch import nn

from models.train.family import Family
from models.train.packing import NOTHING, Packer, scored_logits
from models.train.task import Example
from models.train.training import to_tensor

Z = 1.959963984540054  # two-sided 95 %


@torch.no_grad()
def accuracy(
    family: Family, model: nn.Module, tokenizer: Tokenizer, examples: list[Example]
) -> dict[str, tuple[int, int]]:
    """(right, asked) for each kind of question, and for "all"."""
    packer = Packer(family.prompt, family.grid**2, tokenizer)
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for example in examples:
        packed = packer.pack([list(example.questions)])
        images = family.image_tokens(model, to_tensor([example.pixels]))
        logits, labels = scored_logits(family, model, packer, images, packed)
        of_question = (packed.labels[0] != NOTHING).nonzero()[:, 0]  # (scored,)
        wrong = set(of_question[logits.argmax(-1) != labels].tolist())
        for index, question in enumerate(example.questions):
            for kind in (question.kind, "all"):
                asked[kind] += 1
                right[kind] += index not in wrong
    return {kind: (right[kind], asked[kind]) for kind in sorted(asked)}


def wilson(right: int, asked: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson, 1927)."""
    share = right / asked
    centre = (share + Z**2 / (2 * asked)) / (1 + Z**2 / asked)
    half = Z * (share * (1 - share) / asked + Z**2 / (4 * asked**2)) ** 0.5 / (1 + Z**2 / asked)
    return centre - half, centre + half
