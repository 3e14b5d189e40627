"""Tokenizers whose merges reach across words, so that ids depend on where a text is cut first.

A twin's few hundred tokens are the same whatever pre-tokenizer cuts the text; these are not.
"""

import json
from collections.abc import Iterator
from itertools import count

from texts import texts
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

SIZE = 4000
Merge = tuple[str, str]


def dense(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with a vocabulary trained on our strings, uncut, and added tokens behind it."""
    content = json.loads(tokenizer.to_str())
    fallback = content["model"]["byte_fallback"]
    vocab, merges = _trained(content, fallback)
    content["model"] |= {"vocab": vocab, "merges": [list(merge) for merge in merges]}
    numbers = count(len(vocab))
    for token in content["added_tokens"]:
        token["id"] = vocab[token["content"]] if token["content"] in vocab else next(numbers)
    return Tokenizer.from_str(json.dumps(content))


def _trained(content: dict, fallback: bool) -> tuple[dict[str, int], list[Merge]]:
    first = ["<pad>", "<eos>", "<bos>", "<unk>"] if fallback else []
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        show_progress=False,
        special_tokens=[*first, *(f"<0x{byte:02X}>" for byte in range(256))] if fallback else [],
        initial_alphabet=[] if fallback else pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=12,
    )
    learner = Tokenizer(models.BPE())
    if not fallback:
        learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    strings = texts(())
    if fallback:
        strings = [text.replace(" ", "\u2581") for text in strings]
    learner.train_from_iterator(strings, trainer)
    bpe = json.loads(learner.to_str())["model"]
    vocab, merges = bpe["vocab"], [tuple(merge) for merge in bpe["merges"]]
    return vocab, list(_all_ways(vocab, merges)) if fallback else merges


def _all_ways(vocab: dict[str, int], merges: list[Merge]) -> Iterator[Merge]:
    """Every pair that makes a token, in the tokens' order: SentencePiece's tokenizers have all."""
    for token in dict.fromkeys("".join(merge) for merge in merges):
        ways = [(token[:n], token[n:]) for n in range(1, len(token))]
        known = [way for way in ways if way[0] in vocab and way[1] in vocab]
        yield from sorted(known, key=lambda way: (vocab[way[0]], vocab[way[1]]))
