"""How a question and the grids of its images become the prompt's text: a Prompt recipe, filled in.

NOT aware of pixels, tokenizers or models.
"""

import re
from collections.abc import Iterable

from export.prompts import Prompt

Cut = tuple[int, int, int]
"""Rows and columns of tiles, and image tokens of one tile; 1, 1 is an image that was not cut."""


def prompt_text(prompt: Prompt, question: str, cuts: Iterable[Cut]) -> str:
    """The whole prompt, images first, each written out as its tiles' tokens."""
    if prompt.strip:
        question = question.strip()
    images = "".join(image_text(prompt, *cut) for cut in cuts)
    if not images:
        return _filled(prompt.text_only, question=question)
    return _filled(prompt.with_images, images=images, question=question)


def image_text(prompt: Prompt, rows: int, cols: int, tokens_per_tile: int) -> str:
    """One image's place in the prompt: `tokens_per_tile` image tokens a tile, with their marks."""
    tokens = (prompt.image_token or "") * tokens_per_tile
    if rows * cols == 1:
        return _filled(prompt.single, tokens=tokens)
    text = ""
    for row in range(1, rows + 1):
        for col in range(1, cols + 1):
            text += _filled(prompt.tile, row=str(row), col=str(col), tokens=tokens)
        text += prompt.row_end
    return text + _filled(prompt.overview, tokens=tokens)


def _filled(template: str, **fields: str) -> str:
    """Each {field} replaced, in one pass. Not str.format: templates come from files of others."""
    return re.sub(r"\{(\w+)\}", lambda match: fields.get(match[1], match[0]), template)
