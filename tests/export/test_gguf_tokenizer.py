"""A tokenizer inside GGUF has the ids, types and templates of the files it came from."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tiny_models import hf_model, tiny_model

from export.errors import UserError
from export.families.smolvlm import SMOLVLM
from export.gguf.tokenizer import tokenizer_metadata

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
MODEL = tiny_model(hf_model("grouped heads"))
FACTS = SMOLVLM.gguf


def metadata(files: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    return tokenizer_metadata(MODEL.files if files is None else files, MODEL.vlm, FACTS)


def changed(name: str, **entries: Any) -> dict[str, bytes]:
    """The model's files with entries of one JSON file replaced; None removes one."""
    content = json.loads(MODEL.files.get(name, b"{}")) | entries
    content = {key: value for key, value in content.items() if value is not None}
    return dict(MODEL.files) | {name: json.dumps(content).encode()}


def tokenizer(**entries: Any) -> dict[str, bytes]:
    return changed("tokenizer.json", **entries)


def test_the_vocabulary_is_the_models_with_every_id_in_place() -> None:
    found = metadata()
    content = json.loads(MODEL.files["tokenizer.json"])
    ids = content["model"]["vocab"] | {t["content"]: t["id"] for t in content["added_tokens"]}
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == MODEL.vlm.text.vocab
    assert {token: tokens.index(token) for token in ids} == ids
    assert tokens[MODEL.vlm.image_token_id] == "<image>"
    assert types[MODEL.vlm.image_token_id] == CONTROL
    assert types[ids["Ġ"]] == NORMAL
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.pre"]) == ("gpt2", "smollm")


def test_a_chat_template_that_is_not_text_is_refused() -> None:
    with pytest.raises(UserError, match=r"chat_template.jinja: is not UTF-8 text \(byte 1\)"):
        metadata(dict(MODEL.files) | {"chat_template.jinja": b"J\xa9"})


def added(number: int, content: str, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, "special": special, **flags}


def test_ids_without_a_token_are_unused_and_ids_beyond_the_vocabulary_left_out() -> None:
    vocab = {"a": 0, "b": 2, "<tool>": 390, "<|tool|>": 391, "<s>": 392, "<beyond>": 400}
    tokens_added = [added(390, "<tool>", False), added(391, "<|tool|>", False)]
    tokens_added += [added(392, "<s>", True), added(400, "<beyond>", True)]
    model = {"type": "BPE", "vocab": vocab, "merges": []}
    found = metadata(tokenizer(model=model, added_tokens=tokens_added))
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert tokens[:3] == ["a", "[PAD1]", "b"]
    assert types[:3] == [NORMAL, UNUSED, NORMAL]
    assert tokens[390:393] == ["<tool>", "<|tool|>", "<s>"]
    assert types[390:393] == [USER_DEFINED, CONTROL, CONTROL]
    assert len(tokens) == 400


@pytest.mark.parametrize(
    ("merges", "wanted"),
    [
        ([["a", "b"], ["ab", " c"]], ["a b", "ab Ġc"]),
        (["a b"], ["a b"]),
        ([], ["no merges"]),
    ],
)
def test_both_formats_of_merges_are_read(merges: list[Any], wanted: list[str]) -> None:
    vocab = {token: number for number, token in enumerate(("a", "b", " c", "ab", "ab c"))}
    model = {"type": "BPE", "vocab": vocab, "merges": merges}
    assert metadata(tokenizer(model=model))["tokenizer.ggml.merges"] == wanted


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ({}, (1, 399, 2, 0)),
        ({"eos_token": {"content": "<|im_end|>"}}, (1, 2, 2, 0)),
        ({"pad_token": "<nowhere>"}, (1, 399, None, 0)),
        ({"bos_token": None, "eos_token": None}, (1, 2, 2, 0)),
    ],
)
def test_special_ids_are_the_configurations_else_the_models(
    entries: dict[str, Any], wanted: tuple[int | None, ...]
) -> None:
    found = metadata(changed("tokenizer_config.json", **entries))
    roles = ("bos", "eos", "padding", "unknown")
    assert tuple(found.get(f"tokenizer.ggml.{role}_token_id") for role in roles) == wanted


TEMPLATES = [
    ({}, None),
    ({"chat_template.json": b'{"chat_template": "J"}'}, "J"),
    ({"chat_template.json": b'{"chat_template": "J"}', "chat_template.jinja": b"K"}, "K"),
    ({"chat_template.jinja": b"K", "tokenizer_config.json": b'{"chat_template": "T"}'}, "T"),
]


@pytest.mark.parametrize(("files", "wanted"), TEMPLATES)
def test_the_chat_template_is_the_first_that_transformers_would_take(
    files: dict[str, bytes], wanted: str | None
) -> None:
    assert metadata(dict(MODEL.files) | files).get("tokenizer.chat_template") == wanted


BOS_FIRST = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<|im_start|>"]}},
}


@pytest.mark.parametrize(
    ("files", "begin", "end"),
    [
        (MODEL.files, None, None),
        (tokenizer(post_processor=BOS_FIRST), True, False),
        (changed("tokenizer_config.json", add_bos_token=False), False, None),
    ],
)
def test_bos_and_eos_are_added_as_the_tokenizer_does(
    files: dict[str, bytes], begin: bool | None, end: bool | None
) -> None:
    found = metadata(files)
    assert found.get("tokenizer.ggml.add_bos_token") is begin
    assert found.get("tokenizer.ggml.add_eos_token") is end


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "tokenizer.json is missing"),
        ({"tokenizer.json": b"{"}, "not valid JSON"),
        ({"tokenizer.json": b"[]"}, "holds a JSON list, expected an object"),
        ({"tokenizer.json": b'{"model": {"type": "Unigram"}}'}, "type Unigram"),
    ],
)
def test_files_of_another_kind_are_refused(files: dict[str, bytes], said: str) -> None:
    with pytest.raises(UserError, match=said):
        metadata(files)
