"""Layouts: how the graphs of a model are cut, named and fed for one client.

Plain data, and the one place that says which family a layout is for. NOT aware of nodes or of what
a client's other files look like (export/onnx/client_files.py).
"""

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

    folder: where the graphs are; suffixes: what follows a graph's name, by the bits of its weights.
    chunk_bytes: a data file goes on in another one rather than pass it.
    apart: each graph has all its weights in files of its own name; else a tied head is read from
    the embedding's.
    marked: the client passes no image_numbers, so where images see ahead embeddings and features
    are one column wider: 1 in the rows of an image, 0 in those of text.
    merged: the embedding's graph puts the images' rows into their places; else the host does.
    last_only: logits of the last position; else of as many as num_logits_to_keep says.
    flat: images of any size have features [tokens, hidden], else [1, tokens, hidden].
    padded_tiles: pixel_values are [batch, tiles, …], and where pixel_attention_mask is false there
    is no tile.
    device: for the kernels of a GPU. Products, attention and its cache are float16
    (export/onnx/half.py), the decoder is told lengths and places that others derive from an
    attention mask, so that no shape of a step changes, and tells the token it would choose.
    """

    client: str = "onnxruntime"
    folder: str = ""
    suffixes: Mapping[int, str] = field(default_factory=dict, hash=False)
    chunk_bytes: int | None = None
    apart: bool = False
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
        """Path of a graph's files in the artifact, without extension."""
        return f"{self.folder}{graph}{self.suffixes.get(recipe.least_bits, '')}"

    def width(self, vlm: Vlm) -> int:
        """Columns of an embedding."""
        return vlm.text.hidden + self.marks(vlm)

    def marks(self, vlm: Vlm) -> bool:
        """Whether embeddings say where an image is."""
        return self.marked and vlm.text.sees_later_positions


LAYOUTS: Mapping[str, Layout] = {
    "native": Layout(),
    # DEFAULT_DTYPE_SUFFIX_MAPPING of transformers.js; a browser's ArrayBuffer ends at 2 GiB.
    "transformers.js": Layout(
        client="transformers.js",
        folder="onnx/",
        suffixes={32: "", 16: "_fp16", 8: "_int8", 4: "_q4"},
        chunk_bytes=2_000_000_000,
        apart=True,
        marked=True,
        flat=True,
    ),
    "cuda": Layout(last_only=True, device=True),
    "genai": Layout(
        client="onnxruntime-genai", marked=True, merged=True, last_only=True, flat=True
    ),
}


def layout_of(vlm: Vlm, name: str) -> Layout:
    """The layout, as this model's family has it. Raises UserError where its client has none."""
    layout = LAYOUTS[name]
    if layout.client == LAYOUTS["native"].client:
        return layout
    if vlm.vision is None:
        raise UserError(
            f"--layout {name} is for models with images, and this one is for text alone; export it "
            f"with --layout native"
        )
    clients = FAMILIES[vlm.family].clients
    if name not in clients:
        others = " or ".join(f"--layout {other}" for other in ("native", *clients))
        raise UserError(
            f"{layout.client} has no model that computes what {vlm.family} does; export it with "
            f"{others} (native is what this project's onnxruntime runtime opens)"
        )
    return replace(layout, padded_tiles=clients[name].padded_tiles)
