"""A tokenizer for runs with random weights: a real model's ids where they matter, no checkpoint.

NOT aware of prompts beyond the special tokens it is given, nor of where it is used.
"""

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from export.errors import UserError
from export.families.spec import SMOLLM2, Vlm, Vocabulary

Json = Mapping[str, Any]


def synthetic_tokenizer(
    vlm: Vlm,
    special_tokens: tuple[str, ...],
    image_token: str = "<image>",
    vocabulary: Vocabulary = SMOLLM2,
) -> dict[str, bytes]:
    """tokenizer.json, tokenizer_config.json and special_tokens_map.json of a byte-level BPE.

    The image token has the model's id; the special tokens listed before it lie directly before it,
    the last one is the vocabulary's last: the ids of the released SmolVLM models. Tokens that would
    reach into the text model's own vocabulary stay plain text, as in SmolVLM-Instruct. All other
    ids are fillers that no text encodes to. Raises UserError where the vocabulary is too small.
    """
    before, after = _around_image(vlm, special_tokens, image_token, vocabulary)
    words = vlm.image_token_id - len(before)
    vocab, merges = _byte_level(words, vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=vocabulary.split_words),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    reserved = vlm.text.vocab - vlm.image_token_id - 1 - len(after)
    tokenizer.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token in (
                *vocabulary.first,
                *before,
                image_token,
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


def _around_image(
    vlm: Vlm, tokens: tuple[str, ...], image_token: str, vocabulary: Vocabulary
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The special tokens with ids below and above the image token's."""
    place = tokens.index(image_token)
    before = tuple(token for token in tokens[:place] if token not in vocabulary.first)
    after = tokens[place + 1 :]
    least = len(vocabulary.first) + len(pre_tokenizers.ByteLevel.alphabet())
    if vlm.image_token_id >= vocabulary.own:
        least = max(least, vocabulary.own)
    room = vlm.image_token_id - least
    if room < 0 or vlm.image_token_id + len(after) >= vlm.text.vocab:
        raise UserError(
            f"config.json: vocab_size {vlm.text.vocab} with image_token_id {vlm.image_token_id} "
            f"leaves no room for a synthetic tokenizer; the image token needs an id from {least} "
            f"to {vlm.text.vocab - 1 - len(after)}"
        )
    return before[max(0, len(before) - room) :], after


def _byte_level(size: int, known: Vocabulary) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """`size` tokens (first ones, bytes, words, fillers) and the merges that make the words."""
    vocab = [*known.first, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges: list[tuple[str, str]] = []
    for word in known.words:
        symbols = word.replace(" ", "Ġ").replace("\n", "Ċ")  # ByteLevel's names of these bytes
        for end in range(2, len(symbols) + 1):
            if symbols[:end] not in vocab and len(vocab) < size:
                vocab.append(symbols[:end])
                merges.append((symbols[: end - 1], symbols[end - 1]))
    ids = {token: number for number, token in enumerate(vocab)}
    return ids | {f"Ġ#{number}": number for number in range(len(vocab), size)}, merges


def _bytes(content: Json) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
