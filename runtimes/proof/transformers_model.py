"""Runs transformers' own model of a checkpoint on prompts that we prepared."""

import gc
import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, assert_never

import numpy as np
import torch

from export.arrays import FloatArray, IntArray
from export.images import AspectTiles, ImageRecipe, Patches, Stretch, Tiles
from export.images.crops import Crops
from export.model import Model
from export.modeling.depth import Depth
from runtimes.prepare.request import Pixels

Inputs: TypeAlias = dict[str, torch.Tensor]
LAYERS = ("num_hidden_layers", "depth")
"""What configurations call the number of layers of a text model or a vision tower."""


class Unusable(Exception):
    """Raised if transformers has no model of a checkpoint; the message says why."""


class TransformersModel:
    """transformers' model of a checkpoint in float32, with the given number of layers."""

    def __init__(self, folder: Path, depth: Depth) -> None:
        """Raises Unusable if transformers has no class for the checkpoint, or cannot open it."""
        with _quiet():
            self._model = _opened(folder, depth)
        self.name = type(self._model).__name__

    @torch.inference_mode()
    def logits(
        self, model: Model, ids: IntArray, images: tuple[Pixels, ...], keep: int
    ) -> FloatArray:
        """Returns the logits [keep, vocab] of the last `keep` of the positions of `ids` [n].

        `model` prepared the ids and images.
        """
        assert self._model is not None, "closed"
        with _quiet():
            output = self._model(**inputs_of(model, ids, images), logits_to_keep=keep)
        found: FloatArray = output.logits[0].numpy()
        return found

    def close(self) -> None:
        """Frees the weights."""
        self._model = None
        gc.collect()  # modules refer to each other in circles


def inputs_of(model: Model, ids: IntArray, images: tuple[Pixels, ...]) -> Inputs:
    """Returns the arguments of a transformers model for one prompt: a batch of one.

    `model` prepared the ids [n] and images.
    """
    batch = torch.from_numpy(np.asarray(ids, np.int64)[None])
    marks = torch.zeros_like(batch, dtype=torch.bool)
    if model.vlm.image_token_id is not None:
        marks = batch == model.vlm.image_token_id
    return {"input_ids": batch, **_image_inputs(model.image, images, marks)}


def _image_inputs(
    recipe: ImageRecipe | None, images: tuple[Pixels, ...], marks: torch.Tensor
) -> Inputs:
    """Returns the arguments about images; `marks` [1, n] is true at an image's positions."""
    if isinstance(recipe, Stretch):
        pixels = {"pixel_values": _pixels(images)} if images else {}
        return {"token_type_ids": marks.long(), **pixels}
    if recipe is None or not images:
        return {}
    values = _pixels(images)
    match recipe:
        case Tiles():
            seen = torch.ones(1, values.shape[0], *values.shape[-2:], dtype=torch.bool)
            return {"pixel_values": values[None], "pixel_attention_mask": seen}
        case Patches(merge_size=merge):
            grids = [image.token_grid for image in images if image.token_grid]
            sizes = [[1, merge * rows, merge * columns] for rows, columns in grids]
            return {
                "pixel_values": values,
                "image_grid_thw": torch.tensor(sizes),
                "mm_token_type_ids": marks.int(),
            }
        case AspectTiles():
            return {"pixel_values": values}
        case Crops():
            raise Unusable("transformers has no model that joins overlapping crops")
        case _:
            assert_never(recipe)


def _pixels(images: tuple[Pixels, ...]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([image.values for image in images]))


def _opened(folder: Path, depth: Depth) -> Any:
    try:
        transformers: Any = importlib.import_module("transformers")
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        auto = _class_for(transformers, config, depth)
        shorten(config, depth)
        model, found = auto.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
        )
    # A class that is missing or cannot be imported, a config it does not know, tensors of other
    # names or shapes: what it raises is of no one type.
    except (ImportError, OSError, ValueError, RuntimeError, LookupError, TypeError) as error:
        raise Unusable(f"transformers cannot open the checkpoint ({_line(error)})") from error
    if found["missing_keys"]:
        first = min(found["missing_keys"])
        raise Unusable(f"transformers finds no tensor for {first} in the checkpoint")
    return model.eval()


def _class_for(transformers: Any, config: Any, depth: Depth) -> Any:
    """Returns transformers' automatic class that opens a model with this configuration."""
    if depth.vision:
        known = transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        auto = transformers.AutoModelForImageTextToText
    else:
        known = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
        auto = transformers.AutoModelForCausalLM
    if type(config) not in known:
        raise Unusable(f"transformers has no {auto.__name__} of type {config.model_type}")
    return auto


def shorten(config: Any, depth: Depth) -> None:
    """Sets the number of layers of a transformers configuration; the first ones are kept."""
    _shorten_part(config.get_text_config(), depth.text)
    if depth.vision:
        _shorten_part(config.vision_config, depth.vision)


def _shorten_part(part: Any, layers: int) -> None:
    for name in LAYERS:
        if hasattr(part, name):
            setattr(part, name, layers)
    if getattr(part, "layer_types", None):
        part.layer_types = part.layer_types[:layers]


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager: transformers gives no warnings and shows no progress bars meanwhile."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.split('. ')[0]}"[:200]
