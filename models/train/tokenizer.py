"""A byte-level BPE of a few hundred tokens, trained on a task's text.

NOT aware of models or of files.
"""

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

# A little plain English beside the task's text, so that other prompts encode to something too.
NEUTRAL_TEXT = """\
User: Hello! Assistant: Hello, how can I help you today?
User: What is in this image? Assistant: There is a small house and a tree near the river.
Describe this image. Can you describe the image? How many objects are there in the picture?
The quick brown fox jumps over the lazy dog. It was a bright cold day, and the clocks were
striking thirteen. She said that they would come back with some of the others in the morning.
One, two, three, four, five, six, seven, eight, nine, ten. 0 1 2 3 4 5 6 7 8 9 10 100 2024
Where is the red ball? It is on the left of the table, under the white lamp. Yes, no, maybe.
"""


def train_tokenizer(
    texts: Iterable[str],
    size: int,
    first: tuple[str, ...],
    last: tuple[str, ...],
    words: pre_tokenizers.PreTokenizer | None = None,
) -> Tokenizer:
    """`size` tokens in all: special tokens `first`, 256 bytes, merges, special tokens `last`.

    `words` cuts text into words; None: as SmolLM2 does, single digits, then GPT-2's pattern.
    """
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words is None)
    words = words or pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(last),
        special_tokens=[_special(token) for token in first],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *NEUTRAL_TEXT.splitlines()], trainer)
    tokenizer.add_special_tokens([_special(token) for token in last])
    if tokenizer.get_vocab_size() != size:
        raise ValueError(f"{tokenizer.get_vocab_size()} tokens, expected {size}: too little text")
    return tokenizer


def _special(content: str) -> AddedToken:
    return AddedToken(content, normalized=False, special=True)
