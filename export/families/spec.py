"""Defines Family, the description of a family of vision-language models.

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
    """The checkpoint tensor (`name`) that a tensor of the model is read from, and its conversion.

    transform: "transpose" if it is stored as [inputs, outputs], "add_one" if a norm's weight is
    stored minus 1. stored: its shape in the checkpoint if it must be reshaped. part (n, of): it
    holds `of` tensors, concatenated along the rows, of which this is number n, from 0. row_scale:
    another checkpoint tensor [rows], by which the rows are multiplied (LayerScale, Touvron et al.
    2021).
    """

    name: str
    transform: Transform | None = None
    stored: Shape | None = None
    part: tuple[int, int] = (0, 1)
    row_scale: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all checkpoint tensors that are read for this tensor of the model."""
        return (self.name,) if self.row_scale is None else (self.name, self.row_scale)


@dataclass(frozen=True)
class Vocabulary:
    """Facts of a family's tokenizer, to make a synthetic one whose prompts have as many tokens.

    A synthetic tokenizer goes with random weights. first: special tokens with the ids 0, 1, ….
    named: bos_token, pad_token, … of tokenizer_config.json. words: words that are one token each;
    so are their beginnings. text_vocab: size of the text model's vocabulary, which ids of added
    tokens follow. byte_fallback: True for SentencePiece, False for byte-level BPE.
    """

    first: tuple[str, ...]
    named: Mapping[str, str]
    words: tuple[str, ...]
    text_vocab: int
    byte_fallback: bool = False
    """SentencePiece does not cut text into words, and writes unknown characters as bytes."""


SMOLLM2 = Vocabulary(
    first=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    named={"bos_token": "<|im_start|>", "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>"},
    words=(" the", " image", " is", "\n\n", "User", "Ass", "istant", "row", "col", "global", "img"),
    text_vocab=49152,
)


@dataclass(frozen=True)
class Gguf:
    """How llama.cpp expects a family in GGUF files: names, metadata keys, order of values.

    arch, projector_type: llama.cpp's names of the decoder and of the vision part. projector_type
    None: only the decoder can be written as GGUF, and images need --layout onnx-vision.
    tokenizer: "gpt2" for byte-level BPE with the pre-tokenizer `tokenizer_pre`, "llama" for
    SentencePiece.
    vision_keys: makes the metadata of the vision part that only this family has.
    stated: metadata keys of the decoder that only some architectures write (gguf/metadata.py).
    space_prefix: whether to write the key "add_space_prefix".
    add_bos: whether llama.cpp puts the begin-of-text token before a prompt; None: as the
    tokenizer's files say.
    arranged: pattern of GGUF tensor names -> how llama.cpp arranges their values.
    interleaved_heads: rows i and i + head_dim / 2 of each head become neighbours; transposed: rows
    become columns; by_frame: one tensor for each frame of a patch; folded: the two halves of the
    columns are added, for inputs whose halves are equal (an image of one crop).
    floats: pattern of GGUF tensor names -> bits of the float type that llama.cpp needs there,
    whatever the recipe says.
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
    """What another program (a client, such as transformers.js) assumes of a family.

    model_type: its name for the family; "": that of config.json. text_model_type: its name for the
    text model. processor, image_processor: its classes. tokens_key: its key in
    processor_config.json for the tokens of a tile. padded_tiles: it passes tiles as [samples,
    tiles, …] with a mask. image_tokens: how many tokens it writes for any image; None: it depends
    on the model. limits: how its results differ from the model's own code, a line each.
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
    """A family of models, such as Gemma 3: how its checkpoints are read, prepared and exported.

    model_types: values of model_type in config.json. read: config.json -> hyperparameters. sources:
    maps tensor names (GGUF's) to checkpoint tensors. image: preprocessor_config.json -> image
    recipe. prompt: config.json -> prompt template. special_tokens: tokens of prompts that must be
    one id each; image_tokens: those of them that text-only models have no id for. gguf None: GGUF
    is not supported. stop_tokens: tokens that always end an answer. ignored: patterns of checkpoint
    tensors that are not weights. prefixes: (prefix in some checkpoints, the one `sources` uses).
    vocabulary: for a synthetic tokenizer. layout: the best one for models with images. clients:
    ONNX layout -> the program that runs it. preprocessor_file False: checkpoints have none.
    image_in_template: what chat templates write for an image, before the processor replaces it.
    """

    name: str
    model_types: tuple[str, ...]
    read: Callable[[Section], Vlm]
    """The only place where HF key names and class defaults occur."""
    sources: Callable[[Vlm], Mapping[str, Source]]
    image: Callable[[Vlm, Section], ImageRecipe]
    prompt: Callable[[Vlm, Section], PromptRecipe]
    special_tokens: tuple[str, ...]
    gguf: Gguf | None
    stop_tokens: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    """Some versions save buffers, which are not weights."""
    prefixes: tuple[tuple[str, str], ...] = ()
    """Each is tried in turn on the result of the one before."""
    vocabulary: Vocabulary = SMOLLM2
    layout: str = "native"
    """Taken by an export that names none, if the target has it."""
    clients: Mapping[str, Client] = field(default_factory=dict)
    image_tokens: tuple[str, ...] = ()
    preprocessor_file: bool = True
    image_in_template: str = ""

    def tokens(self, vlm: Vlm) -> tuple[str, ...]:
        """Returns the special tokens that this model has ids for."""
        lacking = self.image_tokens if vlm.vision is None else ()
        return tuple(token for token in self.special_tokens if token not in lacking)
