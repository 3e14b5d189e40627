"""Tiny Moondream models with weights that any program can make again, and what they are asked.

The author's code fixes 27 x 27 patches of 14 pixels, heads of 64 values and the vocabulary of the
templates; all else is small. The golden outputs in tests/golden were made from these.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from export.checkpoint.tokenizer import synthetic_tokenizer
from export.families.moondream import MOONDREAM
from export.families.section import Section
from export.model import Model
from export.modeling.vlm import Vlm, shapes
from runtimes.base import Request

TEXT = {"dim": 128, "ff_dim": 96, "n_layers": 3, "n_heads": 2, "n_kv_heads": 2}
VISION = {
    "enc_dim": 48,
    "enc_n_layers": 3,
    "enc_ff_dim": 40,
    "enc_n_heads": 3,
    "proj_out_dim": 128,
    "proj_inner_dim": 96,
}
REGION = {"dim": 128, "coord_feat_dim": 32, "size_feat_dim": 48, "inner_dim": 64}
TOKENIZERS: Mapping[str, Mapping[str, Any]] = {"legacy": {}, "starmie": {"bos_id": 0, "eos_id": 0}}
ANSWER = 3
"""Starmie's token that begins an answer; made likely, so that what is never chosen is seen."""


def config(tokenizer: str) -> dict[str, Any]:
    """A config.json. `tokenizer` is a key of TOKENIZERS."""
    parts = {"text": TEXT, "vision": VISION, "region": REGION}
    if TOKENIZERS[tokenizer]:
        parts["tokenizer"] = dict(TOKENIZERS[tokenizer])
    return {"model_type": "moondream1", "config": parts}


class Seeded:
    """Weights that follow from names and shapes alone: uniform values, of deviation
    1 / sqrt(fan in) in matrices."""

    synthetic = False
    origin: Mapping[str, Any] = {}

    def __init__(self, vlm: Vlm) -> None:
        self._shapes = shapes(vlm)
        self._likely = ANSWER if vlm.bos_token_id == 0 else None

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        shape = self._shapes[name]
        bits = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(-(-prod(shape) // 4))
        values = bits.astype("<u8").view("<i2")[: prod(shape)].astype(np.float32).reshape(shape)
        values *= np.float32(sqrt(3) / 32768)
        if len(shape) == 1:
            values = values * np.float32(0.3) + np.float32(not name.endswith(".bias"))
        elif name != "token_embd.weight":
            values *= np.float32(1 / sqrt(prod(shape[1:])))
        if name.startswith("region.") and len(shape) > 1:
            values *= 5  # so that places differ
        if name == "output.bias" and self._likely is not None:
            values[self._likely] = 30
        return values[start:stop]


def tiny_moondream(tokenizer: str) -> Model:
    """A model of the tokenizer generation that is named."""
    content = config(tokenizer)
    section = Section(content, "config.json")
    vlm = MOONDREAM.read(section)
    files = tokenizer_files(vlm)
    prompt = MOONDREAM.prompt(vlm, section)
    return Model(
        "tiny",
        vlm,
        MOONDREAM.image(vlm, Section({}, "none")),
        prompt,
        Seeded(vlm),
        files,
        folder=None,
    )


def stored(model: Model) -> dict[str, np.ndarray]:
    """The tensors by the names and in the shapes of a checkpoint."""
    parts: dict[str, list[np.ndarray]] = {}
    for name, source in MOONDREAM.sources(model.vlm).items():
        values = model.weights.read(name)
        values = values.T if source.transform == "transpose" else values
        parts.setdefault(source.name, []).append(values.reshape(source.stored or values.shape))
    return {name: np.ascontiguousarray(np.concatenate(some)) for name, some in parts.items()}


def save(folder: Path, prefix: str = "model.") -> Path:
    """A checkpoint folder as the author's wrapper saves it, tensors named with this prefix."""
    model = tiny_moondream("legacy")
    tensors = {prefix + name.removeprefix("model."): x for name, x in stored(model).items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config("legacy")))
    for name, content in model.files.items():
        (folder / name).write_bytes(content)
    return folder


def tokenizer_files(vlm: Vlm) -> dict[str, bytes]:
    """A tokenizer whose begin of a text has the generation's id."""
    vocabulary, special = MOONDREAM.vocabulary, MOONDREAM.special_tokens
    if vlm.bos_token_id == 0:
        vocabulary = replace(vocabulary, first=special, text_vocab=0)
        vlm, special = replace(vlm, bos_token_id=vlm.text.vocab - 2), ("<|last|>",)
    return synthetic_tokenizer(vlm, special, None, vocabulary)


def noise(width: int, height: int) -> Image.Image:
    """Coarse and fine random values, so that crops and whole images differ everywhere."""
    random = np.random.default_rng(width * 7919 + height)
    coarse = random.integers(0, 200, (5, 7, 3)).astype(np.uint8)
    fine = random.integers(0, 56, (height, width, 3)).astype(np.uint8)
    large = Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)
    return Image.fromarray(np.asarray(large) + fine)


# Rows and columns of crops -> an image that is cut so, and the most crops (12 never give 2 x 3).
CUTS: Mapping[tuple[int, int], tuple[tuple[int, int], int]] = {
    (1, 1): ((320, 240), 12),
    (2, 3): ((900, 640), 7),
    (3, 4): ((900, 700), 12),
}

QUESTION = "What is the image, in 3 words?"
EYE = (0.25, 0.625)
REQUESTS: Mapping[str, Request] = {
    "query": Request(QUESTION, max_tokens=5),
    "caption": Request(task="caption", max_tokens=4),
    "caption-short": Request(task="caption-short", max_tokens=2),
    "detect": Request("red car", task="detect"),
    "point": Request("red car", task="point"),
    "gaze": Request(task="gaze", region=EYE),
}
MOST = 3
"""Places that the golden answers have at most."""

# Sizes from one pixel to more crops than there may be, and images that are not RGB.
SIZES = (
    (1, 1), (1, 300), (300, 1), (17, 401), (377, 377), (378, 378), (379, 379), (378, 900),
    (640, 480), (480, 640), (645, 645), (644, 644), (700, 500), (910, 911), (1000, 1000),
    (1280, 720), (1242, 900), (1176, 910), (1500, 400), (400, 1500), (1443, 645), (2000, 1500),
    (2730, 410), (1700, 1700), (3000, 700), (640, 3200),
)  # fmt: skip
MODES = ("L", "RGBA", "CMYK", "P", "1", "LA")


def image_of(mode: str) -> Image.Image:
    """An image in another mode than RGB; transparent in places where the mode can say so."""
    picture = noise(500, 420)
    if mode in ("RGBA", "LA"):
        picture = picture.copy()
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture.convert(mode)
