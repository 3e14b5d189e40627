"""Checkpoint folders with random bf16 weights of any config.json, as a hub repository has them.

Written rows at a time, so real sizes need no memory. By hand, for measuring exports from a disk:
`python tests/shared/random_checkpoint.py qwen2.5-vl-3b FOLDER`.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from export.checkpoint import check
from export.checkpoint.registry import data_root, list_models
from export.checkpoint.synthetic import Synthetic
from export.checkpoint.tokenizer import synthetic_tokenizer
from export.families import family_of
from export.families.section import Section
from export.families.spec import Family, Source
from export.modeling.tensors import Shape
from export.modeling.vlm import Vlm
from export.weights import Weights

BF16_ONE = 0x3F80
ROW_VALUES = 1 << 22
SHARD_BYTES = 4 << 30

Json = Mapping[str, Any]


def save(folder: Path, config: Json, preprocessor: Json, shard_bytes: int = SHARD_BYTES) -> Path:
    """A sound checkpoint of `config` in the new `folder`, in files of about `shard_bytes`."""
    family = family_of(config, "config.json")
    vlm = check.numbers(family.read(Section(config, "config.json")), "config.json")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if family.preprocessor_file and vlm.vision is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    for name, data in tokenizer_files(family, vlm, config).items():
        (folder / name).write_bytes(data)
    _save_weights(folder, family, vlm, shard_bytes)
    return folder


def tokenizer_files(family: Family, vlm: Vlm, config: Json) -> dict[str, bytes]:
    """A tokenizer whose special tokens have the ids that `config` says."""
    token = family.prompt(vlm, Section(config, "config.json")).image_token
    return synthetic_tokenizer(vlm, family.tokens(vlm), token, family.vocabulary)


def _save_weights(folder: Path, family: Family, vlm: Vlm, shard_bytes: int) -> None:
    weights, sources = Synthetic(vlm), family.sources(vlm)
    parts: dict[str, list[str]] = {}  # a checkpoint's tensor may be several of ours, row by row
    for canonical, source in sources.items():
        parts.setdefault(source.name, []).append(canonical)
    for names in parts.values():
        names.sort(key=lambda name: sources[name].part)
    shapes = {
        name: check.stored_shape(sources[some[0]], weights.shapes()[some[0]])
        for name, some in parts.items()
    }
    scales = {s.row_scale: weights.shapes()[n][:1] for n, s in sources.items() if s.row_scale}
    shapes |= scales
    shards = list(_shards(shapes, shard_bytes))
    places: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        several = f"model-{number:05}-of-{len(shards):05}.safetensors"
        path = folder / (several if len(shards) > 1 else "model.safetensors")
        with path.open("wb") as file:
            _write_header(file, {name: shapes[name] for name in names})
            for name in names:
                if name in scales:
                    file.write(np.full(shapes[name], BF16_ONE, "<u2").data)
                for canonical in parts.get(name, ()):
                    _write_values(file, weights, canonical, sources[canonical])
        places |= dict.fromkeys(names, path.name)
    if len(shards) > 1:
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": places}))


def _shards(shapes: Mapping[str, Shape], most: int) -> Iterator[list[str]]:
    names, size = [], 0
    for name, shape in shapes.items():
        if names and size + 2 * prod(shape) > most:
            yield names
            names, size = [], 0
        names.append(name)
        size += 2 * prod(shape)
    yield names


def _write_header(file: BinaryIO, shapes: Mapping[str, Shape]) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    data = json.dumps(header).encode()
    file.write(len(data).to_bytes(8, "little") + data)


def _write_values(file: BinaryIO, weights: Weights, canonical: str, source: Source) -> None:
    shape = weights.shapes()[canonical]
    transposed = source.transform == "transpose"
    step = shape[0] if transposed else max(1, ROW_VALUES // prod(shape[1:]))
    for start in range(0, shape[0], step):
        values = weights.read(canonical, start, min(start + step, shape[0]))
        if source.transform == "add_one":
            values -= 1
        values = np.ascontiguousarray(values.T if transposed else values)
        file.write((values.view(np.uint32) >> 16).astype("<u2").data)


def main(name: str, folder: str) -> None:
    entry = list_models()[name]
    assert entry.config is not None, f"{name} has no config.json in models/configs"
    files = data_root() / entry.config
    preprocessor = files / "preprocessor_config.json"
    save(
        Path(folder),
        json.loads((files / "config.json").read_text()),
        json.loads(preprocessor.read_text()) if preprocessor.exists() else {},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
