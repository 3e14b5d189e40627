"""What a family of vision-language models is: plain values, no code of any framework.

NOT aware of torch, ONNX, GGUF or of where weights come from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

Json = Mapping[str, Any]
Activation = Literal["silu", "gelu", "gelu_tanh"]
NormKind = Literal["layer", "rms"]
Shape = tuple[int, ...]
Transform = Literal["", "add_one", "transpose"]
Arrangement = Literal["interleaved_heads", "transposed", "by_frame"]


@dataclass(frozen=True)
class Tower:
    """A ViT image encoder. Sizes in pixels, patches or channels.

    positions "learned" (SigLIP): square tiles of `image_size`, a vector added to each patch.
    positions "rotary" (Qwen2.5-VL report, 2025): images of any size in whole patches, of which
    `image_size` is only an example; queries and keys turn by row and column. Patches come by
    squares of `square` x `square`, and layers outside `full_layers` attend within windows of
    `window` x `window` patches. gated: the feed-forward has a gate; frames: images of one patch
    (a still image is repeated).
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    image_size: int
    patch_size: int
    norm_eps: float
    activation: Activation
    channels: int = 3
    norm: NormKind = "layer"
    gated: bool = False
    positions: Literal["learned", "rotary"] = "learned"
    square: int = 1
    window: int | None = None
    full_layers: tuple[int, ...] = ()
    frames: int = 1

    def reach(self, layer: int) -> int | None:
        """Patches along an edge of the windows in which a layer attends; None: all at once."""
        return None if layer in self.full_layers else self.window

    @property
    def patch_values(self) -> int:
        """Values of one patch."""
        return self.channels * self.frames * self.patch_size**2

    @property
    def side(self) -> int:
        """Patches along one edge of a tile; pixels that fill no patch are not seen."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patches of one square tile."""
        return self.side**2


@dataclass(frozen=True)
class Overlap:
    """An image in up to `crops` crops, beside the whole of it.

    Neighbouring crops share 2 `margin` patches; each keeps those nearer to its own middle.
    """

    margin: int
    crops: int


@dataclass(frozen=True)
class Projector:
    """From the tower's patches to the decoder's embeddings.

    pixel_shuffle: `scale` x `scale` neighbouring patches are laid side by side in the channels
    (Shi et al. 2016, as Idefics3 uses it), then one linear map without bias.
    average_pool: the mean of `scale` x `scale` neighbours, an RMS norm with `norm_eps`, then one
    linear map without bias (Gemma 3 report, 2025).
    merge_mlp: the patches of a square of `scale` x `scale` side by side, then two linear maps with
    biases and a GELU between them (Qwen2.5-VL report, 2025).
    crops: the patches of the whole image beside those of its crops (see Overlap), stitched and
    averaged down to as many, then a feed-forward `inner` wide with biases (Moondream 2).
    """

    kind: Literal["pixel_shuffle", "average_pool", "crops", "merge_mlp"]
    scale: int
    norm_eps: float | None = None
    overlap: Overlap | None = None
    inner: int = 0


@dataclass(frozen=True)
class Rope:
    """Rotary positions: position / factor turns by theta^(-2 i / dims) (linear scaling)."""

    theta: float
    dims: int
    factor: float = 1.0


@dataclass(frozen=True)
class Local:
    """Layers that see only the last `window` positions, their own included, by a rope of theirs."""

    layers: tuple[int, ...]
    window: int
    rope_theta: float


@dataclass(frozen=True)
class Decoder:
    """A pre-norm, rotary, grouped-query text decoder.

    head_norms: each head's query and key has an RMS norm before its rotation. post_norms: so has
    what attention and feed-forward add to the residual. attention_scale: None is head_dim^-0.5.
    image_attention: whether the positions of one image see each other or only those before them.
    rope_sections: of the head_dim / 2 turning pairs, how many follow a position's time, its row and
    its column in an image (Qwen2-VL report, 2024); None: all follow the one place in the prompt.
    prefix: of a prompt that begins with an image, so many first positions see each other.
    rope_dims: a head's first dimensions that are rotated; None: all.

    norm: of blocks and output; "layer" has biases. parallel: attention and feed-forward both read
    the block's one norm. fused_qkv: their weights are one tensor. biases: linear maps have them.
    gated: the feed-forward is down(act(gate(x)) * up(x)), else down(act(up(x))).
    """

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
    rope_factor: float = 1.0
    local: Local | None = None
    head_norms: bool = False
    post_norms: bool = False
    attention_scale: float | None = None
    embedding_scale: float = 1.0
    image_attention: Literal["causal", "bidirectional"] = "causal"
    qkv_bias: bool = False
    rope_sections: tuple[int, int, int] | None = None
    prefix: int = 0
    rope_dims: int | None = None
    norm: Literal["rms", "layer"] = "rms"
    parallel: bool = False
    fused_qkv: bool = False
    biases: bool = False
    gated: bool = True

    @property
    def sees_ahead(self) -> bool:
        """Some positions see later ones, so attention has to be told which."""
        return self.image_attention == "bidirectional" or self.prefix > 0

    def window(self, layer: int) -> int | None:
        """Positions that a layer sees; None: all."""
        return self.local.window if self.local and layer in self.local.layers else None

    @property
    def rotated(self) -> int:
        """Dimensions of a head that are rotated."""
        return self.rope_dims or self.head_dim

    def rope(self, layer: int) -> Rope:
        """The rotation of a layer's queries and keys."""
        if self.local and layer in self.local.layers:
            return Rope(self.local.rope_theta, self.rotated)
        return Rope(self.rope_theta, self.rotated, self.rope_factor)


@dataclass(frozen=True)
class Region:
    """Heads that read and write places of an image (Moondream 2): coordinates and sizes.

    A number x enters as cos | sin of 2 pi x W, through a linear map; it leaves as logits over
    bins, of a feed-forward `inner` wide. Fourier features and bins are counted for one coordinate
    and for one (width, height).
    """

    inner: int
    coord_features: int
    coord_bins: int
    size_features: int
    size_bins: int


class Sight(NamedTuple):
    """What a model sees with."""

    vision: Tower
    projector: Projector


@dataclass(frozen=True)
class Vlm:
    """The numbers of one model: everything that decides names, shapes and arithmetic.

    Sizes of a family for text alone have no vision, no projector and no image token.
    """

    family: str
    vision: Tower | None
    projector: Projector | None
    text: Decoder
    image_token_id: int | None
    bos_token_id: int
    stop_token_ids: tuple[int, ...]
    region: Region | None = None

    @property
    def sight(self) -> Sight:
        """Tower and projector, for what is only done with models that have them."""
        assert self.vision is not None, "a model for text alone"
        assert self.projector is not None
        return Sight(self.vision, self.projector)

    @property
    def tokens_per_tile(self) -> int:
        """Decoder positions that one tile of the image takes (of a rotary tower, the example);
        crops share those of the image."""
        tower, projector = self.sight
        return tower.patches // projector.scale**2

    def image_positions(self, tiles: int) -> int:
        """Decoder positions of one image of so many tiles."""
        if not tiles:
            return 0
        _, projector = self.sight
        return self.tokens_per_tile * (1 if projector.kind == "crops" else tiles)


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
    transparency: Literal["white", "dropped"] = "white"
    kind: Literal["tiles"] = "tiles"

    @property
    def most_tiles(self) -> int:
        """What one image becomes at most: longest_edge / tile squared and an overview."""
        side = min(self.longest_edge, self.max_edge) // self.tile
        tiles = side**2 + 1 if self.split and side > 1 else 1
        return min(tiles, self.max_tiles or tiles)

    def within(self, max_tiles: int | None) -> "Tiles":
        """The same recipe with at most so many tiles of an image; None: as many as it takes."""
        return replace(self, max_tiles=max_tiles)


@dataclass(frozen=True)
class Stretch:
    """Preprocessing to one square: both edges become `size`, whatever the image's shape."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float
    resample: Literal["bilinear"] = "bilinear"
    transparency: Literal["white", "dropped"] = "white"
    kind: Literal["stretch"] = "stretch"

    @property
    def most_tiles(self) -> int:
        """The stretched image is the one tile."""
        return 1

    def within(self, max_tiles: int | None) -> "Stretch":
        """Itself: one tile is always within."""
        return self


@dataclass(frozen=True)
class Patches:
    """Preprocessing to the nearest size of whole squares of patches (Qwen2-VL's smart_resize).

    Both edges become multiples of `patch` * `square`, with an area from `min_pixels` to
    `max_pixels`. A patch is a row of channels x frames x patch x patch values; rows come by
    squares. A budget of tiles is one of areas of `tile` x `tile` pixels.
    """

    patch: int
    square: int
    frames: int
    min_pixels: int
    max_pixels: int
    tile: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float
    resample: Literal["bicubic"] = "bicubic"
    transparency: Literal["white", "dropped"] = "white"
    max_tiles: int | None = None
    kind: Literal["patches"] = "patches"

    @property
    def most_tiles(self) -> int:
        """An image has no tiles; memory and time are foretold for one of `tile` x `tile`."""
        return 1

    @property
    def most_pixels(self) -> int:
        """`max_pixels`, or less if a budget says so; never less than `min_pixels`."""
        budget = (self.max_tiles or self.max_pixels) * self.tile**2
        return max(self.min_pixels, min(self.max_pixels, budget))

    def within(self, max_tiles: int | None) -> "Patches":
        """The same recipe with at most the area of so many tiles; None: as much as it takes."""
        return replace(self, max_tiles=max_tiles)


@dataclass(frozen=True)
class Crops:
    """Preprocessing by overlapping crops (Moondream 2): stretched to a grid of them.

    Neighbours share 2 `margin` pixels. An image that takes more than one crop is followed by the
    whole of it in one tile; one that takes one crop is that crop.
    """

    tile: int
    margin: int
    max_crops: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float
    resample: Literal["lanczos"] = "lanczos"
    transparency: Literal["white", "dropped"] = "dropped"
    max_tiles: int | None = None
    kind: Literal["crops"] = "crops"

    @property
    def most_crops(self) -> int:
        """What `max_crops` and a budget of `max_tiles`, the whole image's included, allow."""
        within = self.max_crops if self.max_tiles is None else self.max_tiles - 1
        return max(1, min(self.max_crops, within))

    @property
    def most_tiles(self) -> int:
        """The most crops and the whole image."""
        return self.most_crops + 1 if self.most_crops > 1 else 1

    def within(self, max_tiles: int | None) -> "Crops":
        """The same recipe with at most so many tiles of an image; None: as the checkpoint says."""
        return replace(self, max_tiles=max_tiles)


ImageRecipe = Tiles | Stretch | Patches | Crops


@dataclass(frozen=True)
class Prompt:
    """How a question and its images become text; `{…}` fields are filled in, tokens by string.

    `with_images` has {images} and {question}; `text_only` has {question}. An image that was cut
    becomes `tile` for each tile ({row}, {col} from 1, {tokens}), `row_end` after each row and
    `overview`; an uncut one becomes `single`. {tokens} is `image_token` repeated, as often as the
    image's own size says where `tokens_per_tile` is None. `strip`: the template drops white space
    around the question. Models for text alone have only `text_only`.
    """

    text_only: str
    with_images: str = ""
    tile: str = ""
    row_end: str = ""
    overview: str = ""
    single: str = ""
    image_token: str | None = None
    tokens_per_tile: int | None = None
    strip: bool = False
    kind: Literal["text"] = "text"

    @property
    def most_images(self) -> int | None:
        """As many as the context holds (None), or no image at all."""
        return 0 if self.image_token is None else None


@dataclass(frozen=True)
class Task:
    """One thing that can be asked: ids `before`, the text of `opening`, the places that the request
    names, the text of `closing` with its {question}, ids `after`.

    Texts are encoded each by itself. answer: words, or up to `most` places in the image.
    needs: what a request must have.
    """

    before: tuple[int, ...]
    opening: str
    closing: str
    after: tuple[int, ...]
    answer: Literal["text", "boxes", "points"] = "text"
    most: int = 0
    needs: tuple[Literal["image", "question", "place"], ...] = ()


@dataclass(frozen=True)
class Templates:
    """A prompt put together from ids: `start`, an image's positions, then a task's.

    The first of `tasks` is asked where a request names none. Positions that are no token (of an
    image, of a coordinate) have the id `placeholder`, which no text encodes to. `never_later`: ids
    that are not chosen behind the first token of an answer.
    """

    start: tuple[int, ...]
    placeholder: int
    image_positions: int
    tasks: Mapping[str, Task]
    never_later: tuple[int, ...] = ()
    kind: Literal["ids"] = "ids"

    @property
    def image_token(self) -> None:
        """No text stands for an image."""

    @property
    def most_images(self) -> int:
        """The first positions of a prompt are made for one."""
        return 1


PromptRecipe = Prompt | Templates


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
    interleaved_heads: rows i and i + head_dim / 2 of each head are neighbours; by_frame: one tensor
    for each frame of a patch. floats: patterns -> bits that llama.cpp's graph needs there, whatever
    the recipe says.
    """

    arch: str
    projector_type: str
    tokenizer: Literal["gpt2", "llama"]
    tokenizer_pre: str
    stated: tuple[str, ...] = ()
    space_prefix: bool = False
    arranged: Mapping[str, Arrangement] = field(default_factory=dict)
    floats: Mapping[str, Literal[32, 16]] = field(default_factory=dict)


@dataclass(frozen=True)
class Client:
    """What a client's code takes for granted of this family (facts of it, not choices).

    model_type: its name there; text_model_type: that of its text model. processor and
    image_processor: its classes; tokens_key: where processor_config.json says how many tokens a
    tile takes. padded_tiles: tiles come by samples, filled up to as many, beside a mask.
    image_tokens: what its processor writes for an image, whatever the model. limits: what it does
    otherwise than the model's own code, a line each.
    """

    model_type: str
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
