"""llama.cpp's tokenizer, read from our GGUF files, gives the ids of the checkpoint's tokenizer."""

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dense_tokenizers import dense
from llama_cpp import llama_cpp as llama
from real_tokenizers import REAL, codegen
from texts import texts
from tokenizers import Tokenizer, pre_tokenizers

from export.checkpoint.registry import open_model
from export.errors import UserError
from export.families.spec import Gguf
from export.gguf.file import PlannedFile, write_file
from export.gguf.metadata import decoder, facts_of
from export.gguf.tokenizer import tokenizer_metadata
from export.model import Model
from export.quantize.rounding import Rounding
from runtimes.llama_cpp.log import silence

TWINS = ("tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl")
LEAST, MOST_TOKENS = 1000, 400


@contextmanager
def vocabulary(model: Model, facts: Gguf, folder: Path) -> Iterator[Any]:
    """llama.cpp's vocabulary out of a GGUF file of ours without tensors."""
    keys = decoder(model.vlm, facts) | tokenizer_metadata(model.files, model.vlm, facts)
    empty = PlannedFile("v.gguf", facts.arch, keys, ())
    write_file(folder / empty.name, empty, model.weights, Rounding())
    silence()
    settings = llama.llama_model_default_params()
    settings.vocab_only = True
    loaded = llama.llama_model_load_from_file(os.fsencode(folder / "v.gguf"), settings)
    assert loaded
    yield llama.llama_model_get_vocab(loaded)
    llama.llama_model_free(loaded)


def ids(vocab: Any, text: str) -> list[int]:
    data = text.encode()
    found = (ctypes.c_int32 * (len(data) + 8))()
    count = llama.llama_tokenize(vocab, data, len(data), found, len(found), False, True)
    assert count >= 0
    return list(found[:count])


def different(
    model: Model, folder: Path, facts: Gguf | None = None
) -> dict[str, tuple[list[int], list[int]]]:
    """Strings with other ids: llama.cpp's, and the tokenizer's own."""
    tokenizer = Tokenizer.from_str(model.files["tokenizer.json"].decode())
    added = tokenizer.get_added_tokens_decoder().values()
    # A user's own tokens have spaces where SentencePiece writes U+2581.
    tokens = sorted(added, key=lambda token: not token.special)[:MOST_TOKENS]
    strings = texts(tuple(token.content.replace("\u2581", " ") for token in tokens))
    assert len(strings) >= LEAST
    with vocabulary(model, facts or facts_of(model.vlm), folder) as vocab:
        both = {
            text: (ids(vocab, text), tokenizer.encode(text, add_special_tokens=False).ids)
            for text in strings
        }
    return {text: pair for text, pair in both.items() if pair[0] != pair[1]}


def with_tokenizer(model: Model, tokenizer: Tokenizer) -> Model:
    """The model with another tokenizer, and a vocabulary of its size."""
    files = {**model.files, "tokenizer.json": tokenizer.to_str().encode()}
    text = replace(model.vlm.text, vocab=max(model.vlm.text.vocab, tokenizer.get_vocab_size()))
    return replace(model, files=files, vlm=replace(model.vlm, text=text))


def densely(name: str) -> Model:
    if name == "moondream-2b":  # there is no twin with the tokenizer of its release
        alphabet = {symbol: n for n, symbol in enumerate(pre_tokenizers.ByteLevel.alphabet())}
        return with_tokenizer(open_model(name, weights="synthetic"), dense(codegen(alphabet, [])))
    model = open_model(name)
    tokenizer = Tokenizer.from_str(model.files["tokenizer.json"].decode())
    return with_tokenizer(model, dense(tokenizer))


@pytest.mark.parametrize("name", TWINS)
def test_a_twins_ids_are_its_tokenizers(name: str, tmp_path: Path) -> None:
    assert different(open_model(name), tmp_path) == {}


def without_merges(name: str) -> Model:
    model = open_model(name)
    content = json.loads(model.files["tokenizer.json"])
    content["model"]["merges"] = []
    return replace(model, files={**model.files, "tokenizer.json": json.dumps(content).encode()})


@pytest.mark.parametrize("name", ["tiny-smolvlm", "tiny-qwen2.5-vl"])
def test_ids_are_those_of_a_tokenizer_without_merges(name: str, tmp_path: Path) -> None:
    assert different(without_merges(name), tmp_path) == {}


def test_sentencepiece_without_merges_is_refused() -> None:
    model = without_merges("tiny-gemma3")
    with pytest.raises(UserError, match="has no merges, but llama"):
        tokenizer_metadata(model.files, model.vlm, facts_of(model.vlm))


@pytest.mark.parametrize("name", [*TWINS, "moondream-2b"])
def test_ids_equal_the_tokenizers_where_splitting_matters(name: str, tmp_path: Path) -> None:
    assert different(densely(name), tmp_path) == {}


OTHERS = {"tiny-smolvlm": "gpt-2", "tiny-qwen2.5-vl": "gpt-2", "moondream-2b": "qwen2"}


@pytest.mark.parametrize(("name", "pre"), OTHERS.items())
def test_another_pre_tokenizer_is_detected(name: str, pre: str, tmp_path: Path) -> None:
    model = densely(name)
    assert different(model, tmp_path, replace(facts_of(model.vlm), tokenizer_pre=pre))


@pytest.mark.packages
@pytest.mark.parametrize("name", REAL)
def test_a_released_models_ids_are_its_tokenizers(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    make, configuration = REAL[name]
    tokenizer = make(request.config.cache.mkdir("tokenizers"))
    model = open_model(configuration, weights="synthetic")
    assert different(with_tokenizer(model, tokenizer), tmp_path) == {}


def test_llama_cpp_does_not_compose_what_qwens_tokenizer_does(tmp_path: Path) -> None:
    model = open_model("tiny-qwen2.5-vl")
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    tokenizer = Tokenizer.from_str(model.files["tokenizer.json"].decode())
    assert tokenizer.encode(composed).ids == tokenizer.encode(decomposed).ids
    with vocabulary(model, facts_of(model.vlm), tmp_path) as vocab:
        assert ids(vocab, composed) != ids(vocab, decomposed)
