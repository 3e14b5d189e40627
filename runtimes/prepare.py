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
from export.errors import UserError
from export.families.spec import ImageRecipe, Prompt
from export.model import Model
from export.tokens import read_tokenizer
from runtimes.base import IntArray, Request
from runtimes.image import Pixels, load_image, pixels, rgb
from runtimes.prompt import prompt_text

__all__ = ["Pixels", "Prepared", "Preparer", "load_image"]


@dataclass(frozen=True)
class Prepared:
    """A request ready for a backend: prompt `ids` [n] and its images in their order.

    `images_key` is the same for the same images (a digest of their RGB pixels), else another one.
    """

    ids: IntArray
    images: tuple[Pixels, ...]
    images_key: str


class Preparer:
    """Executes one artifact's image and prompt recipes with its tokenizer.

    Keeps the last request's images, so that further questions about them skip the preprocessing.
    """

    def __init__(
        self,
        image: ImageRecipe,
        prompt: Prompt,
        tokenizer_json: bytes | Path,
        image_token_id: int,
    ) -> None:
        """Raises UserError where the tokenizer cannot be read or is not this prompt's."""
        self.image_token_id = image_token_id
        self._image = image
        self._prompt = prompt
        self._name, self._tokenizer = _read_tokenizer(tokenizer_json)
        found = self._tokenizer.token_to_id(prompt.image_token)
        if found != image_token_id:
            raise UserError(
                f"{self._name}: the image token '{prompt.image_token}' has id {found}, the model's "
                f"is {image_token_id}; take the tokenizer of the same checkpoint"
            )
        added = self._tokenizer.get_added_tokens_decoder().values()
        self._reserved = tuple(token.content for token in added if token.special)
        self._last: tuple[str, tuple[Pixels, ...]] = ("", ())

    def __call__(self, request: Request) -> Prepared:
        """Pixels and ids of one request; given ids are taken as they are.

        Raises UserError for a question or ids that do not fit the images and the tokenizer.
        """
        key, images = self._images(request)
        if request.ids is None:
            ids = self._encoded(request.question, images)
        else:
            ids = self._checked(request.ids)
        found = int(np.count_nonzero(ids == self.image_token_id))
        expected = sum(image.tiles * self._tokens_per_tile(image) for image in images)
        if found != expected:
            raise UserError(
                f"the prompt has {found} image tokens ('{self._prompt.image_token}' of "
                f"{self._name}), but its {len(images)} images take {expected}"
            )
        return Prepared(ids, images, key)

    def text(self, ids: Sequence[int]) -> str:
        """An answer's ids as text, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def tokens(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, nothing added."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _images(self, request: Request) -> tuple[str, tuple[Pixels, ...]]:
        plain = tuple(
            rgb(image, f"image {number} of the request")
            for number, image in enumerate(request.images, start=1)
        )
        key = _digest(plain)
        if not request.reuse or key != self._last[0]:
            self._last = (key, tuple(pixels(image, self._image) for image in plain))
        return self._last

    def _encoded(self, question: str, images: tuple[Pixels, ...]) -> IntArray:
        for token in (self._prompt.image_token, *self._reserved):
            if token in question:
                raise UserError(
                    f"the question contains '{token}', a special token of {self._name}; leave it "
                    f"out (images are placed before the question)"
                )
        cuts = [(image.rows, image.cols, self._tokens_per_tile(image)) for image in images]
        text = prompt_text(self._prompt, question, cuts)
        try:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        except (UnicodeError, TypeError) as error:  # a lone surrogate: bytes that were no UTF-8
            raise UserError("the question is not valid Unicode text; give it as UTF-8") from error
        return np.array(encoding.ids, np.int64)

    def _tokens_per_tile(self, image: Pixels) -> int:
        """Image tokens of one tile, by the prompt or by the image's own size."""
        if self._prompt.tokens_per_tile is not None:
            return self._prompt.tokens_per_tile
        assert image.cells is not None, "images of any size have cells"
        return image.cells[0] * image.cells[1]

    def _checked(self, ids: tuple[int, ...]) -> IntArray:
        size = self._tokenizer.get_vocab_size()
        if not ids or min(ids) < 0 or max(ids) >= size:
            found = f"{min(ids)} to {max(ids)}" if ids else "none"
            raise UserError(f"prompt ids: {found}; {self._name} has ids 0 to {size - 1}")
        return np.array(ids, np.int64)


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
