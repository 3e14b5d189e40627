"""A SentencePiece-like BPE of a few hundred tokens with byte fallback, trained on a task's text.

The shape of Gemma's tokenizer.json: spaces become U+2581, no splitting into words, characters that
are no token become their bytes. NOT aware of models or of files.
"""

import json
from collections.abc import Iterable

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from models.train.tokenizer import NEUTRAL_TEXT

SPACE = "\u2581"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
# In Gemma's vocabulary these are one token each.
FREQUENT = ["\n\n", "\n\n\n", "user", "model"] * 1000


def train_tokenizer(
    texts: Iterable[str], size: int, first: tuple[str, ...], last: tuple[str, ...]
) -> Tokenizer:
    """`size` tokens in all: special tokens `first`, 256 bytes, merges, special tokens `last`."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    # Only while it is trained: no merge may join words, or newlines and words.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(SPACE, "merged_with_next"),
            pre_tokenizers.Split(Regex(r"\n+"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(last),
        special_tokens=[*first, *BYTES],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *NEUTRAL_TEXT.splitlines(), *FREQUENT], trainer)
    tokenizer = _without_special(tokenizer, (*first, *last))
    if tokenizer.get_vocab_size() != size:
        raise ValueError(f"{tokenizer.get_vocab_size()} tokens, expected {size}: too little text")
    return tokenizer


def _without_special(trained: Tokenizer, special: tuple[str, ...]) -> Tokenizer:
    """The same vocabulary and merges in the shape that is used, the byte tokens ordinary ones."""
    bpe = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in bpe["merges"]]
    tokenizer = Tokenizer(
        models.BPE(bpe["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in special]
    )
    return tokenizer
