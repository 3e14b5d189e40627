"""Turns a request into a model's inputs: pixel values of the images, and prompt ids.

The recipes for both come from the artifact or the checkpoint.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from export.arrays import IntArray
from export.artifact import Artifact
from export.checkpoint.tokens import read_tokenizer
from export.errors import UserError
from export.images import ImageRecipe
from export.images.pixels import Pixels
from export.model import Model
from export.prompts import Prompt, PromptRecipe, PromptTask, Templates
from runtimes.base import Region, Request
from runtimes.prepare.image import load_image, pixels, rgb
from runtimes.prepare.prompt import REGION_POSITIONS, image_text, task_of, template_ids

__all__ = ["Pixels", "Prepared", "Preparer", "load_image"]


@dataclass(frozen=True)
class Prepared:
    """A request turned into a model's inputs, returned by a Preparer.

    It has the prompt's ids and the pixel values, and the model's task and the region, if there are
    any. `region_at` is the region's index in the prompt.
    """

    ids: IntArray
    """[n]: the token ids of the prompt."""
    images: tuple[Pixels, ...]
    """Pixel values of each image, in the order of the images in the prompt."""
    images_key: str
    """Equal for requests with the same images: made from Request.images_key, or, if that is "", a
    digest of the RGB pixels."""
    task: PromptTask | None
    """The model's task that is asked for; None for models without tasks."""
    region: Region
    """The point or box that the task is about; () if there is none."""
    region_at: int
    """Index in the prompt of the region's first placeholder; n if there is no region."""


class Preparer:
    """Turns requests into one model's inputs, by its image recipe, prompt recipe and tokenizer.

    Keeps the pixel values of the last request, so that the next question about the same images
    skips the preprocessing.
    """

    def __init__(
        self,
        image: ImageRecipe | None,
        prompt: PromptRecipe,
        tokenizer_json: bytes | Path,
        image_token_id: int | None,
    ) -> None:
        """`image` is None for text-only models. `tokenizer_json`: the file or its content. Raises
        UserError for a tokenizer that cannot be read, or whose image token has another id."""
        self.image_token_id = image_token_id
        self.only_first = prompt.never_later if isinstance(prompt, Templates) else ()
        """Token ids that the model may choose only as the first token of an answer."""
        self.tiles_apart = isinstance(prompt, Prompt) and prompt.tokens_per_tile is not None
        """Whether a tile's features depend on no other tile of its image."""
        self._image = image
        self._prompt = prompt
        self._name, self._tokenizer = _read_tokenizer(tokenizer_json)
        self._expect_image_token()
        added = self._tokenizer.get_added_tokens_decoder().values()
        special = [token.content for token in added if token.special]
        self._reserved = (*([prompt.image_token] if prompt.image_token else []), *special)
        self._last: tuple[str, tuple[Pixels, ...]] = ("", ())

    def __call__(self, request: Request) -> Prepared:
        """Returns the pixel values and prompt ids of one request.

        Raises UserError for a question, ids, task or region that do not fit the model or the
        images.
        """
        self._expect_no_special_tokens(request)
        if isinstance(self._prompt, Templates):
            return self._from_templates(self._prompt, request)
        if request.task or request.region:
            asked = f"task '{request.task}'" if request.task else "a place"
            raise UserError(
                f"this model has neither tasks of its own nor region heads, but {asked} was given; "
                f"ask a question"
            )
        return self._from_prompt(self._prompt, request)

    def _from_prompt(self, prompt: Prompt, request: Request) -> Prepared:
        key, images = self._images(request)
        if request.ids is None:
            text = prompt.text("".join(image_texts(prompt, images)), request.question)
            ids = np.array(self._encoded(text))
        else:
            ids = self._checked(request.ids)
        expected = sum(image.tiles * _tokens_per_tile(prompt, image) for image in images)
        self._expect_image_tokens(ids, expected, len(images))
        return Prepared(ids.astype(np.int64), images, key, None, (), len(ids))

    def _from_templates(self, templates: Templates, request: Request) -> Prepared:
        task = task_of(templates, request)
        key, images = self._images(request)
        filled, region_at = template_ids(templates, task, request, self._encoded)
        ids = np.array(filled, np.int64)
        if request.ids is not None:
            ids = self._checked(request.ids)
            expected = len(images) * templates.image_positions
            expected += REGION_POSITIONS[len(request.region)]
            self._expect_image_tokens(ids, expected, len(images))
            region_at = 0 if request.region else len(ids)
        return Prepared(ids, images, key, task, request.region, region_at)

    def text(self, ids: Sequence[int]) -> str:
        """Returns the text of an answer's token ids, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def tokens(self, text: str) -> tuple[int, ...]:
        """Returns the token ids of a text, without special tokens. Raises UserError."""
        return tuple(self._encoded(text))

    def _images(self, request: Request) -> tuple[str, tuple[Pixels, ...]]:
        """Returns the key and the pixel values of a request's images.

        The last request's are returned if the images are the same and the request allows reuse.
        """
        recipe = self._image
        if recipe is None:
            if request.images:
                raise UserError(
                    f"this model is for text alone, but {len(request.images)} images were given; "
                    f"ask without an image"
                )
            return "", ()
        named = f"named {request.images_key}" if request.images_key else ""
        if named and request.reuse and named == self._last[0]:
            return self._last
        plain = tuple(
            rgb(image, f"image {number} of the request", recipe.transparency)
            for number, image in enumerate(request.images, start=1)
        )
        key = named or _digest(plain)
        if not request.reuse or key != self._last[0]:
            self._last = (key, tuple(pixels(image, recipe) for image in plain))
        return self._last

    def _expect_image_token(self) -> None:
        token, expected = self._prompt.image_token, self.image_token_id
        id_ = None if token is None else self._tokenizer.token_to_id(token)
        if token is not None and id_ != expected:
            raise UserError(
                f"{self._name}: the image token '{token}' has id {id_}, the model's is "
                f"{expected}; take the tokenizer of the same checkpoint"
            )

    def _expect_image_tokens(self, ids: IntArray, expected: int, images: int) -> None:
        count = int(np.count_nonzero(ids == self.image_token_id))
        if count != expected:
            token = self._prompt.image_token
            called = f"'{token}' of {self._name}" if token else f"id {self.image_token_id}"
            raise UserError(
                f"the prompt has {count} image tokens ({called}), but its {images} images take "
                f"{expected}"
            )

    def _expect_no_special_tokens(self, request: Request) -> None:
        for token in self._reserved:
            if token in request.question:
                raise UserError(
                    f"the question contains '{token}', a special token of {self._name}; leave it "
                    f"out (images are placed before the question)"
                )

    def _encoded(self, text: str) -> list[int]:
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        except (
            UnicodeError,
            TypeError,
        ) as error:  # a lone surrogate: not UTF-8
            raise UserError("the text is not valid Unicode; give it as UTF-8") from error

    def _checked(self, ids: tuple[int, ...]) -> IntArray:
        """Returns the given prompt ids as an array; UserError if one is not in the vocabulary."""
        size = self._tokenizer.get_vocab_size()
        tokens = [id_ for id_ in ids if id_ != self.image_token_id]
        if not tokens or min(tokens) < 0 or max(tokens) >= size:
            given = f"{min(tokens)} to {max(tokens)}" if tokens else "none"
            raise UserError(f"prompt ids: {given}; {self._name} has ids 0 to {size - 1}")
        return np.array(ids, np.int64)


def _tokens_per_tile(prompt: Prompt, image: Pixels) -> int:
    """Returns the number of image tokens per tile of an image.

    The prompt recipe fixes it, except for models that take images of any size: there it follows
    from the image's size.
    """
    if prompt.tokens_per_tile is not None:
        return prompt.tokens_per_tile
    assert image.token_grid is not None, "only images of any size have no fixed number of tokens"
    return image.token_grid[0] * image.token_grid[1]


def image_texts(prompt: Prompt, images: Sequence[Pixels]) -> list[str]:
    """Returns the text of each image in a prompt: its image tokens, and what stands around them."""
    return [
        image_text(prompt, image.rows, image.cols, _tokens_per_tile(prompt, image))
        for image in images
    ]


def preparer_of(opened: Artifact | Model) -> Preparer:
    """Returns the Preparer of an artifact or checkpoint. Raises UserError as Preparer does."""
    tokenizer: bytes | Path
    if isinstance(opened, Artifact):
        described, tokenizer = opened.manifest, opened.path / "tokenizer.json"
        return Preparer(described.image, described.prompt, tokenizer, described.vlm.image_token_id)
    tokenizer = opened.files["tokenizer.json"]
    return Preparer(opened.image, opened.prompt, tokenizer, opened.vlm.image_token_id)


def _read_tokenizer(source: bytes | Path) -> tuple[str, Tokenizer]:
    """Returns a name for error messages, and the tokenizer with padding and truncation off.

    `source`: a tokenizer.json file or its content. Raises UserError if it cannot be read.
    """
    name = str(source) if isinstance(source, Path) else "tokenizer.json"
    try:
        raw = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from error
    tokenizer = read_tokenizer(raw, name)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return name, tokenizer


def _digest(images: tuple[Image.Image, ...]) -> str:
    """Returns a SHA-256 digest of the sizes and pixels of RGB images, in order."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.width}x{image.height};".encode())
        digest.update(image.tobytes())
    return digest.hexdigest()
