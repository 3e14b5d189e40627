"""Makes the files that a client, such as transformers.js, reads in addition to the graphs."""

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
    """Returns all files that the layout's client reads besides the graphs: path -> content.

    They are the checkpoint's tokenizer and configuration files, some of them changed, and the
    client's additional ones. `sizes`: bytes of the graphs' files by path.
    """
    client = FAMILIES[model.vlm.family].clients[layout]
    return {**model.files, **MAKERS[layout](model, client, sizes)}


def limits(model: Model, layout: str) -> tuple[str, ...]:
    """Returns how the other program that a layout is for differs from the model's own code.

    One sentence for each difference; empty if there is none, or if the layout is for PocketVLM's
    own runtimes.
    """
    client = FAMILIES[model.vlm.family].clients.get(layout)
    if client is None:
        return ()
    found = list(client.limits)
    tokens = model.vlm.require_vision().tokens_per_tile
    if client.image_tokens not in (None, tokens):
        found.append(
            f"{layout}'s processor makes {client.image_tokens} tokens of every image and this "
            f"model takes {tokens}: prepare prompt and pixels without it"
        )
    if model.image is not None and model.image != model.image.within(None):
        found.append(f"{layout} ignores --max-tiles: it cuts images as the checkpoint says")
    return tuple(found)
