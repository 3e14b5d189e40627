"""What a family of vision-language models is: plain values, no code of any framework.

Its numbers are in geometry.py, how it takes images and questions in inputs.py. NOT aware of torch,
ONNX, GGUF or of where weights come from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from export.families.geometry import Vlm
from export.families.inputs import ImageRecipe, PromptRecipe

Json = Mapping[str, Any]
Shape = tuple[int, ...]
Transform = Literal["", "add_one", "transpose"]
Arrangement = Literal["interleaved_heads", "transposed", "by_frame", "folded"]


@dataclass(frozen=True)
class Source:
    """Where a canonical tensor comes from: checkpoint name(s) and what is done to the values.

    transpose: the checkpoint has [inputs, outputs]. stored: its shape there, where only that
    differs. part (n, of): the checkpoint's rows are `of` such tensors one behind another, this is
    the n-th from 0.
    """

    names: tuple[str, ...]
    transform: Transform = ""
    stored: Shape | None = None
    part: tuple[int, int] = (0, 1)


@dataclass(frozen=True)
class Vocabulary:
    """What a synthetic tokenizer takes from the real one, so that prompts have as many ids."""

    first: tuple[str, ...]
    """Special tokens with the ids from 0 on."""
    named: Mapping[str, str]
    """tokenizer_config.json's bos_token, pad_token, unk_token and eos_token."""
    words: tuple[str, ...]
    """Made one token each; the beginnings of a word become tokens too."""
    own: int
    """Ids of the text model's vocabulary, behind which a real model's added tokens come."""
    byte_fallback: bool = False
    """SentencePiece's kind: text is not cut into words, what is no token becomes its bytes. Else a
    byte-level BPE over words of GPT-2's pattern."""


SMOLLM2 = Vocabulary(
    first=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    named={"bos_token": "<|im_start|>", "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>"},
    words=(" the", " image", " is", "\n\n", "User", "Ass", "istant", "row", "col", "global", "img"),
    own=49152,
)


@dataclass(frozen=True)
class Gguf:
    """What llama.cpp calls this family, and how it wants it (facts of its converter, not choices).

    arch, projector_type: names of the decoder and of the tower with its projector.
    tokenizer: "gpt2" is a byte-level BPE with the pre-tokenizer `tokenizer_pre`, "llama" a
    SentencePiece vocabulary.
    stated: keys that follow from the numbers and that only some architectures have (see
    export/gguf/metadata.py); space_prefix: so has "add_space_prefix".
    arranged: patterns of canonical names -> how a tensor lies in the file where that differs.
    adds_begin: whether llama.cpp puts the begin of a text before a prompt; None: as the
    tokenizer's files say.
    interleaved_heads: rows i and i + head_dim / 2 of each head are neighbours; by_frame: one tensor
    for each frame of a patch; folded: both halves of the columns added, for inputs whose halves are
    equal (one crop is the whole image). floats: patterns -> bits that llama.cpp's graph needs
    there, whatever the recipe says.
    """

    arch: str
    projector_type: str
    tokenizer: Literal["gpt2", "llama"]
    tokenizer_pre: str
    stated: tuple[str, ...] = ()
    space_prefix: bool = False
    adds_begin: bool | None = None
    arranged: Mapping[str, Arrangement] = field(default_factory=dict)
    floats: Mapping[str, Literal[32, 16]] = field(default_factory=dict)


@dataclass(frozen=True)
class Client:
    """What a client's code takes for granted of this family (facts of it, not choices).

    model_type: its name there, where that is not config.json's; text_model_type: that of its text
    model. processor and image_processor: its classes; tokens_key: where processor_config.json says
    how many tokens a tile takes. padded_tiles: tiles come by samples, filled up to as many, beside
    a mask. image_tokens: what its processor writes for an image, whatever the model. limits: what
    it does otherwise than the model's own code, a line each.
    """

    model_type: str = ""
    text_model_type: str = ""
    processor: str = ""
    image_processor: str = ""
    tokens_key: str = ""
    padded_tiles: bool = False
    image_tokens: int | None = None
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """One family, described once; every interpreter reads only this."""

    name: str
    model_types: tuple[str, ...]
    read: Callable[[Json], Vlm]
    """config.json -> numbers. The only place where HF key names and class defaults occur."""
    sources: Callable[[Vlm], Mapping[str, Source]]
    """canonical tensor name -> checkpoint tensors."""
    image: Callable[[Vlm, Json], ImageRecipe]
    """preprocessor_config.json -> image recipe."""
    prompt: Callable[[Vlm, Json], PromptRecipe]
    """config.json -> how a request becomes ids."""
    special_tokens: tuple[str, ...]
    """Tokens the prompt needs as one id each (a synthetic tokenizer is made with these)."""
    gguf: Gguf | None
    """None: there is no GGUF of this family yet."""
    stop_tokens: tuple[str, ...] = ()
    """Tokens that end an answer whatever the checkpoint's configuration says."""
    ignored: tuple[str, ...] = ()
    """Patterns of checkpoint tensors that hold no weights (buffers that some versions save)."""
    spellings: tuple[tuple[str, str], ...] = ()
    """Beginnings of tensor names that some versions save, and how `sources` spells them."""
    vocabulary: Vocabulary = SMOLLM2
    """Of a synthetic tokenizer."""
    layout: str = "native"
    """The best one for this family's models with images, where a target has it."""
    clients: Mapping[str, Client] = field(default_factory=dict)
    """By layout of the ONNX target: who runs this family beside our own runtime."""
    image_tokens: tuple[str, ...] = ()
    """Of the special tokens those that lie behind the vocabulary of sizes for text alone."""
    preprocessor_file: bool = True
    """False: how images are prepared is in the family's code, not in a file of the checkpoint."""

    def tokens(self, vlm: Vlm) -> tuple[str, ...]:
        """The special tokens that a model has ids for."""
        lacking = self.image_tokens if vlm.vision is None else ()
        return tuple(token for token in self.special_tokens if token not in lacking)
