"""Fills in a prompt recipe: a Prompt becomes the prompt's text, a Templates the prompt's ids."""

import re
from collections.abc import Callable, Iterable

from export.errors import UserError, unknown
from export.prompts import Prompt, PromptTask, Templates
from runtimes.base import Request

Tokenize = Callable[[str], list[int]]
TileCounts = tuple[int, int, int]
"""Of one image: rows and columns of tiles (1, 1: not cut), and image tokens of each tile."""
REGION_POSITIONS = {0: 0, 2: 2, 4: 3}
"""Length of a Region -> positions it takes in a prompt: x and y; for a box x, y and size."""


def prompt_text(prompt: Prompt, question: str, images: Iterable[TileCounts]) -> str:
    """The whole prompt: the images' tokens, then the question."""
    if prompt.strip:
        question = question.strip()
    tokens = "".join(image_text(prompt, *counts) for counts in images)
    if not tokens:
        return _filled(prompt.text_only, question=question)
    return _filled(prompt.with_images, images=tokens, question=question)


def image_text(prompt: Prompt, rows: int, cols: int, tokens_per_tile: int) -> str:
    """One image in the prompt: the image tokens of all tiles, with the recipe's separators."""
    tokens = (prompt.image_token or "") * tokens_per_tile
    if rows * cols == 1:
        return _filled(prompt.single, tokens=tokens)
    text = prompt.start
    for row in range(1, rows + 1):
        for col in range(1, cols + 1):
            text += _filled(prompt.tile, row=str(row), col=str(col), tokens=tokens)
        text += prompt.row_end
    return text + _filled(prompt.overview, tokens=tokens)


def task_of(templates: Templates, request: Request) -> PromptTask:
    """The task that a request asks for; without a name, the model's first one.

    Raises UserError for an unknown task, for a request that lacks what the task needs, for too many
    images and for a region that is not in normalized coordinates.
    """
    if request.task and request.task not in templates.tasks:
        raise unknown("task", request.task, templates.tasks)
    name = request.task or next(iter(templates.tasks))
    task = templates.tasks[name]
    asked = request.question or request.ids
    given = {"image": request.images, "question": asked, "place": request.region}
    if missing := [need for need in task.needs if not given[need]]:
        raise UserError(f"{name} needs {' and '.join(missing)}, which the request lacks")
    if len(request.images) > templates.most_images:
        raise UserError(
            f"{len(request.images)} images were given, but this model takes one; ask about each"
        )
    if len(request.region) not in REGION_POSITIONS or not all(0 <= x <= 1 for x in request.region):
        raise UserError(
            f"place {request.region}: expected x, y or x_min, y_min, x_max, y_max from 0 to 1"
        )
    return task


def template_ids(
    templates: Templates, task: PromptTask, request: Request, tokenize: Tokenize
) -> tuple[list[int], int]:
    """The prompt's ids, and the index where the region starts (their number if there is none)."""
    image = [templates.placeholder] * (templates.image_positions if request.images else 0)
    start = [*templates.start, *image, *task.before, *_encoded(task.opening, request, tokenize)]
    region = [templates.placeholder] * REGION_POSITIONS[len(request.region)]
    end = [*_encoded(task.closing, request, tokenize), *task.after]
    ids = [*start, *region, *end]
    return ids, len(start) if region else len(ids)


def _encoded(text: str, request: Request, tokenize: Tokenize) -> list[int]:
    filled = text.replace("{question}", request.question)
    return tokenize(filled) if filled else []


def _filled(template: str, **fields: str) -> str:
    """Replaces each {field} in one pass; str.format would evaluate what a foreign file contains."""
    return re.sub(r"\{(\w+)\}", lambda match: fields.get(match[1], match[0]), template)
