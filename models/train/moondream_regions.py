"""What teaches Moondream to answer with places: a loss over its region heads.

A point is x, y; a box is the x and y of its middle, then width and height. Each is read from the
state before it and, as its true value, fed back as the next position. Nothing in it depends on
values, so a step can be captured. NOT aware of data sets.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from models.train import moondream_files as files
from models.train.moondream_model import Moondream, embed, logits, of
from models.train.packing import Frame
from runtimes.session.regions import LAST_BIN, SMALLEST_LOG2

STEPS = 3  # x, y, size
BLUR = 1 / 128  # of all bins: a near one is nearly right


@dataclass(frozen=True)
class Wanted:
    """Questions (n,): ids (n, length) with room for STEPS places from `starts` on, the box in
    shares (n, 4), whether it is there, and whether its size is wanted too."""

    ids: Tensor
    starts: Tensor
    boxes: Tensor
    is_there: Tensor
    is_sized: Tensor

    @property
    def middle(self) -> Tensor:
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @property
    def size(self) -> Tensor:
        return (self.boxes[:, 2:] - self.boxes[:, :2]).clamp_min(2.0**SMALLEST_LOG2)


def prompt(name: str, sized: bool) -> str:
    task = "detect" if sized else "point"
    return f"{files.PREFIXES[task]} {name}{files.SUFFIXES[task]}"


def region_loss(
    model: nn.Module, frame: Frame, images: Tensor, wanted: Wanted
) -> tuple[Tensor, Tensor]:
    """The loss; and x and y (n, 2) in shares as they would be answered, y given the true x."""
    made = of(model)
    states = _states(made, frame, images, wanted)
    rows = torch.arange(len(wanted.ids), device=images.device)
    at = [states[rows, wanted.starts - 1 + step] for step in range(STEPS + 1)]
    is_there, is_sized = wanted.is_there, wanted.is_sized & wanted.is_there
    axes = [made.heads.logits(made.ops, "coord", at[axis]) for axis in range(2)]
    loss = torch.stack(
        [_mean(bins_losses(axes[n], wanted.middle[:, n]), is_there) for n in range(2)]
    ).mean()
    sizes = made.heads.logits(made.ops, "size", at[2]).unflatten(-1, (2, -1))
    shares = 1 - torch.log2(wanted.size) / SMALLEST_LOG2
    losses = bins_losses(sizes.flatten(0, 1), shares.flatten(), last=True)
    loss = loss + _mean(losses, is_sized.repeat_interleave(2))
    # Whether there is one, and that no other follows: after x and y, or after the size.
    after = torch.where(is_sized[:, None], at[3], at[2])
    more, stop = made.vlm.image_token_id, made.vlm.stop_token_ids[0]
    first = torch.where(is_there, more, stop)
    ends = cross_entropy(logits(model, at[0]), first, reduction="none")
    last = cross_entropy(logits(model, after), torch.full_like(first, stop), reduction="none")
    found = torch.stack([axis.argmax(-1) / axis.shape[-1] for axis in axes], dim=-1)
    return loss + ends.mean() + _mean(last, is_there), found


def bins_losses(logits: Tensor, shares: Tensor, last: bool = False) -> Tensor:
    """(n,), of (n, bins) against a bell around the bin of each share (n,).

    Bin i is i / bins, or i / LAST_BIN if the `last` one is 1.
    """
    bins = logits.shape[-1]
    place = (shares * (LAST_BIN if last else bins)).clamp(0, bins - 1)[:, None]
    bin_ = torch.arange(bins, device=logits.device)
    bell = torch.softmax(-((bin_ - place) ** 2) / (2 * (BLUR * bins) ** 2), dim=-1)
    return cross_entropy(logits, bell, reduction="none")


def _mean(losses: Tensor, counts: Tensor) -> Tensor:
    return (losses * counts).sum() / counts.sum().clamp_min(1)


def _states(model: Moondream, frame: Frame, images: Tensor, wanted: Wanted) -> Tensor:
    """(n, length, width): true places are fed back behind each prompt."""
    embeddings = embed(model, wanted.ids)
    place = torch.arange(wanted.ids.shape[1], device=images.device)
    middle = wanted.middle
    fed = (("coord", middle[:, :1]), ("coord", middle[:, 1:]), ("size", wanted.size))
    for step, (part, numbers) in enumerate(fed):
        # bfloat16 has no room for the angles.
        with torch.autocast(images.device.type, enabled=False):
            embedded = model.heads.embed(model.ops, part, numbers)
        is_here = place == wanted.starts[:, None] + step  # (n, length)
        embeddings = torch.where(is_here[:, :, None], embedded[:, None], embeddings)
    blocks = embeddings.reshape(len(images), -1, embeddings.shape[-1])
    return frame.hidden(model, images, blocks).reshape(*wanted.ids.shape, -1)
