"""Prompt templates as data: how a question and its images become token ids.

The code that fills in images is in runtimes/prepare/.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Prompt:
    """A text template that makes a prompt of a question and its images; `{…}` is filled in.

    A request with images takes `with_images` ({images}, {question}), others take `text_only`
    ({question}). An image that was cut into tiles becomes the text `start`, then `tile` for each
    tile ({row} and {col} count from 1), `row_end` after each row, and `overview` at the end. An
    image that was not cut becomes `single`. {tokens} is `image_token`, repeated `tokens_per_tile`
    times (None: the image's size decides). strip: remove white space around the question.
    """

    text_only: str
    with_images: str = ""
    start: str = ""
    tile: str = ""
    row_end: str = ""
    overview: str = ""
    single: str = ""
    image_token: str | None = None
    tokens_per_tile: int | None = None
    strip: bool = False
    kind: Literal["text"] = "text"

    def text(self, images: str, question: str) -> str:
        """Returns the text of a whole prompt. `images`: the text of all its images; "": none."""
        if self.strip:
            question = question.strip()
        if not images:
            return filled(self.text_only, question=question)
        return filled(self.with_images, images=images, question=question)

    @property
    def most_images(self) -> int | None:
        """Most images of one prompt. None: only the context limits it; 0: it takes no images."""
        return 0 if self.image_token is None else None


@dataclass(frozen=True)
class PromptTask:
    """One task of a model, such as "caption" or "detect", and its part of the prompt.

    That part is: the ids `before`, the text `opening`, the points or boxes of the request, the text
    `closing` ({question} is filled in), the ids `after`. Each text is tokenized separately.
    answer: text, or up to `most` boxes or points. needs: what a request for this task must have.
    """

    before: tuple[int, ...]
    opening: str
    closing: str
    after: tuple[int, ...]
    answer: Literal["text", "boxes", "points"] = "text"
    most: int = 0
    needs: tuple[Literal["image", "question", "place"], ...] = ()


@dataclass(frozen=True)
class Templates:
    """A template in token ids: a prompt is `start`, then the image, then one of the `tasks`.

    A request that names no task gets the first one. An image takes `image_positions` positions.
    Positions of images and coordinates, which are no tokens, have the id `placeholder`; no text is
    tokenized to it. never_later: ids that only the first token of an answer may have.
    """

    start: tuple[int, ...]
    placeholder: int
    image_positions: int
    tasks: Mapping[str, PromptTask]
    never_later: tuple[int, ...] = ()
    kind: Literal["ids"] = "ids"

    @property
    def image_token(self) -> None:
        """Always None: in these prompts no text token stands for an image."""

    def problems(self, vocab: int) -> Iterator[str]:
        """Yields a message for each part with an id that a vocabulary of `vocab` tokens lacks."""
        parts = {name: (*task.before, *task.after) for name, task in self.tasks.items()}
        parts |= {"every prompt": self.start, "answers": self.never_later}
        for name, ids in parts.items():
            if beyond := [id_ for id_ in ids if not 0 <= id_ < vocab]:
                yield (
                    f"the template of {name} has the id {beyond[0]}, but the vocabulary has {vocab}"
                )

    @property
    def most_images(self) -> int:
        """Most images of one prompt: always 1, as only the start of a prompt has room for one."""
        return 1


PromptRecipe = Prompt | Templates


@dataclass(frozen=True)
class ChatTemplate:
    """A checkpoint's chat template: its Jinja source, and the name of the file that it is in.

    listed: whether it takes a question without images as a list, like one with images, or else as
    plain text.
    """

    file: str
    source: str
    listed: bool = True


def filled(template: str, **fields: str) -> str:
    """Replaces each {field} in one pass; str.format would evaluate what a foreign file contains.

    A field that is not given stays as it is.
    """
    return re.sub(r"\{(\w+)\}", lambda match: fields.get(match[1], match[0]), template)
