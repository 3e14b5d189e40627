"""From a request to what a model takes: pixels by tiles and prompt ids. numpy, Pillow, tokenizers.

NOT aware of runtimes or checkpoints; the recipes it executes come from the artifact.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from export.artifact import Artifact
from export.checkpoint.tokens import read_tokenizer
from export.errors import UserError
from export.images import ImageRecipe
from export.images.pixels import Pixels
from export.model import Model
from export.prompts import Prompt, PromptRecipe, PromptTask, Templates
from runtimes.base import IntArray, Place, Request
from runtimes.prepare.image import load_image, pixels, rgb
from runtimes.prepare.prompt import prompt_text
from runtimes.prepare.templates import PLACE_POSITIONS, task_of, template_ids

__all__ = ["Pixels", "Prepared", "Preparer", "load_image"]


@dataclass(frozen=True)
class Prepared:
    """A request ready for a backend: prompt `ids` [n] and its images in their order.

    `images_key` is the same for the same images (a digest of their RGB pixels), else another one.
    `task` is what is asked, of models that have tasks; `place` what it is asked about, whose
    positions begin at `place_at` (n where there is none).
    """

    ids: IntArray
    images: tuple[Pixels, ...]
    images_key: str
    task: PromptTask | None
    place: Place
    place_at: int


class Preparer:
    """Executes one artifact's image and prompt recipes with its tokenizer.

    Keeps the last request's images, so that further questions about them skip the preprocessing.
    """

    def __init__(
        self,
        image: ImageRecipe | None,
        prompt: PromptRecipe,
        tokenizer_json: bytes | Path,
        image_token_id: int | None,
    ) -> None:
        """Raises UserError where the tokenizer cannot be read or is not this prompt's."""
        self.image_token_id = image_token_id
        self.never_later = prompt.never_later if isinstance(prompt, Templates) else ()
        self._image = image
        self._prompt = prompt
        self._name, self._tokenizer = _read_tokenizer(tokenizer_json)
        self._expect_image_token()
        added = self._tokenizer.get_added_tokens_decoder().values()
        special = [token.content for token in added if token.special]
        self._reserved = (*([prompt.image_token] if prompt.image_token else []), *special)
        self._last: tuple[str, tuple[Pixels, ...]] = ("", ())

    def __call__(self, request: Request) -> Prepared:
        """Pixels and ids of one request; given ids are taken as they are.

        Raises UserError for a question or ids that do not fit the images and the tokenizer.
        """
        self._expect_words(request)
        if isinstance(self._prompt, Templates):
            return self._from_templates(self._prompt, request)
        if request.task or request.place:
            raise UserError(
                f"this model has no tasks of its own and takes no places, but "
                f"{request.task or 'a place'} was asked; ask a question"
            )
        return self._from_prompt(self._prompt, request)

    def _from_prompt(self, prompt: Prompt, request: Request) -> Prepared:
        key, images = self._images(request)
        counts = [_tokens_per_tile(prompt, image) for image in images]
        if request.ids is None:
            cuts = [(image.rows, image.cols, n) for image, n in zip(images, counts, strict=True)]
            ids = np.array(self._encoded(prompt_text(prompt, request.question, cuts)))
        else:
            ids = self._checked(request.ids)
        expected = sum(image.tiles * n for image, n in zip(images, counts, strict=True))
        self._expect_found(ids, expected, len(images))
        return Prepared(ids.astype(np.int64), images, key, None, (), len(ids))

    def _from_templates(self, templates: Templates, request: Request) -> Prepared:
        task = task_of(templates, request)
        key, images = self._images(request)
        found, place_at = template_ids(templates, task, request, self._encoded)
        ids = np.array(found, np.int64)
        if request.ids is not None:
            ids = self._checked(request.ids)
            expected = len(images) * templates.image_positions
            expected += PLACE_POSITIONS[len(request.place)]
            self._expect_found(ids, expected, len(images))
            place_at = 0 if request.place else len(ids)
        return Prepared(ids, images, key, task, request.place, place_at)

    def text(self, ids: Sequence[int]) -> str:
        """An answer's ids as text, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def tokens(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, nothing added."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _images(self, request: Request) -> tuple[str, tuple[Pixels, ...]]:
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
        found = None if token is None else self._tokenizer.token_to_id(token)
        if token is not None and found != expected:
            raise UserError(
                f"{self._name}: the image token '{token}' has id {found}, the model's is "
                f"{expected}; take the tokenizer of the same checkpoint"
            )

    def _expect_found(self, ids: IntArray, expected: int, images: int) -> None:
        found = int(np.count_nonzero(ids == self.image_token_id))
        if found != expected:
            token = self._prompt.image_token
            called = f"'{token}' of {self._name}" if token else f"id {self.image_token_id}"
            raise UserError(
                f"the prompt has {found} image tokens ({called}), but its {images} images take "
                f"{expected}"
            )

    def _expect_words(self, request: Request) -> None:
        for token in self._reserved:
            if token in request.question:
                raise UserError(
                    f"the question contains '{token}', a special token of {self._name}; leave it "
                    f"out (images are placed before the question)"
                )

    def _encoded(self, text: str) -> list[int]:
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        except (UnicodeError, TypeError) as error:  # a lone surrogate: bytes that were no UTF-8
            raise UserError("the question is not valid Unicode text; give it as UTF-8") from error

    def _checked(self, ids: tuple[int, ...]) -> IntArray:
        size = self._tokenizer.get_vocab_size()
        tokens = [id_ for id_ in ids if id_ != self.image_token_id]
        if not tokens or min(tokens) < 0 or max(tokens) >= size:
            found = f"{min(tokens)} to {max(tokens)}" if tokens else "none"
            raise UserError(f"prompt ids: {found}; {self._name} has ids 0 to {size - 1}")
        return np.array(ids, np.int64)


def _tokens_per_tile(prompt: Prompt, image: Pixels) -> int:
    """Image tokens of one tile, by the prompt or by the image's own size."""
    if prompt.tokens_per_tile is not None:
        return prompt.tokens_per_tile
    assert image.token_grid is not None, "images of any size have cells"
    return image.token_grid[0] * image.token_grid[1]


def preparer_of(opened: Artifact | Model) -> Preparer:
    """The preparer of its recipes and tokenizer. Raises UserError as Preparer does."""
    tokenizer: bytes | Path
    if isinstance(opened, Artifact):
        described, tokenizer = opened.manifest, opened.path / "tokenizer.json"
        return Preparer(described.image, described.prompt, tokenizer, described.vlm.image_token_id)
    tokenizer = opened.files["tokenizer.json"]
    return Preparer(opened.image, opened.prompt, tokenizer, opened.vlm.image_token_id)


def _read_tokenizer(source: bytes | Path) -> tuple[str, Tokenizer]:
    """Name for errors and tokenizer, which never pads or truncates."""
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
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.width}x{image.height};".encode())
        digest.update(image.tobytes())
    return digest.hexdigest()
