"""Compares our preprocessing with the Hugging Face processor of the same checkpoint.

transformers is imported at the moment when it is needed.
"""

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np

from export.families import FAMILIES
from export.model import Model
from export.proof import PreprocessingCheck, Skipped
from runtimes.base import Request
from runtimes.prepare.image import edge
from runtimes.prepare.request import Preparer, preparer_of
from runtimes.proof import pixels
from runtimes.proof.probes import Probe, probes

# Both compute (x / 255 - mean) / std in float32, but may round in another order.
PIXEL_TOLERANCE = 1e-5


def compare(model: Model) -> PreprocessingCheck | Skipped:
    """Compares our preprocessing of the probes (test questions) with the Hugging Face processor's.

    Compares pixels and token ids. Returns Skipped with a reason if there is no processor to compare
    with. Images are cut as the checkpoint says, without --max-tiles, which transformers does not
    have.
    """
    if model.folder is None:
        return Skipped("random weights come without a processor")
    if not FAMILIES[model.vlm.family].preprocessor_file:
        return Skipped("transformers has no processor of this family")
    if importlib.util.find_spec("transformers") is None:
        return Skipped("transformers is not installed (pip install 'pocket-vlm[reference]')")
    from transformers import AutoProcessor

    try:
        # For a checkpoint without a processor, this is the tokenizer.
        processor = AutoProcessor.from_pretrained(model.folder)  # type: ignore[no-untyped-call]
    except (ImportError, ValueError) as error:  # video processors need num2words, torchvision
        if isinstance(error, ValueError) and "torchvision" not in str(error):
            raise
        return Skipped(" ".join(str(error).split()).split(". ")[0])
    image = None if model.image is None else model.image.within(None)
    preparer = preparer_of(replace(model, image=image))
    asked = probes(edge(image))
    difference = pixels.compare(model, asked).largest
    ids = [_ids_equal(probe, processor, preparer) for probe in asked]
    return PreprocessingCheck(
        n=len(asked),
        max_pixel_difference=difference,
        equal_ids=sum(ids),
        equal=difference <= PIXEL_TOLERANCE and all(ids),
    )


def _ids_equal(probe: Probe, processor: Any, preparer: Preparer) -> bool:
    """Returns whether the probe's prompt ids equal those of the processor."""
    ours = preparer(Request(probe.question, probe.images)).ids
    expected = np.asarray(_processed(probe, processor)["input_ids"])[0]
    return np.array_equal(expected, ours)


def _processed(probe: Probe, processor: Any) -> Any:
    """Returns what the processor makes of a probe: its `input_ids` and `pixel_values`."""
    content = [{"type": "image"}] * len(probe.images)
    content.append({"type": "text", "text": probe.question})
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    images = {"images": [list(probe.images)]} if probe.images else {}
    tokenizer = getattr(processor, "tokenizer", processor)
    has_bos = text.startswith(tokenizer.bos_token or "\0")  # the chat template may have added it
    return processor(text=text, return_tensors="np", add_special_tokens=not has_bos, **images)
