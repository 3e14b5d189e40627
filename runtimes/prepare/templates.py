"""Prompts that are put together from ids: a Templates recipe, filled in.

NOT aware of pixels, files or models; a tokenizer is a function from text to ids.
"""

from collections.abc import Callable

from export.errors import UserError, unknown
from export.prompts import PromptTask, Templates
from runtimes.base import Request

Encode = Callable[[str], list[int]]
PLACE_POSITIONS = {0: 0, 2: 2, 4: 3}
"""Numbers of a place -> its positions: x and y; those of a box's middle, and its size."""


def task_of(templates: Templates, request: Request) -> PromptTask:
    """The task that is asked. Raises UserError for one that there is not, or that lacks something.

    A place (x, y) or (x_min, y_min, x_max, y_max) is in shares of the image's width and height.
    """
    if request.task and request.task not in templates.tasks:
        raise unknown("task", request.task, templates.tasks)
    name = request.task or next(iter(templates.tasks))
    task = templates.tasks[name]
    asked = request.question or request.ids
    given = {"image": request.images, "question": asked, "place": request.place}
    if missing := [need for need in task.needs if not given[need]]:
        raise UserError(f"{name} needs {' and '.join(missing)}, which the request lacks")
    if len(request.images) > templates.most_images:
        raise UserError(
            f"{len(request.images)} images were given, but this model takes one; ask about each"
        )
    if len(request.place) not in PLACE_POSITIONS or not all(0 <= x <= 1 for x in request.place):
        raise UserError(
            f"place {request.place}: expected x, y or x_min, y_min, x_max, y_max from 0 to 1"
        )
    return task


def template_ids(
    templates: Templates, task: PromptTask, request: Request, encode: Encode
) -> tuple[list[int], int]:
    """The prompt's ids, and where among them the place begins (their end where there is none)."""
    image = [templates.placeholder] * (templates.image_positions if request.images else 0)
    begin = [*templates.start, *image, *task.before, *_encoded(task.opening, request, encode)]
    place = [templates.placeholder] * PLACE_POSITIONS[len(request.place)]
    end = [*_encoded(task.closing, request, encode), *task.after]
    ids = [*begin, *place, *end]
    return ids, len(begin) if place else len(ids)


def _encoded(text: str, request: Request, encode: Encode) -> list[int]:
    filled = text.replace("{question}", request.question)
    return encode(filled) if filled else []
