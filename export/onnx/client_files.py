"""The files beside the graphs as a layout's client reads them, made from the checkpoint's.

NOT aware of weights or nodes.
"""

from collections.abc import Callable, Mapping

from export.families import FAMILIES
from export.families.spec import Client
from export.model import Model
from export.onnx import genai, transformers_js

Files = Mapping[str, bytes]
MAKERS: Mapping[str, Callable[[Model, Client, Mapping[str, int]], Files]] = {
    "transformers.js": transformers_js.files,
    "genai": genai.files,
}


def client_files(model: Model, layout: str, sizes: Mapping[str, int]) -> Files:
    """The model's files, some of them changed, and those that only the client has.

    `sizes` are the bytes of the graphs' files by path.
    """
    client = FAMILIES[model.vlm.family].clients[layout]
    return {**model.files, **MAKERS[layout](model, client, sizes)}


def limits(model: Model, layout: str) -> tuple[str, ...]:
    """What the client does otherwise than the model's own code, a line each."""
    client = FAMILIES[model.vlm.family].clients.get(layout)
    if client is None:
        return ()
    found = list(client.limits)
    tokens = model.vlm.require_vision().tokens_per_tile
    if client.image_tokens not in (None, tokens):
        found.append(
            f"{layout}'s processor writes {client.image_tokens} tokens for every image and this "
            f"model takes {tokens}: prepare prompt and pixels outside of it"
        )
    if model.image is not None and model.image != model.image.within(None):
        found.append(f"{layout} is not told of --max-tiles: it cuts as the checkpoint says")
    return tuple(found)
