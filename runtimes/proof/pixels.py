"""Compares our pixel values with those of transformers' image processor of the same checkpoint.

The image processor is opened alone: a whole processor also needs a tokenizer and, for families
that take videos, torchvision.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.files import short
from export.model import Model
from export.proof import Skipped
from runtimes.base import Request
from runtimes.prepare.request import Preparer, preparer_of
from runtimes.proof.probes import Probe
from runtimes.proof.torchvision import BROKEN

BACKEND = "pil"
"""The backend of transformers' image processors that we ask for: our recipes equal it to the bit.
The other one, torchvision, rounds otherwise when it resizes."""


@dataclass(frozen=True)
class PixelDifference:
    """How far our pixel values are from an image processor's.

    largest: largest absolute difference of a normalized value; infinity if shapes differ, 0 for a
    model without images. backend: the image processor's; None for a model without images.
    """

    largest: float
    backend: str | None


def compare(model: Model, asked: Sequence[Probe]) -> PixelDifference | Skipped:
    """Compares the pixel values of the probes' images with those of transformers.

    Images are cut as the checkpoint says, without --max-tiles, which transformers does not have.
    The model must come from a folder. Returns Skipped with a reason if transformers has no image
    processor that rounds as Pillow does.
    """
    if model.image is None or model.folder is None:
        return PixelDifference(0.0, None)
    try:
        processor, settings = _image_processor(model.folder)
    except BROKEN as error:  # ModuleNotFoundError if a library below it cannot be imported
        reason = short(" ".join(str(error).split()), 200)
        return Skipped(f"transformers' image processor cannot be opened ({reason})")
    backend = getattr(processor, "backend", type(processor).__name__)
    if backend != BACKEND:
        return Skipped(
            f"transformers has this image processor only for {backend}, which resizes with other "
            f"rounding than Pillow"
        )
    preparer = preparer_of(replace(model, image=model.image.within(None)))
    differences = [
        _difference(probe, processor, settings, preparer) for probe in asked if probe.images
    ]
    return PixelDifference(max(differences, default=0.0), backend)


def _image_processor(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Returns the image processor of a checkpoint, and the settings that its processor passes."""
    from transformers import PROCESSOR_MAPPING, AutoConfig, AutoImageProcessor

    config = type(AutoConfig.from_pretrained(folder))
    settings = getattr(PROCESSOR_MAPPING[config], "images_kwargs", {})
    processor = AutoImageProcessor.from_pretrained(folder, backend=BACKEND)  # type: ignore[no-untyped-call]
    return processor, dict(settings)


def _difference(
    probe: Probe, processor: Any, settings: dict[str, Any], preparer: Preparer
) -> float:
    """Returns the largest absolute difference of the probe's pixel values."""
    images = preparer(Request(probe.question, probe.images)).images
    ours = np.concatenate([image.values for image in images])
    found = processor(images=[list(probe.images)], return_tensors="np", **settings)
    expected = np.asarray(found["pixel_values"])
    if expected.shape[-3:] != ours.shape[-3:] or expected.size != ours.size:
        return float("inf")
    expected = expected.reshape(ours.shape)  # some processors return one more axis, of size 1
    return float(np.abs(expected - ours).max())
