"""What a family of vision-language models is: one value that picks parts and maps names.

NOT aware of torch, ONNX, GGUF or of where weights come from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from export.families.section import Section
from export.images import ImageRecipe
from export.modeling.tensors import Shape
from export.modeling.vision import Vision
from export.modeling.vlm import Vlm
from export.prompts import PromptRecipe

Transform = Literal["add_one", "transpose"]
Arrangement = Literal["interleaved_heads", "transposed", "by_frame", "folded"]


@dataclass(frozen=True)
class Source:
    """Where a canonical tensor comes from: its name in the checkpoint and what is done to it.

    transform: "transpose" where the checkpoint has [inputs, outputs], "add_one" where it keeps a
    norm's weight minus 1. stored: its shape there, where only that differs. part (n, of): the
    checkpoint's tensor is `of` such tensors, one after the other along the rows; this is the n-th
    from 0. row_scale: a checkpoint tensor [rows] whose values the rows are multiplied by
    (LayerScale, Touvron et al. 2021, which follows a linear map and so folds into it).
    """

    name: str
    transform: Transform | None = None
    stored: Shape | None = None
    part: tuple[int, int] = (0, 1)
    row_scale: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The checkpoint tensors that it reads."""
        return (self.name,) if self.row_scale is None else (self.name, self.row_scale)


@dataclass(frozen=True)
class Vocabulary:
    """What a synthetic tokenizer takes from the real one, so that prompts have as many ids."""

    first: tuple[str, ...]
    """Special tokens with the ids 0, 1, …"""
    named: Mapping[str, str]
    """tokenizer_config.json's bos_token, pad_token, unk_token and eos_token."""
    words: tuple[str, ...]
    """Words that are one token each; so are their beginnings."""
    text_vocab: int
    """Size of the text model's vocabulary; ids of added tokens follow it."""
    byte_fallback: bool = False
    """True: SentencePiece, which does not cut text into words and writes unknown characters as
    bytes. False: a byte-level BPE over words of GPT-2's pattern."""


SMOLLM2 = Vocabulary(
    first=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    named={"bos_token": "<|im_start|>", "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>"},
    words=(" the", " image", " is", "\n\n", "User", "Ass", "istant", "row", "col", "global", "img"),
    text_vocab=49152,
)


@dataclass(frozen=True)
class Gguf:
    """What llama.cpp calls this family and how it expects it: facts of its converter.

    arch, projector_type: names of the decoder and of the tower with its projector; None: only the
    decoder can be written, and images need --layout onnx-vision.
    tokenizer: "gpt2" is a byte-level BPE with the pre-tokenizer `tokenizer_pre`, "llama" a
    SentencePiece vocabulary.
    vision_keys: metadata of the tower that only this family has.
    stated: keys of the decoder that only some architectures have (export/gguf/metadata.py);
    space_prefix: whether "add_space_prefix" is one of them.
    add_bos: whether llama.cpp puts the begin-of-text token before a prompt; None: as the
    tokenizer's files say.
    arranged: patterns of canonical names -> how llama.cpp arranges a tensor's values.
    interleaved_heads: rows i and i + head_dim / 2 of each head become neighbours; by_frame: one
    tensor for each frame of a patch; folded: both halves of the columns added, for inputs whose
    halves are equal (an image of one crop).
    floats: patterns -> bits that llama.cpp's graph needs there, whatever the recipe says.
    """

    arch: str
    projector_type: str | None
    tokenizer: Literal["gpt2", "llama"]
    tokenizer_pre: str
    vision_keys: Callable[[Vision, ImageRecipe], Mapping[str, int]] = lambda vision, image: {}
    stated: tuple[str, ...] = ()
    space_prefix: bool = False
    add_bos: bool | None = None
    arranged: Mapping[str, Arrangement] = field(default_factory=dict)
    floats: Mapping[str, Literal[32, 16]] = field(default_factory=dict)


@dataclass(frozen=True)
class Client:
    """What a client's code assumes of this family: facts of that code.

    model_type: the family's name there, where that is not config.json's; text_model_type: that of
    its text model. processor, image_processor: its classes; tokens_key: the key of
    processor_config.json for the tokens of a tile. padded_tiles: tiles come as [samples, tiles, …]
    with a mask. image_tokens: tokens that its processor writes for every image, whatever the model.
    limits: how its results differ from those of the model's own code, a line each.
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
    read: Callable[[Section], Vlm]
    """config.json -> numbers. The only place where HF key names and class defaults occur."""
    sources: Callable[[Vlm], Mapping[str, Source]]
    """canonical tensor name -> checkpoint tensor."""
    image: Callable[[Vlm, Section], ImageRecipe]
    """preprocessor_config.json -> image recipe."""
    prompt: Callable[[Vlm, Section], PromptRecipe]
    """config.json -> how a request becomes ids."""
    special_tokens: tuple[str, ...]
    """Tokens that the prompt needs as one id each; a synthetic tokenizer has them."""
    gguf: Gguf | None
    """None: GGUF is not supported for this family."""
    stop_tokens: tuple[str, ...] = ()
    """Tokens that end an answer whatever the checkpoint's configuration says."""
    ignored: tuple[str, ...] = ()
    """Patterns of checkpoint tensors that are not weights (buffers that some versions save)."""
    prefixes: tuple[tuple[str, str], ...] = ()
    """Prefixes of tensor names that some versions save -> those that `sources` has."""
    vocabulary: Vocabulary = SMOLLM2
    """Of a synthetic tokenizer."""
    layout: str = "native"
    """The best layout for this family's models with images, where a target has it."""
    clients: Mapping[str, Client] = field(default_factory=dict)
    """Layout of the ONNX target -> the client that runs this family in it."""
    image_tokens: tuple[str, ...] = ()
    """Those of the special tokens whose ids lie beyond the vocabulary of text-only sizes."""
    preprocessor_file: bool = True
    """False: how images are prepared is in the family's code, not in a file of the checkpoint."""

    def tokens(self, vlm: Vlm) -> tuple[str, ...]:
        """The special tokens that a model has ids for."""
        lacking = self.image_tokens if vlm.vision is None else ()
        return tuple(token for token in self.special_tokens if token not in lacking)
