"""Writes a model as GGUF: a file for the decoder and tokenizer, and one for the vision tower.

The tower is llama.cpp's mmproj file, or ONNX graphs with the layout "onnx-vision".
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from gguf import GGML_QUANT_VERSION, Keys, LlamaFileType, size_label

from export.families.spec import Gguf
from export.files import file_name
from export.gguf import limits, metadata
from export.gguf.arrange import Piece, pieces
from export.gguf.file import PlannedFile, metadata_bytes, write_file
from export.gguf.metadata import Metadata, Value
from export.gguf.mixes import MIXES
from export.gguf.packing import Planned, plan, plan_mixed
from export.gguf.tokenizer import tokenizer_metadata
from export.manifest import Details, Fallback, GgufDetails, Quantization, Share
from export.model import Model
from export.modeling.vlm import COMPONENTS, Vlm, component
from export.quantize.recipe import RECIPES, Recipe
from export.quantize.rounding import Rounding
from export.target import Written

FILE_TYPES: Mapping[str, LlamaFileType] = {  # type of most parameters -> general.file_type
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
    "Q5_0": LlamaFileType.MOSTLY_Q5_0,
    "Q5_1": LlamaFileType.MOSTLY_Q5_1,
    **{mix.base.name: mix.file_type for mix in MIXES.values()},
}
LABELS: Mapping[str, str] = {
    mix.base.name: mix.file_type.name.removeprefix("MOSTLY_") for mix in MIXES.values()
}
"""Base type of a mixture -> the mixture's name in file names."""
ONNX_VISION = "onnx-vision"
"""The layout with ONNX graphs for vision tower and region heads; llama.cpp runs the decoder."""
FOR_OURS = (
    "the image encoder of this artifact is an ONNX graph that only PocketVLM runs, on the CPU"
)
NATIVE = "export with --layout native for llama.cpp's own mmproj file"
LEFT_OUT = "llama.cpp has no region heads; --layout onnx-vision keeps them"


def write(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    """Writes `<model>-<type>.gguf` and the vision tower into `folder` (Target.write).

    The tower becomes `mmproj-<model>-<type>.gguf`, or ONNX graphs with the layout "onnx-vision". A
    file's name has the type of most of its parameters, as llama.cpp's users expect. Returns the
    names of the files and how the weights were quantized. Raises UserError if llama.cpp could not
    run the model.
    """
    facts = metadata.facts_of(model.vlm)
    tensors, fallbacks = _planned(model.vlm, facts, recipe, layout)
    tokenizer = tokenizer_metadata(model.files, model.vlm, facts)
    files = _files(model, facts, tensors, layout, tokenizer)
    for planned in files.values():
        write_file(folder / planned.name, planned, model.weights, Rounding(model.hessians))
    written = Written(
        {component: (planned.name,) for component, planned in files.items()},
        Quantization.of(_shares(tensors), _types(tensors), fallbacks),
        Details(gguf=GgufDetails(facts.arch, facts.projector_type if "vision" in files else None)),
    )
    if layout != ONNX_VISION:
        return written
    # Imported only here, because it needs onnx_ir.
    from export.onnx.write import graphs_beside_decoder, write_graphs

    graphs = graphs_beside_decoder(model.vlm)
    both = written.beside(write_graphs(model, _of_graphs(recipe), folder, graphs))
    limit = FOR_OURS if facts.projector_type is None else f"{FOR_OURS}; {NATIVE}"
    return replace(both, details=replace(both.details, limits=(limit,)))


def sizes(model: Model, recipe: Recipe, layout: str) -> Mapping[str, int]:
    """Returns the exact bytes of each file that `write` would write, by path (Target.sizes)."""
    facts = metadata.facts_of(model.vlm)
    tensors, _ = _planned(model.vlm, facts, recipe, layout)
    files = _files(model, facts, tensors, layout, {})
    tokenizer = {"decoder": _tokenizer_bytes(tuple(model.files.items()), model.vlm)}
    found = {
        planned.name: planned.nbytes(tokenizer.get(part, 0)) for part, planned in files.items()
    }
    if layout == ONNX_VISION:
        from export.onnx.write import graphs_beside_decoder, sizes_of

        found |= sizes_of(model, _of_graphs(recipe), graphs_beside_decoder(model.vlm))
    return found


@lru_cache(maxsize=1)
def _tokenizer_bytes(files: tuple[tuple[str, bytes], ...], vlm: Vlm) -> int:
    """Returns the bytes of the tokenizer's metadata; cached, as all recipes of a model share it."""
    return metadata_bytes(tokenizer_metadata(dict(files), vlm, metadata.facts_of(vlm)))


def _files(
    model: Model, facts: Gguf, tensors: Sequence[Planned], layout: str, tokenizer: Metadata
) -> Mapping[str, PlannedFile]:
    """Returns the GGUF file of each component ("decoder", "vision"), in the order of writing.

    Raises UserError if llama.cpp would compute a component differently.
    """
    vision = tuple(tensor for tensor in tensors if _component(tensor) == "vision")
    text = tuple(tensor for tensor in tensors if _component(tensor) != "vision")
    name = file_name(model.name)
    limits.expect_decoder(model.vlm.text, facts)
    decoder_keys = {
        **general("model", model.name, text),
        **metadata.decoder(model.vlm, facts),
        **tokenizer,
    }
    files = {"decoder": PlannedFile(f"{name}-{label(text)}.gguf", facts.arch, decoder_keys, text)}
    if layout == ONNX_VISION or model.image is None:
        return files
    limits.expect_mmproj(model.vlm, model.image)
    vision_keys = {
        **general("mmproj", model.name, vision),
        **metadata.vision(model.vlm, model.image, facts),
    }
    mmproj = f"mmproj-{name}-{label(vision)}.gguf"
    return files | {"vision": PlannedFile(mmproj, "clip", vision_keys, vision)}


def label(tensors: Sequence[Planned]) -> str:
    """Returns the type for a file's name: that of most parameters, such as Q8_0.

    For the base type of one of llama.cpp's mixtures it is the mixture's name: Q4_K_M for Q4_K.
    """
    kind = main_type(tensors)
    return LABELS.get(kind, kind)


def main_type(tensors: Sequence[Planned]) -> str:
    """Returns the name of the ggml type that has the most parameters in these tensors."""
    types = _types(tensors)
    return max(types, key=lambda name: types[name])


def general(kind: str, name: str, tensors: Sequence[Planned]) -> dict[str, Value]:
    """Returns the general.* metadata that every GGUF file has, such as its name and file type.

    `kind`: "model" or "mmproj". `name`: of the model. `tensors`: all of the file's.
    """
    total = sum(tensor.piece.parameters for tensor in tensors)
    return {
        Keys.General.TYPE: kind,
        Keys.General.NAME: name,
        Keys.General.SIZE_LABEL: size_label(total, total, 0, 0),
        Keys.General.FILE_TYPE: int(FILE_TYPES[main_type(tensors)]),
        Keys.General.QUANTIZATION_VERSION: GGML_QUANT_VERSION,
    }


def _planned(
    vlm: Vlm, facts: Gguf, recipe: Recipe, layout: str
) -> tuple[tuple[Planned, ...], tuple[Fallback, ...]]:
    """Chooses the types of all tensors of the GGUF files, and returns the tensors in file order.

    Also returns a Fallback for each tensor that is not stored as the recipe says, or not at all.
    """
    elsewhere = {"region"} | ({"vision"} if layout == ONNX_VISION else set())
    plans, left_out = [], []
    for name, made in pieces(vlm, facts).items():
        if component(name) not in elsewhere:
            plans += [_plan(piece, recipe, facts, vlm) for piece in made]
        elif layout != ONNX_VISION:
            left_out.append(Fallback(name, "any type", "nothing", LEFT_OUT))
    fallbacks = [fallback for _, fallback in plans if fallback]
    return tuple(tensor for tensor, _ in plans), (*fallbacks, *left_out)


def _plan(piece: Piece, recipe: Recipe, facts: Gguf, vlm: Vlm) -> tuple[Planned, Fallback | None]:
    if mix := MIXES.get(recipe.name):
        return plan_mixed(piece, recipe, mix, facts.floats, vlm.text)
    return plan(piece, recipe, facts.floats)


def _of_graphs(recipe: Recipe) -> Recipe:
    """Returns the recipe for ONNX graphs: `recipe`, or for a llama.cpp mixture its substitute."""
    mix = MIXES.get(recipe.name)
    return RECIPES[mix.graphs] if mix else recipe


def _component(tensor: Planned) -> str:
    return component(tensor.piece.source)


def _types(tensors: Sequence[Planned]) -> dict[str, int]:
    """Counts the parameters that are stored in each ggml type, by the type's name."""
    types: dict[str, int] = {}
    for tensor in tensors:
        types[tensor.type.name] = types.get(tensor.type.name, 0) + tensor.piece.parameters
    return types


def _shares(tensors: tuple[Planned, ...]) -> Mapping[str, Share]:
    shares = {}
    for part in COMPONENTS:
        own = [tensor for tensor in tensors if _component(tensor) == part]
        if not own:
            continue
        shares[part] = Share(
            parameters=sum(tensor.piece.parameters for tensor in own),
            quantized_parameters=sum(t.piece.parameters for t in own if t.quantized),
            weight_bytes=sum(tensor.weight_bytes for tensor in own),
        )
    return shares
