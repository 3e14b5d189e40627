"""Defines layouts: which names, inputs and outputs a client expects of a model's ONNX graphs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from export.errors import UserError
from export.families import FAMILIES
from export.modeling.decoder import Decoder
from export.modeling.vlm import Vlm
from export.onnx.nodes import MIXED, SINGLE, Precision
from export.quantize.recipe import Recipe

HEAD_SIZE = 8
"""GroupQueryAttention takes heads whose size this divides; it says so only at the first run."""


@dataclass(frozen=True)
class Layout:
    """Says how the ONNX graphs must look for one client, a program that runs them.

    client: its name. folder: of the graphs in the artifact. suffixes: fewest bits of the recipe ->
    end of a graph's file name. chunk_bytes: a larger data file is continued in another one; None:
    unlimited. own_weights: each graph has data files of its own; otherwise a tied output head reads
    the embedding's.
    marked: the client does not pass image_numbers to the decoder; so if tokens of an image see
    later ones, embeddings and features get one more column, 1 for image tokens and 0 for text.
    merged: the embedding graph inserts the image features; otherwise the client does.
    last_only: logits of the last position only; otherwise of the last num_logits_to_keep.
    flat: features of images of any size are [tokens, hidden], otherwise [1, tokens, hidden].
    padded_tiles: pixel_values are [batch, tiles, …], padded where pixel_attention_mask is false.
    device: for GPUs. Matrix products, attention and its cache are float16 (nodes.Precision). The
    decoder takes lengths and positions as inputs instead of an attention mask, so that shapes are
    the same in every step, and also returns the most likely token.
    portable: 4-bit towers are stored in bytes and unpacked in each run, and embeddings by standard
    operators, as every build of ONNX Runtime can. It takes a third of the memory of a tower that
    is unpacked when it loads, and a tenth more time (docs/reference/layouts.md).
    ort: graphs are converted to ONNX Runtime's own format (ort_format.py), whose readers fold no
    constants. So scales of blocks are stored as its kernels read them.
    """

    client: str = "onnxruntime"
    folder: str = ""
    suffixes: Mapping[int, str] = field(default_factory=dict, hash=False)
    chunk_bytes: int | None = None
    own_weights: bool = False
    marked: bool = False
    merged: bool = False
    last_only: bool = False
    flat: bool = False
    padded_tiles: bool = False
    device: bool = False
    portable: bool = False
    ort: bool = False

    @property
    def precision(self) -> Precision:
        """Returns the float types that the graphs compute in: float32, for GPUs mostly float16."""
        return MIXED if self.device else SINGLE

    def stem(self, graph: str, recipe: Recipe) -> str:
        """Returns the path of the graph named `graph` in the artifact, without extension."""
        return f"{self.folder}{graph}{self.suffixes.get(recipe.least_bits, '')}"

    def width(self, vlm: Vlm) -> int:
        """Returns the number of columns of an embedding, including one that marks image tokens."""
        return vlm.text.hidden + self.marks(vlm)

    def marks(self, vlm: Vlm) -> bool:
        """Whether embeddings of this model have one more column, which marks image tokens."""
        return self.marked and vlm.text.sees_later_positions


LAYOUTS: Mapping[str, Layout] = {
    "native": Layout(),
    # DEFAULT_DTYPE_SUFFIX_MAPPING of transformers.js; a browser's ArrayBuffer ends at 2 GiB.
    "transformers.js": Layout(
        client="transformers.js",
        folder="onnx/",
        suffixes={32: "", 16: "_fp16", 8: "_quantized", 4: "_q4"},
        chunk_bytes=2_000_000_000,
        own_weights=True,
        marked=True,
        flat=True,
        portable=True,
    ),
    "cuda": Layout(last_only=True, device=True),
    "genai": Layout(
        client="onnxruntime-genai", marked=True, merged=True, last_only=True, flat=True
    ),
    "ort": Layout(own_weights=True, portable=True, ort=True),
}


def layout_of(vlm: Vlm, name: str) -> Layout:
    """Returns the layout `name` (a key of LAYOUTS), adapted to the model's family.

    Raises UserError if the layout's client, or ONNX Runtime, cannot run this model.
    """
    _expect_heads(vlm.text)
    layout = LAYOUTS[name]
    if layout.client == LAYOUTS["native"].client:
        return layout
    if vlm.vision is None:
        raise UserError(
            f"--layout {name} is for models that take images, but this one takes only text; export "
            f"it with --layout native"
        )
    clients = FAMILIES[vlm.family].clients
    if name not in clients:
        others = " or ".join(f"--layout {other}" for other in ("native", *clients))
        raise UserError(
            f"{layout.client} cannot run models of family {vlm.family}; export it with {others} "
            f"(native is for PocketVLM's runtime onnxruntime)"
        )
    return replace(layout, padded_tiles=clients[name].padded_tiles)


def _expect_heads(text: Decoder) -> None:
    if text.head_dim % HEAD_SIZE:
        raise UserError(
            f"config.json: head_dim {text.head_dim} is not a multiple of {HEAD_SIZE}, which ONNX "
            f"Runtime's attention needs; export for the gguf target instead"
        )
