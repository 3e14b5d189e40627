"""Our preprocessing against the HF processor of the same checkpoint: pixels, ids, image tokens.

NOT aware of runtimes. transformers is imported only here, and only when asked.
"""

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np

from export.families import FAMILIES
from export.model import Model
from runtimes.base import Request
from runtimes.prepare.image import edge
from runtimes.prepare.request import Preparer, preparer_of
from runtimes.proof.probes import Probe, probes

# Both sides compute (x / 255 - mean) / std in float32; the order of roundings may differ.
PIXEL_TOLERANCE = 1e-5


def compare(model: Model) -> dict[str, Any]:
    """Probe by probe: largest pixel difference, and whether ids and image tokens are equal.

    A budget of tiles is ours alone: both sides cut as the checkpoint says.
    """
    if model.folder is None:
        return {"skipped": "random weights come without a processor"}
    if not FAMILIES[model.vlm.family].preprocessor_file:
        return {"skipped": "transformers has no processor of this family"}
    if importlib.util.find_spec("transformers") is None:
        return {"skipped": "transformers is not installed (pip install 'pocket-vlm[reference]')"}
    from transformers import AutoProcessor

    try:
        # Where there is no processor, this is the tokenizer.
        processor = AutoProcessor.from_pretrained(model.folder)  # type: ignore[no-untyped-call]
    except (ImportError, ValueError) as error:  # videos want num2words and torchvision
        if isinstance(error, ValueError) and "torchvision" not in str(error):
            raise
        return {"skipped": " ".join(str(error).split()).split(". ")[0]}
    image = None if model.image is None else model.image.within(None)
    preparer = preparer_of(replace(model, image=image))
    asked = probes(edge(image))
    differences = [_pixel_difference(probe, processor, preparer) for probe in asked]
    ids = [_ids_equal(probe, processor, preparer) for probe in asked]
    return {
        "n": len(asked),
        "max_pixel_difference": max(differences),
        "equal_ids": sum(ids),
        "equal": max(differences) <= PIXEL_TOLERANCE and all(ids),
    }


def _pixel_difference(probe: Probe, processor: Any, preparer: Preparer) -> float:
    if not probe.images:
        return 0.0
    images = preparer(Request(probe.question, probe.images)).images
    found = np.concatenate([image.values for image in images])
    expected = np.asarray(_processed(probe, processor)["pixel_values"])
    if expected.shape[-3:] != found.shape[-3:] or expected.size != found.size:
        return float("inf")
    expected = expected.reshape(found.shape)  # some processors have an axis of one more
    return float(np.abs(expected - found).max())


def _ids_equal(probe: Probe, processor: Any, preparer: Preparer) -> bool:
    found = preparer(Request(probe.question, probe.images)).ids
    expected = np.asarray(_processed(probe, processor)["input_ids"])[0]
    return np.array_equal(expected, found)


def _processed(probe: Probe, processor: Any) -> Any:
    content = [{"type": "image"}] * len(probe.images)
    content.append({"type": "text", "text": probe.question})
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    images = {"images": [list(probe.images)]} if probe.images else {}
    tokenizer = getattr(processor, "tokenizer", processor)
    begun = text.startswith(tokenizer.bos_token or "\0")  # as apply_chat_template tells
    return processor(text=text, return_tensors="np", add_special_tokens=not begun, **images)
