"""The numbers of a model: tower, projector, decoder and region heads, and what follows from them.

NOT aware of checkpoints, of preprocessing or of any format.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Activation = Literal["silu", "gelu", "gelu_tanh"]
NormKind = Literal["layer", "rms"]


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
