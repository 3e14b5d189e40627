"""Makes a small tokenizer for random weights, whose special tokens have a real model's ids."""

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from export.errors import UserError
from export.families.spec import SMOLLM2, Vocabulary
from export.modeling.vlm import Vlm

Json = Mapping[str, Any]
SPACE = "\u2581"
"""How SentencePiece writes a space."""


def synthetic_tokenizer(
    vlm: Vlm,
    special_tokens: tuple[str, ...],
    image_token: str | None = "<image>",
    vocabulary: Vocabulary = SMOLLM2,
) -> dict[str, bytes]:
    """Makes a BPE tokenizer for random weights; returns the contents of its files by name.

    The image token has the model's id. The special tokens listed before it have the ids directly
    below, the last one has the highest id, as in the released SmolVLM models. Tokens that would
    overlap the text model's vocabulary remain plain text, as in SmolVLM-Instruct.

    Without an image token, the first special token has the BOS id and the last one the highest id;
    BOS may also be one of `vocabulary.first`. Raises UserError if the vocabulary is too small.
    """
    fixed, fixed_id = _fixed(vlm, special_tokens, image_token, vocabulary)
    before, after = _around(fixed, fixed_id, vlm, special_tokens, vocabulary)
    words = fixed_id - len(before)
    tokenizer = (_sentencepiece if vocabulary.byte_fallback else _byte_level)(words, vocabulary)
    reserved = vlm.text.vocab - fixed_id - 1 - len(after) if image_token else 0
    tokenizer.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token in (
                *vocabulary.first,
                *before,
                fixed,
                *after[:-1],
                *(f"<|reserved_special_token_{n}|>" for n in range(reserved)),
                *after[-1:],
            )
        ]
    )
    named = {"eos_token": after[-1]} if after else {}
    named = {"eos_token": vocabulary.named["pad_token"]} | dict(vocabulary.named) | named
    config = named | {
        # Not GPT2Tokenizer as on the hub: transformers 5 rebuilds that one without single digits.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": vlm.text.context,
    }
    return {
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": _bytes(config),
        "special_tokens_map.json": _bytes(named),
    }


def _fixed(
    vlm: Vlm, tokens: tuple[str, ...], image_token: str | None, vocabulary: Vocabulary
) -> tuple[str, int]:
    """Selects the special token whose id the model fixes; returns it and the id.

    It is the image token; without one, the first token (BOS), or the last one if BOS is in
    `vocabulary.first`. The other special tokens get the ids next to it.
    """
    if image_token is not None and vlm.image_token_id is not None:
        return image_token, vlm.image_token_id
    if vlm.bos_token_id is None or vlm.bos_token_id < len(vocabulary.first):
        return tokens[-1], vlm.text.vocab - 1
    return tokens[0], vlm.bos_token_id


def _around(
    fixed: str, fixed_id: int, vlm: Vlm, tokens: tuple[str, ...], vocabulary: Vocabulary
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the special tokens that get the ids directly below and above `fixed_id`.

    Tokens below for which there is no room are left out. Raises UserError if there is none at all.
    """
    index = tokens.index(fixed)
    before = tuple(token for token in tokens[:index] if token not in vocabulary.first)
    after = tokens[index + 1 :]
    least = len(vocabulary.first) + len(_symbols(vocabulary))
    if fixed_id >= vocabulary.text_vocab:
        least = max(least, vocabulary.text_vocab)
    room = fixed_id - least
    if room < 0 or fixed_id + len(after) >= vlm.text.vocab:
        raise UserError(
            f"config.json: vocab_size {vlm.text.vocab} with {fixed} as id {fixed_id} leaves no "
            f"room for a synthetic tokenizer; that token needs an id from {least} to "
            f"{vlm.text.vocab - 1 - len(after)}"
        )
    return before[max(0, len(before) - room) :], after


def _byte_level(size: int, known: Vocabulary) -> Tokenizer:
    """Makes a BPE tokenizer of `size` tokens over the bytes of words, with single digits."""
    vocab, merges = _vocabulary(size, known)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(size: int, known: Vocabulary) -> Tokenizer:
    """Makes a BPE tokenizer of `size` tokens over characters, like Gemma's tokenizer.json."""
    vocab, merges = _vocabulary(size, known)
    tokenizer = Tokenizer(
        models.BPE(vocab, merges, unk_token=known.named["unk_token"], byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def _symbols(known: Vocabulary) -> list[str]:
    """Returns the smallest tokens (bytes or characters), of which all words consist."""
    if known.byte_fallback:
        characters = (chr(code) for code in range(33, 127))
        return [*(f"<0x{byte:02X}>" for byte in range(256)), "\n", SPACE, *characters]
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _vocabulary(size: int, known: Vocabulary) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Returns a BPE vocabulary of `size` tokens (token -> id) and the merges of its words.

    It has `known.first`, the smallest tokens, words with their beginnings, then unused tokens.
    """
    space, newline = (SPACE, "\n") if known.byte_fallback else ("Ġ", "Ċ")  # ByteLevel's names
    vocab = [*known.first, *_symbols(known)]
    merges: list[tuple[str, str]] = []
    for word in known.words:
        symbols = word.replace(" ", space).replace("\n", newline)
        for end in range(2, len(symbols) + 1):
            if symbols[:end] not in vocab and len(vocab) < size:
                vocab.append(symbols[:end])
                merges.append((symbols[: end - 1], symbols[end - 1]))
    ids = {token: number for number, token in enumerate(vocab)}
    return ids | {f"{space}#{number}": number for number in range(len(vocab), size)}, merges


def _bytes(content: Json) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
