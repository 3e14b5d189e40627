"""Layouts: how a client expects a model's graphs to be named, and their inputs and outputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from export.errors import UserError
from export.families import FAMILIES
from export.modeling.vlm import Vlm
from export.onnx.nodes import MIXED, SINGLE, Precision
from export.quantize.recipe import Recipe


@dataclass(frozen=True)
class Layout:
    """What one client expects.

    folder: folder of the graphs. suffixes: bits of the weights -> end of a graph's name.
    chunk_bytes: largest size of a data file, which is otherwise continued in another one.
    own_weights: no graph shares another's data file (otherwise a tied head points into the
    embedding's).
    marked: the client does not pass image_numbers; so where images are bidirectional, embeddings
    and features get one more column, which is 1 for image tokens and 0 for text.
    merged: the embedding graph inserts the image features; otherwise the host does.
    last_only: logits of the last position only; otherwise of the last num_logits_to_keep.
    flat: features of images of any size are [tokens, hidden], otherwise [1, tokens, hidden].
    padded_tiles: pixel_values are [batch, tiles, …] with padding where pixel_attention_mask is
    false.
    device: for GPU kernels. Matrix products, attention and its cache are float16
    (Precision in nodes.py). The decoder takes lengths and positions as inputs instead of an
    attention mask, so that shapes are the same in every step, and returns the most likely token.
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

    @property
    def precision(self) -> Precision:
        """The floats that its graphs compute in."""
        return MIXED if self.device else SINGLE

    def stem(self, graph: str, recipe: Recipe) -> str:
        """Path of a graph in the artifact, without extension."""
        return f"{self.folder}{graph}{self.suffixes.get(recipe.least_bits, '')}"

    def width(self, vlm: Vlm) -> int:
        """Columns of an embedding."""
        return vlm.text.hidden + self.marks(vlm)

    def marks(self, vlm: Vlm) -> bool:
        """Whether embeddings have a column that marks image tokens."""
        return self.marked and vlm.text.sees_later_positions


LAYOUTS: Mapping[str, Layout] = {
    "native": Layout(),
    # DEFAULT_DTYPE_SUFFIX_MAPPING of transformers.js; a browser's ArrayBuffer ends at 2 GiB.
    "transformers.js": Layout(
        client="transformers.js",
        folder="onnx/",
        suffixes={32: "", 16: "_fp16", 8: "_int8", 4: "_q4"},
        chunk_bytes=2_000_000_000,
        own_weights=True,
        marked=True,
        flat=True,
    ),
    "cuda": Layout(last_only=True, device=True),
    "genai": Layout(
        client="onnxruntime-genai", marked=True, merged=True, last_only=True, flat=True
    ),
}


def layout_of(vlm: Vlm, name: str) -> Layout:
    """A layout for this model. Raises UserError where the client cannot run its family."""
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
