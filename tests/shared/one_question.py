"""What a training family's forward says of one question, with nothing packed beside it."""

import torch
from torch import Tensor, nn

from models.train.family import Family
from models.train.packing import NOTHING, Frame, Packer
from models.train.task import Question


def scored_logits(
    family: Family, model: nn.Module, packer: Packer, images: Tensor, question: Question
) -> tuple[Tensor, Tensor]:
    """Logits (scored, vocabulary) and labels (scored,) of the answer's tokens.

    `images` are one picture's tokens, (1, grid * grid, width).
    """
    ids, known = packer.encoded(question)
    frame = Frame(family, packer, 1, len(ids))
    hidden = frame.hidden(model, images, family.embed(model, torch.tensor([ids])))[0]
    labels = torch.tensor(known)
    is_scored = labels != NOTHING
    return family.logits(model, hidden[is_scored]), labels[is_scored]
