"""Our GGUF files are those of llama.cpp's converter and quantizer, but for listed differences."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from cut_models import CUTS, save_cut
from gguf import GGUFReader, GGUFValueType
from llama_cpp_tools import Converter, converter_source, quantize
from sentencepiece_model import sentencepiece_model

from export.checkpoint.registry import data_root, open_model
from export.families import FAMILIES
from export.model import Model
from export.quantize.recipe import RECIPES
from export.targets import TARGETS

TWINS = ("tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl")
# recipe -> llama.cpp's file type and the ggml type of output.weight, if it has another
QUANTIZED = {"int8": (7, None), "int4": (2, 8)}


@dataclass(frozen=True)
class Difference:
    """Where a file of ours is not llama.cpp's, and why."""

    what: str
    """Pattern of tensors or keys."""
    families: tuple[str, ...]
    recipes: tuple[str, ...]
    why: str


DIFFERENCES = (
    Difference(
        "v.patch_embd.weight*",
        ("qwen2_5_vl",),
        ("fp16",),
        "F32 instead of F16: our recipes keep patches at 32 bits in every family and target, as "
        "llama.cpp's converter does in the other families (3 MB of the 3B's 1.3 GB)",
    ),
    Difference(
        "mm.input_projection.weight",
        ("gemma3",),
        ("int8", "int4"),
        "F16 instead of blocks: clip.cpp transposes it, which ggml does not do with blocks; the "
        "converter forces F16, the quantizer does not know",
    ),
)


@dataclass(frozen=True)
class Field:
    types: tuple[GGUFValueType, ...]
    content: object


@dataclass(frozen=True)
class Tensor:
    type: str
    shape: tuple[int, ...]
    data: bytes


def read(path: Path) -> dict[str, Field | Tensor]:
    """Everything that a file holds, by key and by name."""
    reader = GGUFReader(path)
    found: dict[str, Field | Tensor] = {
        key: Field(tuple(field.types), field.contents())
        for key, field in reader.fields.items()
        if not key.startswith("GGUF.")
    }
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in tensor.shape)
        found[tensor.name] = Tensor(tensor.tensor_type.name, shape, tensor.data.tobytes())
    return found


@dataclass(frozen=True)
class Case:
    model: Model
    folder: Path
    """Has what the converter wrote: <component>-f16.gguf and <component>-bf16.gguf."""

    def theirs(self, component: str, recipe: str) -> Path:
        if recipe == "fp16":
            return self.folder / f"{component}-f16.gguf"
        out = self.folder / f"{component}-{recipe}.gguf"
        if not out.exists():
            kind, output = QUANTIZED[recipe]
            quantize(self.folder / f"{component}-bf16.gguf", out, kind, output)
        return out


@pytest.fixture(scope="module")
def converter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Converter]:
    source = converter_source(request.config.cache)
    with closing(Converter(source, tmp_path_factory.mktemp("converter") / "log")) as running:
        yield running


@pytest.fixture(scope="module", params=[*TWINS, *CUTS])
def case(
    request: pytest.FixtureRequest, converter: Converter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("converted")
    checkpoint = saved(request.param, folder / "tiny")
    model = open_model(str(checkpoint))
    facts = FAMILIES[model.vlm.family].gguf
    assert facts is not None
    components = {"decoder": ()} | ({"vision": ("--mmproj",)} if model.vlm.vision else {})
    for component, flags in components.items():
        for kind in ("f16", "bf16"):
            out = folder / f"{component}-{kind}.gguf"
            converter.convert(checkpoint, out, facts.tokenizer_pre, "--outtype", kind, *flags)
    yield Case(model, folder)
    shutil.rmtree(folder)  # hundreds of megabytes, which pytest would keep


def saved(name: str, folder: Path) -> Path:
    """The checkpoint as it is on the hub: Gemma's has a tokenizer.model. No model card."""
    if name in CUTS:
        save_cut(name, folder)
    else:
        card = shutil.ignore_patterns("README.md")
        shutil.copytree(data_root() / "models" / name, folder, ignore=card)
    tokenizer = (folder / "tokenizer.json").read_bytes()
    if json.loads(tokenizer)["model"]["byte_fallback"]:
        (folder / "tokenizer.model").write_bytes(sentencepiece_model(tokenizer))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        added = json.loads(tokenizer)["added_tokens"]
        config["added_tokens_decoder"] = {str(token["id"]): token for token in added}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("recipe", ["fp16", *QUANTIZED])
def test_files_equal_those_of_llama_cpp(case: Case, recipe: str, tmp_path: Path) -> None:
    written = TARGETS["gguf"].write(
        case.model, RECIPES[recipe].rounded("nearest"), tmp_path, "native"
    )
    same, different = set(), set()
    for component, (name,) in written.components.items():
        ours, theirs = read(tmp_path / name), read(case.theirs(component, recipe))
        for key in ours.keys() | theirs.keys():
            (same if ours.get(key) == theirs.get(key) else different).add(key)
        (tmp_path / name).unlink()
    family = case.model.vlm.family
    known = [d.what for d in DIFFERENCES if family in d.families and recipe in d.recipes]
    listed = {key for key in same | different if any(fnmatchcase(key, what) for what in known)}
    assert different == listed
