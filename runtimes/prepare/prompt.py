"""Fills in a model's prompt recipe: a Prompt becomes a text, a Templates becomes token ids."""

from collections.abc import Callable

from export.errors import UserError, unknown
from export.prompts import Prompt, PromptTask, Templates, filled
from runtimes.base import Request

Tokenize = Callable[[str], list[int]]
REGION_POSITIONS = {0: 0, 2: 2, 4: 3}
"""Numbers in a Region -> positions it takes in a prompt. A point takes two (x, y), a box three (x
and y of its centre, its size)."""


def image_text(prompt: Prompt, rows: int, cols: int, tokens_per_tile: int) -> str:
    """Returns the text of one image in a prompt: image tokens for all tiles, and the separators.

    The image is cut into `rows` x `cols` tiles and an overview, or not cut if both are 1.
    """
    tokens = (prompt.image_token or "") * tokens_per_tile
    if rows * cols == 1:
        return filled(prompt.single, tokens=tokens)
    text = prompt.start
    for row in range(1, rows + 1):
        for col in range(1, cols + 1):
            text += filled(prompt.tile, row=str(row), col=str(col), tokens=tokens)
        text += prompt.row_end
    return text + filled(prompt.overview, tokens=tokens)


def task_of(templates: Templates, request: Request) -> PromptTask:
    """Returns the task that a request asks for; if it names none, the model's first task.

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
    """Returns a prompt's token ids, and the index in them where the region starts.

    Without a region, the index is the number of ids.
    """
    image = [templates.placeholder] * (templates.image_positions if request.images else 0)
    start = [*templates.start, *image, *task.before, *_encoded(task.opening, request, tokenize)]
    region = [templates.placeholder] * REGION_POSITIONS[len(request.region)]
    end = [*_encoded(task.closing, request, tokenize), *task.after]
    ids = [*start, *region, *end]
    return ids, len(start) if region else len(ids)


def _encoded(text: str, request: Request, tokenize: Tokenize) -> list[int]:
    filled = text.replace("{question}", request.question)
    return tokenize(filled) if filled else []
