"""Moondream at toy size: its prompt and tokenizer beside what computes, writes and learns places.

NOT aware of tasks or training.
"""

from pathlib import Path

from tokenizers import Regex, Tokenizer, pre_tokenizers
from torch import nn

from export.modeling.vlm import shapes
from models.train import moondream_files as files
from models.train import moondream_model as parts
from models.train.family import Family, Prompt
from models.train.moondream_regions import region_loss
from models.train.tokenizer import train_tokenizer

PROMPT = Prompt(
    before_image=files.END,
    image_token="",
    after_image="",
    question=files.PREFIXES["query"] + " {question}" + files.SUFFIXES["query"],
    answer=" {answer}" + files.END,
)
# GPT-2's, as its tokenizer has it.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def tokenizer(texts: list[str]) -> Tokenizer:
    around = [*files.PREFIXES.values(), *files.SUFFIXES.values()]
    made = train_tokenizer(
        [*(f" {text.strip()}" for text in texts), *around * len(texts)],
        size=files.TOKENS,
        first=(),
        last=(files.END,),
        words=pre_tokenizers.Split(Regex(WORDS), "isolated"),
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # the same words
    return made


def write(model: nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    made = parts.of(model)
    tensors = {name: made.parameter(name) for name in shapes(made.vlm)}
    files.write(tensors, tokenizer, folder)


FAMILY = Family(
    prompt=PROMPT,
    image_size=files.CROP,
    grid=files.GRID,
    width=files.WIDTH,
    tokenizer=tokenizer,
    build=parts.Moondream,
    image_tokens=parts.image_tokens,
    embed=parts.embed,
    hidden=parts.hidden,
    logits=parts.logits,
    write=write,
    sees_itself="prefix",
    region_loss=region_loss,
)
