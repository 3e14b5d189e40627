"""What a family of vision-language models is: plain values, no code of any framework.

NOT aware of torch, ONNX, GGUF or of where weights come from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Json = Mapping[str, Any]
Activation = Literal["silu", "gelu_tanh"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tower:
    """A ViT image encoder with learned positions (SigLIP). Sizes in pixels, patches or channels."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    image_size: int
    patch_size: int
    norm_eps: float
    activation: Activation
    channels: int = 3

    @property
    def side(self) -> int:
        """Patches along one edge of a tile; pixels that fill no patch are not seen."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patches of one square tile."""
        return self.side**2


@dataclass(frozen=True)
class Projector:
    """From the tower's patches to the decoder's embeddings.

    pixel_shuffle: `scale` x `scale` neighbouring patches are laid side by side in the channels
    (Shi et al. 2016, as Idefics3 uses it), then one linear map without bias.
    """

    kind: Literal["pixel_shuffle"]
    scale: int


@dataclass(frozen=True)
class Decoder:
    """A pre-norm, rotary, grouped-query text decoder."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    rope_theta: float
    norm_eps: float
    activation: Activation
    tied: bool


@dataclass(frozen=True)
class Vlm:
    """The numbers of one model: everything that decides names, shapes and arithmetic."""

    family: str
    vision: Tower
    projector: Projector
    text: Decoder
    image_token_id: int
    bos_token_id: int
    stop_token_ids: tuple[int, ...]

    @property
    def tokens_per_tile(self) -> int:
        """Decoder positions that one tile of the image takes."""
        return self.vision.patches // self.projector.scale**2


@dataclass(frozen=True)
class Tiles:
    """Preprocessing by square tiles (Idefics3): longest edge, then up to multiples of `tile`.

    An image larger than one tile is cut row by row and followed by the whole image as an overview;
    `max_tiles` (tiles and overview together) lowers the longest edge until they fit. `max_edge`
    bounds a longest edge that a configuration sets higher (MAX_IMAGE_SIZE of Idefics3).
    """

    tile: int
    longest_edge: int
    split: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float
    resample: Literal["lanczos"] = "lanczos"
    max_tiles: int | None = None
    max_edge: int = 4096


@dataclass(frozen=True)
class Prompt:
    """How a question and its images become text; `{…}` fields are filled in, tokens by string.

    `with_images` has {images} and {question}; `text_only` has {question}. An image that was cut
    becomes `tile` for each tile ({row}, {col} from 1, {tokens}), `row_end` after each row and
    `overview`; an uncut one becomes `single`. {tokens} is `image_token` repeated.
    """

    with_images: str
    text_only: str
    tile: str
    row_end: str
    overview: str
    single: str
    image_token: str
    tokens_per_tile: int


@dataclass(frozen=True)
class Source:
    """Where a canonical tensor comes from: checkpoint name(s) and what is done to the values."""

    names: tuple[str, ...]
    transform: Literal["", "add_one"] = ""


@dataclass(frozen=True)
class Gguf:
    """What llama.cpp calls this family (constants of its converter; facts, not choices)."""

    arch: str
    tokenizer_pre: str
    permute_qk: bool
    projector_type: str


@dataclass(frozen=True)
class Family:
    """One family, described once; every interpreter reads only this."""

    name: str
    model_types: tuple[str, ...]
    read: Callable[[Json], Vlm]
    """config.json -> numbers. The only place where HF key names and class defaults occur."""
    sources: Callable[[Vlm], Mapping[str, Source]]
    """canonical tensor name -> checkpoint tensors."""
    image: Callable[[Vlm, Json], Tiles]
    """preprocessor_config.json -> image recipe."""
    prompt: Callable[[Vlm], Prompt]
    special_tokens: tuple[str, ...]
    """Tokens the prompt needs as one id each (a synthetic tokenizer is made with these)."""
    gguf: Gguf
    stop_tokens: tuple[str, ...] = ()
    """Tokens that end an answer whatever the checkpoint's configuration says."""
    ignored: tuple[str, ...] = ()
    """Patterns of checkpoint tensors that hold no weights (buffers that some versions save)."""
