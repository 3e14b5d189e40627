"""How a question and its images become prompt ids, as data.

runtimes/prepare/ executes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Prompt:
    """How a question and its images become text; `{…}` fields are filled in, tokens by string.

    `with_images` has {images} and {question}; `text_only` has {question}. An image that was cut
    becomes `start`, `tile` for each tile ({row}, {col} from 1, {tokens}), `row_end` after each row
    and `overview`; an uncut one becomes `single`. {tokens} is `image_token` repeated
    `tokens_per_tile` times; None: as often as the image's own size says. `strip`: the template
    drops white space around the question. Text-only models have only `text_only`.
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

    @property
    def most_images(self) -> int | None:
        """As many as the context holds (None), or no image at all."""
        return 0 if self.image_token is None else None


@dataclass(frozen=True)
class PromptTask:
    """One thing that can be asked: ids `before`, the text of `opening`, the places that the request
    names, the text of `closing` with its {question}, ids `after`.

    Texts are encoded each by itself. answer: words, or up to `most` places in the image.
    needs: what a request must have.
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
    """A prompt put together from ids: `start`, an image's positions, then a task's.

    The first of `tasks` is asked where a request names none. Positions that are no token (of an
    image, of a coordinate) have the id `placeholder`, which no text encodes to. `never_later`: ids
    that are not chosen behind the first token of an answer.
    """

    start: tuple[int, ...]
    placeholder: int
    image_positions: int
    tasks: Mapping[str, PromptTask]
    never_later: tuple[int, ...] = ()
    kind: Literal["ids"] = "ids"

    @property
    def image_token(self) -> None:
        """No text stands for an image."""

    @property
    def most_images(self) -> int:
        """The first positions of a prompt are made for one."""
        return 1


PromptRecipe = Prompt | Templates
