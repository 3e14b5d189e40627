"""Checks a checkpoint: hyperparameters fit each other, no tensor is missing and none is left over.

NOT aware of families, file formats or where tensors are kept.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TypeVar

from export.decode import Mismatch, decode
from export.errors import UserError
from export.families.spec import Source
from export.files import few, short
from export.images import ImageRecipe
from export.images.pixels import Normalization
from export.modeling.tensors import Shape
from export.modeling.vision import TileVision
from export.modeling.vlm import Vlm
from export.prompts import Prompt, PromptRecipe, Templates

T = TypeVar("T")


def numbers(vlm: Vlm, where: str) -> Vlm:
    """Returns `vlm` if types, ranges and relations of its hyperparameters are right.

    Raises a UserError that begins with `where` otherwise.
    """
    try:
        checked = decode(Vlm, json.loads(json.dumps(asdict(vlm))))
    except Mismatch as error:
        raise UserError(f"{where}: {error}; take config.json from the checkpoint") from None
    if problems := [*checked.problems()]:
        raise UserError(f"{where}: {'; '.join(problems)}; take config.json from the checkpoint")
    return checked


def recipe(image: ImageRecipe | None, vlm: Vlm, where: str) -> ImageRecipe | None:
    """Returns `image` if its settings have the right types and fit the model; None for text alone.

    Raises a UserError that begins with `where` otherwise.
    """
    if image is None or vlm.vision is None:
        if (image is None) != (vlm.vision is None):
            raise UserError(f"{where}: has only one of an image recipe and a vision tower")
        return None
    try:
        checked: ImageRecipe = decode(type(image), json.loads(json.dumps(asdict(image))))
    except Mismatch as error:
        raise UserError(f"{where}: {error}; take the checkpoint's own") from None
    normalization = Normalization(checked.mean, checked.std, checked.rescale)
    problems = [*checked.problems(vlm.vision), *normalization.problems()]
    if problems:
        raise UserError(f"{where}: {'; '.join(problems)}; take the checkpoint's own")
    return checked


def prompt(recipe: PromptRecipe, vlm: Vlm, where: str) -> None:
    """Raises a UserError that begins with `where` if a prompt has other image tokens than features.

    Prompts of templates have no such number, but ids, which must be in the vocabulary.
    """
    if isinstance(recipe, Templates) and (problems := [*recipe.problems(vlm.text.vocab)]):
        raise UserError(f"{where}: {'; '.join(problems)}; export it again")
    tiles = isinstance(vlm.vision, TileVision)
    made = vlm.require_vision().tokens_per_tile if tiles else None
    if isinstance(recipe, Prompt) and recipe.tokens_per_tile != made:
        raise UserError(
            f"{where}: prompt.tokens_per_tile is {recipe.tokens_per_tile}, but the vision tower's "
            f"features are {made or 'as many as an image needs'}; export it again"
        )


def renamed(
    found: Mapping[str, T], prefixes: tuple[tuple[str, str], ...], where: str
) -> dict[str, T]:
    """Renames the keys of `found`, a checkpoint's tensor names, by pairs (old prefix, new prefix).

    Each pair is tried in turn on the result of the one before. Raises UserError if two tensors get
    the same name.
    """
    tensors: dict[str, T] = {}
    for stored, value in found.items():
        name = stored
        for prefix, ours in prefixes:
            if name.startswith(prefix):
                name = ours + name.removeprefix(prefix)
        if name in tensors:
            raise UserError(f"{where}: two tensors are {short(name)}, one of them {short(stored)}")
        tensors[name] = value
    return tensors


def stored_shape(source: Source, shape: Shape) -> Shape:
    """Returns the shape that the tensor `source` must have in the checkpoint.

    `shape` is that of the model's tensor, which is read from it.
    """
    if source.stored is not None:
        return source.stored
    rows, *rest = shape[::-1] if source.transform == "transpose" else shape
    return (rows * source.part[1], *rest)


def tensors(
    expected: Mapping[str, Shape],
    sources: Mapping[str, Source],
    found: Mapping[str, Shape],
    ignored: tuple[str, ...],
    where: str,
) -> None:
    """Raises a UserError if a tensor of a checkpoint is missing, misshaped or unknown.

    `expected` maps GGUF's names to shapes, `found` the checkpoint's names. `sources` says which
    of these names is read from which checkpoint tensor. Unknown tensors whose names match a pattern
    of `ignored` are allowed.
    """
    wanted = {
        sources[name].name: stored_shape(sources[name], shape) for name, shape in expected.items()
    }
    for name, shape in expected.items():
        if (scale := sources[name].row_scale) is not None:
            wanted[scale] = shape[:1]
    missing = [name for name in wanted if name not in found]
    wrong = [
        f"{short(name)} is {list(found[name])}, expected {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    left = [n for n in found if n not in wanted and not any(fnmatchcase(n, p) for p in ignored)]
    kinds = {"missing": missing, "of the wrong shape": wrong, "not of this architecture": left}
    if any(kinds.values()):
        listed = "; ".join(f"{kind}: {few(names)}" for kind, names in kinds.items() if names)
        raise UserError(f"{where}: tensors {listed}; {_remedy(left, missing)}")


def _remedy(left: list[str], missing: list[str]) -> str:
    if missing and (wrapper := _wrapper(left, missing)):
        return f"all names begin with {short(wrapper)!r}, so save the model without its wrapper"
    if any("lora_" in name for name in left):
        return "merge the adapter into the model (merge_and_unload) and save that"
    return "take config.json and the weights from the same checkpoint, saved unquantized"


def _wrapper(left: list[str], missing: list[str]) -> str | None:
    """Returns what stands before every missing name among those that are left; None: nothing does.

    torch.compile, DistributedDataParallel and PEFT put such prefixes before a model's names.
    """
    ends = [name for name in left if name.endswith(f".{missing[0]}")]
    prefixes = (name.removesuffix(missing[0]) for name in ends)
    return next((p for p in prefixes if {f"{p}{name}" for name in missing} <= set(left)), None)
