"""Compares our preprocessing with that of transformers for the same checkpoint.

transformers is imported at the moment when it is needed.
"""

import importlib.util
from dataclasses import replace

from export.bounds import PIXEL_TOLERANCE
from export.model import Model
from export.prompts import Prompt
from export.proof import PreprocessingCheck, Skipped
from runtimes.prepare.image import edge
from runtimes.proof import pixels, prompt_ids
from runtimes.proof.probes import probes


def compare(model: Model) -> PreprocessingCheck | Skipped:
    """Compares our preprocessing of the probes (test questions) with transformers'.

    Compares pixels with its image processor, and token ids with its tokenizer and the chat
    template, each also where the other cannot be opened. Returns Skipped with a reason if there is
    nothing to compare with. Images are cut as the checkpoint says, without --max-tiles, which
    transformers does not have.
    """
    if model.folder is None:
        return Skipped("random weights come without a processor")
    if not isinstance(model.prompt, Prompt):
        return Skipped("transformers has no processor of this family")
    if importlib.util.find_spec("transformers") is None:
        return Skipped("transformers is not installed (pip install 'pocket-vlm[reference]')")
    image = None if model.image is None else model.image.within(None)
    asked = probes(edge(image))
    found = pixels.compare(model, asked)
    ids = prompt_ids.compare(replace(model, image=image), model.prompt, asked)
    equal_ids = ids.count in (None, len(asked))
    if not isinstance(found, Skipped):
        equal = equal_ids and found.largest <= PIXEL_TOLERANCE
        return PreprocessingCheck(
            len(asked), found.largest, ids.count, equal, ids.prompts, found.backend
        )
    if ids.count is None:
        return Skipped(f"{found.skipped}; token ids {ids.prompts}")
    reason = f"not compared, {found.skipped}"
    return PreprocessingCheck(len(asked), None, ids.count, equal_ids, ids.prompts, pixels=reason)
