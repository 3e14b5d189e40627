"""Checks the JSON files beside tokenizer.json, which clients read, and reads the special tokens."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from export.errors import UserError
from export.files import parse_json, short

CONFIG, SPECIAL, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
DECODER, EXTRA = "added_tokens_decoder", "extra_special_tokens"
NAMED = tuple(f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
TOKEN = "a token's text or an object with its content"


def expect_sound(files: Mapping[str, bytes], folder: Path) -> None:
    """Raises UserError for a tokenizer's JSON file that is cut or has values of other types.

    Checks what transformers reads of tokenizer_config.json, special_tokens_map.json and
    added_tokens.json. `files`: name -> content.
    """
    for name, expected in CHECKS.items():
        if name in files:
            expected(parse_json(files[name], str(folder / name)), str(folder / name))


def special_tokens(files: Mapping[str, bytes]) -> dict[str, str | None]:
    """Returns the tokens that a chat template may name, such as "bos_token"; None: there is none.

    special_tokens_map.json counts only if tokenizer_config.json lists no added tokens, as in
    transformers 5 (tokenization_utils_base.py).
    """
    config = json.loads(files.get(CONFIG, b"{}"))
    if DECODER not in config:
        config |= json.loads(files.get(SPECIAL, b"{}"))
    found = {}
    for key, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(text, str | None):
            found[key] = text
    return found


def _expect_config(content: Mapping[str, Any], where: str) -> None:
    _expect_tokens(content, where)
    for key, (fits, expected) in VALUES.items():
        if content.get(key) is not None:
            _expect(fits(content[key]), content[key], expected, f"{where}: {key}")
    for number, token in (content.get(DECODER) or {}).items():
        at = f"{where}: {DECODER}.{number}"
        _expect(number.isdecimal(), number, "an id", at)
        _expect(isinstance(token, dict) and _is_token(token), token, TOKEN, at)


def _expect_tokens(content: Mapping[str, Any], where: str) -> None:
    """Checks the named special tokens and the lists of others."""
    for key in NAMED:
        if content.get(key) is not None:
            _expect(_is_token(content[key]), content[key], TOKEN, f"{where}: {key}")
    for key in ("additional_special_tokens", EXTRA):
        value = [] if content.get(key) is None else content[key]
        if key == EXTRA and isinstance(value, dict):
            value = list(value.values())
        _expect(isinstance(value, list), value, "a list of tokens", f"{where}: {key}")
        for token in value:
            _expect(_is_token(token), token, TOKEN, f"{where}: {key}")


def _expect_added(content: Mapping[str, Any], where: str) -> None:
    for token, number in content.items():
        _expect(type(number) is int, number, "an id", f"{where}: {short(token)}")


def _expect(fits: bool, found: object, expected: str, where: str) -> None:
    if not fits:
        raise UserError(
            f"{where} is {short(json.dumps(found))}, expected {expected}; take the file of the "
            f"original model or save the tokenizer again"
        )


def _is_token(value: object) -> bool:
    if not isinstance(value, dict):
        return isinstance(value, str)
    return isinstance(value.get("content"), str) and all(
        isinstance(value[flag], bool) for flag in FLAGS if flag in value
    )


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _of(*kinds: type) -> Callable[[object], bool]:
    return lambda value: type(value) in kinds


VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("tokenizer_class", "processor_class"), (_of(str), "the name of a class")),
    **dict.fromkeys(
        (
            "add_bos_token",
            "add_eos_token",
            "add_prefix_space",
            "clean_up_tokenization_spaces",
            "split_special_tokens",
        ),
        (_of(bool), "true or false"),
    ),
    **dict.fromkeys(
        ("padding_side", "truncation_side"),
        (lambda value: value in ("left", "right"), "left or right"),
    ),
    DECODER: (_of(dict), "an object of ids and tokens"),
    "model_max_length": (_of(int, float), "a number"),
    "model_input_names": (_is_list_of_text, "a list of names"),
}
CHECKS: Mapping[str, Callable[[Mapping[str, Any], str], None]] = {
    CONFIG: _expect_config,
    SPECIAL: _expect_tokens,
    ADDED: _expect_added,
}
