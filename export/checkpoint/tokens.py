"""Reads a tokenizer.json and checks that it belongs to the model."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from export.errors import UserError
from export.files import short
from export.modeling.vlm import Vlm

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# A key of BPE models that has a value other than null and "". A large file is not parsed for it.
_PREFIX = re.compile(rb'"continuing_subword_prefix"\s*:\s*"[^"]')


def read_tokenizer(data: bytes, where: str) -> "Tokenizer":
    """Parses the content of a tokenizer.json; `where` is its path in errors. Raises UserError."""
    from tokenizers import Tokenizer

    if _PREFIX.search(data):
        _expect_prefixed_merges(data, where)
    try:
        return Tokenizer.from_str(data.decode("utf-8"))
    except BaseException as error:
        # What the library raises has no type of its own, and a panic in it is not an Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(
            f"{where}: is not a tokenizer ({short(str(error))}); fetch or save it again"
        ) from None


def _expect_prefixed_merges(data: bytes, where: str) -> None:
    """Raises UserError if the second part of a merge lacks the prefix that the model declares.

    The library takes such a file to be sound, and need not end in an error.
    """
    try:
        model = json.loads(data)["model"]
        prefix, merges = model["continuing_subword_prefix"], model.get("merges", ())
        seconds = [(m.split(" ") if isinstance(m, str) else m)[1] for m in merges]
        other = next((second for second in seconds if not second.startswith(prefix)), None)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # the library says what is wrong with it
    if other is not None:
        raise UserError(
            f"{where}: is not a tokenizer (continuing_subword_prefix is {short(prefix)!r}, but a "
            f"merge ends in {short(other)!r}); fetch or save it again"
        )


class Tokens:
    """The vocabulary of a tokenizer.json, to look up ids and to compare it with the model.

    `data` is the content of the file. Raises UserError if it is None (missing) or broken.
    """

    def __init__(self, data: bytes | None, path: Path) -> None:
        if data is None:
            raise UserError(
                f"{path}: no such file; save the tokenizer into the folder too "
                f"(tokenizer.save_pretrained)"
            )
        tokenizer = read_tokenizer(data, str(path))
        self._vocab: dict[str, int] = tokenizer.get_vocab()
        self._added = frozenset(tokenizer.get_added_tokens_decoder())
        self._path = path

    def ids(self, tokens: tuple[str, ...]) -> tuple[int, ...]:
        """Returns the ids of the given tokens; tokens that the vocabulary lacks are skipped."""
        return tuple(self._vocab[token] for token in tokens if token in self._vocab)

    def text(self, id_: int) -> str | None:
        """Returns the token with an id; None: there is none."""
        return next((token for token, number in self._vocab.items() if number == id_), None)

    def expect(self, image_token: str | None, vlm: Vlm, unused: tuple[str, ...] = ()) -> None:
        """Raises UserError unless the image token and all ids of the tokenizer fit the model.

        If `image_token` is None, the id of BOS is checked instead. The ids of `unused` tokens may
        exceed the model's vocabulary.
        """
        if image_token is None:
            self._expect_bos(vlm)
        else:
            self._expect_image_token(image_token, vlm)
        size = vlm.text.vocab
        beyond = {n: token for token, n in self._vocab.items() if n >= size and token not in unused}
        if beyond:
            highest = max(beyond)
            raise UserError(
                f"{self._path}: {short(beyond[highest])!r} has id {highest}, but config.json has "
                f"vocab_size {size}; remove the token from the tokenizer, or give it a row by "
                f"resize_token_embeddings and save the model again"
            )

    def _expect_bos(self, vlm: Vlm) -> None:
        if vlm.bos_token_id is not None and vlm.bos_token_id not in self._added:
            raise UserError(
                f"{self._path}: id {vlm.bos_token_id} is not a special token, but config.json "
                f"has it as bos_token_id; take both files from the same revision"
            )
        if vlm.image_token_id in self._vocab.values():
            raise UserError(
                f"{self._path}: id {vlm.image_token_id} is a token, but the model uses this id for "
                f"images; take config.json from the same checkpoint"
            )

    def _expect_image_token(self, image_token: str, vlm: Vlm) -> None:
        found = self._vocab.get(image_token)
        if found != vlm.image_token_id:
            has = "no such token" if found is None else f"id {found}"
            raise UserError(
                f"{self._path}: has {has} for {image_token}, but config.json has image_token_id "
                f"{vlm.image_token_id}; take both files from the same checkpoint"
            )
