"""The closed world: numbers that fit each other, and every tensor explained, both ways.

NOT aware of families, file formats or where tensors are kept.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TypeVar

from export.decode import Mismatch, decode
from export.errors import UserError
from export.families.geometry import Sight, Vlm
from export.families.inputs import Crops, ImageRecipe, Patches, Stretch, Tiles
from export.families.spec import Shape, Source
from export.files import few, short

T = TypeVar("T")
# Lowest and highest values that a file may ask for; far from what any small model has.
SIZES: Mapping[str, tuple[int, int]] = {
    "layers": (1, 1 << 10),
    "hidden": (1, 1 << 20),
    "intermediate": (1, 1 << 20),
    "heads": (1, 1 << 12),
    "kv_heads": (1, 1 << 12),
    "head_dim": (2, 1 << 12),
    "vocab": (2, 1 << 24),
    "context": (1, 1 << 24),
    "image_size": (1, 1 << 14),
    "patch_size": (1, 1 << 12),
    "channels": (1, 1 << 4),
    "scale": (1, 1 << 6),
    "square": (1, 1 << 6),
    "frames": (1, 1 << 4),
}
Rule = tuple[Callable[[Vlm], bool], str]
RULES: tuple[Rule, ...] = (
    (
        lambda m: m.text.hidden % m.text.heads == 0,
        "hidden_size {text.hidden} is not a multiple of num_attention_heads {text.heads}",
    ),
    (
        lambda m: m.text.heads % m.text.kv_heads == 0,
        "num_attention_heads {text.heads} is not a multiple of num_key_value_heads {text.kv_heads}",
    ),
    (
        lambda m: m.text.head_dim % 2 == 0,
        "head_dim {text.head_dim} is odd, but is rotated by pairs",
    ),
    (lambda m: 0 < m.text.norm_eps < 1, "rms_norm_eps {text.norm_eps} is not between 0 and 1"),
    (
        lambda m: 1 <= m.text.rope_theta <= 1e12,
        "rope_theta {text.rope_theta} is not between 1 and 1e12",
    ),
    (
        lambda m: 1 <= m.text.rope_factor <= 1e6,
        "the rope's factor {text.rope_factor} is not between 1 and 1e6",
    ),
    (
        lambda m: m.text.local is None or 1 <= m.text.local.window <= 1 << 24,
        "sliding_window of {text.local} is not between 1 and 16777216",
    ),
    (
        lambda m: m.text.local is None or 1 <= m.text.local.rope_theta <= 1e12,
        "rope_theta of {text.local} is not between 1 and 1e12",
    ),
    (
        lambda m: m.text.local is None or all(0 <= i < m.text.layers for i in m.text.local.layers),
        "{text.local} names layers that the text model does not have",
    ),
    (
        lambda m: m.text.attention_scale is None or 0 < m.text.attention_scale <= 1e3,
        "the scale of attention {text.attention_scale} is not between 0 and 1000",
    ),
    (
        lambda m: 0 < m.text.embedding_scale <= 1e4,
        "the scale of embeddings {text.embedding_scale} is not between 0 and 10000",
    ),
    (
        lambda m: (
            m.text.rope_sections is None
            or (sum(m.text.rope_sections) * 2 == m.text.head_dim and min(m.text.rope_sections) >= 0)
        ),
        "mrope_section {text.rope_sections} does not make up half of head_dim {text.head_dim}",
    ),
    (
        lambda m: 2 <= m.text.rotated <= m.text.head_dim and m.text.rotated % 2 == 0,
        "rope_dims {text.rope_dims} is not an even part of head_dim {text.head_dim}",
    ),
    (
        lambda m: 0 <= m.text.prefix <= m.text.context,
        "a prefix of {text.prefix} positions does not fit a context of {text.context}",
    ),
    (
        lambda m: not (m.text.parallel and m.text.post_norms),
        "a parallel block with norms after its parts",
    ),
    (
        lambda m: (
            m.region is None or all(1 <= value <= 1 << 20 for value in vars(m.region).values())
        ),
        "{region} has a size that is not between 1 and 1048576",
    ),
    (
        lambda m: (m.vision is None) == (m.projector is None) == (m.image_token_id is None),
        "a vision tower, a projector and an image token come together, but only some are there",
    ),
    (
        lambda m: m.vision is not None or not (m.text.sees_ahead or m.region),
        "images see ahead or have places, but there is no vision tower",
    ),
)
SIGHT_RULES: tuple[tuple[Callable[[Sight], bool], str], ...] = (
    (
        lambda m: m.vision.hidden % m.vision.heads == 0,
        "the vision tower's hidden_size {vision.hidden} is not a multiple of its "
        "num_attention_heads {vision.heads}",
    ),
    (
        # Not a multiple: SmolVLM-Instruct has 384 and 14, and leaves the last 6 pixels out.
        lambda m: m.vision.image_size >= m.vision.patch_size,
        "image_size {vision.image_size} is smaller than patch_size {vision.patch_size}",
    ),
    (
        lambda m: m.vision.image_size // m.vision.patch_size % m.projector.scale == 0,
        "a side of image_size {vision.image_size} // patch_size {vision.patch_size} patches is not "
        "a multiple of scale_factor {projector.scale}",
    ),
    (
        lambda m: 0 < m.vision.norm_eps < 1,
        "layer_norm_eps {vision.norm_eps} is not between 0 and 1",
    ),
    (
        lambda m: (m.vision.positions == "rotary") == (m.projector.kind == "merge_mlp"),
        "a tower with {vision.positions} positions before a projector of kind {projector.kind}",
    ),
    (
        lambda m: m.vision.positions == "learned" or m.vision.square == m.projector.scale,
        "spatial_merge_size {projector.scale} is not the side of the squares {vision.square}",
    ),
    (
        lambda m: m.vision.positions == "learned" or m.vision.hidden // m.vision.heads % 4 == 0,
        "the tower's head size is not a multiple of 4, but is turned by rows and columns",
    ),
    (
        lambda m: m.vision.window is None or m.vision.window % m.vision.square == 0,
        "windows of {vision.window} patches are not whole squares of {vision.square}",
    ),
    (
        lambda m: all(0 <= i < m.vision.layers for i in m.vision.full_layers),
        "fullatt_block_indexes {vision.full_layers} names layers that the tower does not have",
    ),
    (
        lambda m: (m.projector.overlap is not None) == (m.projector.kind == "crops"),
        "a projector of kind {projector.kind} with {projector.overlap}",
    ),
    (
        lambda m: m.projector.kind != "crops" or 1 <= m.projector.inner <= 1 << 20,
        "the projector's inner width {projector.inner} is not between 1 and 1048576",
    ),
    (
        lambda m: (
            m.projector.overlap is None
            or (0 <= 2 * m.projector.overlap.margin < m.vision.side and m.projector.scale == 1)
        ),
        "{projector.overlap} does not fit crops of {vision.side} patches a side",
    ),
    (
        lambda m: (m.projector.norm_eps is not None) == (m.projector.kind == "average_pool"),
        "a projector of kind {projector.kind} with norm_eps {projector.norm_eps}",
    ),
)


def numbers(vlm: Vlm, where: str) -> Vlm:
    """The same numbers, once their types, sizes and relations are right. Raises UserError."""
    try:
        checked = decode(Vlm, json.loads(json.dumps(asdict(vlm))))
    except Mismatch as error:
        raise UserError(f"{where}: {error}; take config.json from the checkpoint") from None
    problems = [*_sizes(checked)]
    problems += [] if problems else [*_relations(checked)]
    if problems:
        raise UserError(f"{where}: {'; '.join(problems)}; take config.json from the checkpoint")
    return checked


def recipe(image: ImageRecipe | None, vlm: Vlm, where: str) -> ImageRecipe | None:
    """The same recipe, once its types are right and it can be carried out. Raises UserError."""
    if image is None or vlm.vision is None:
        if (image is None) != (vlm.vision is None):
            raise UserError(f"{where}: has only one of an image recipe and a vision tower")
        return None
    try:
        checked: ImageRecipe = decode(type(image), json.loads(json.dumps(asdict(image))))
    except Mismatch as error:
        raise UserError(f"{where}: {error}; take the checkpoint's own") from None
    _image_recipe(checked, vlm.sight, where)
    return checked


def _image_recipe(image: ImageRecipe, sight: Sight, where: str) -> None:
    tower, projector = sight
    match image:
        case Tiles(tile=tile, longest_edge=edge):
            fits = tile == tower.image_size and tile <= edge <= 1 << 15
            found = f"tiles of {tile} pixels and a longest edge of {edge}"
            expected = f"tiles of {tower.image_size} and an edge from there to {1 << 15}"
        case Stretch(size=size):
            fits = size == tower.image_size
            found, expected = f"images of {size} pixels", str(tower.image_size)
        case Patches(patch=patch, square=square, frames=frames):
            fits = (patch, square, frames) == (tower.patch_size, tower.square, tower.frames)
            fits &= 0 < image.min_pixels <= image.max_pixels <= 1 << 28
            fits &= image.max_pixels >= (patch * square) ** 2
            found = f"patch_size {patch}, merge_size {square}, temporal_patch_size {frames} and "
            found += f"{image.min_pixels} to {image.max_pixels} pixels"
            expected = (
                f"{tower.patch_size}, {tower.square}, {tower.frames} and an area of 1 to 2^28"
            )
        case Crops(tile=tile, margin=margin, max_crops=crops):
            overlap = projector.overlap
            shared = overlap.margin * tower.patch_size if overlap else None
            fits = tile == tower.image_size and margin == shared and 1 <= crops <= 1 << 10
            found = f"up to {crops} crops of {tile} pixels with a margin of {margin}"
            expected = f"crops of {tower.image_size} with a margin of {shared}"
    if not fits:
        raise UserError(f"{where}: {found}, expected {expected}; take the checkpoint's own")
    values = (*image.mean, *image.std, image.rescale)
    if not all(math.isfinite(value) for value in values) or not all(s > 0 for s in image.std):
        raise UserError(
            f"{where}: image_mean {image.mean}, image_std {image.std} and rescale_factor "
            f"{image.rescale} cannot be used; take the checkpoint's own"
        )


def spelled(
    found: Mapping[str, T], spellings: tuple[tuple[str, str], ...], where: str
) -> dict[str, T]:
    """The checkpoint's tensors under the names that `sources` has; spellings apply in their order.

    Raises UserError where two tensors get the same name.
    """
    renamed: dict[str, T] = {}
    for stored, value in found.items():
        name = stored
        for beginning, ours in spellings:
            if name.startswith(beginning):
                name = ours + name.removeprefix(beginning)
        if name in renamed:
            raise UserError(f"{where}: two tensors are {short(name)}, one of them {short(stored)}")
        renamed[name] = value
    return renamed


def stored_shape(source: Source, shape: Shape) -> Shape:
    """The shape that a canonical tensor's source has in the checkpoint."""
    if source.stored is not None:
        return source.stored
    rows, *rest = shape[::-1] if source.transform == "transpose" else shape
    return (rows * source.part[1], *rest)


def source_of(sources: Mapping[str, Source], canonical: str) -> str:
    """The one checkpoint tensor behind a canonical one (no family joins any yet)."""
    (name,) = sources[canonical].names
    return name


def tensors(
    expected: Mapping[str, Shape],
    sources: Mapping[str, Source],
    found: Mapping[str, Shape],
    ignored: tuple[str, ...],
    where: str,
) -> None:
    """Raises one UserError that lists every tensor that is missing, misshaped or unexplained.

    `expected` has canonical names, `found` the checkpoint's; `sources` leads from one to the other.
    """
    wanted = {
        source_of(sources, name): stored_shape(sources[name], shape)
        for name, shape in expected.items()
    }
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
        raise UserError(f"{where}: tensors {listed}; {_remedy(left)}")


def _remedy(left: list[str]) -> str:
    if any("lora_" in name for name in left):
        return "merge the adapter into the model (merge_and_unload) and save that"
    return "take config.json and the weights from the same checkpoint, saved unquantized"


def _sizes(vlm: Vlm) -> Iterator[str]:
    for part in ("vision", "projector", "text"):
        numbers = getattr(vlm, part)
        for name, value in vars(numbers).items() if numbers else ():
            if name not in SIZES:
                continue
            low, high = SIZES[name]
            if not low <= value <= high:
                yield f"{part} {name} is {value}, expected {low} to {high}"


def _relations(vlm: Vlm) -> Iterator[str]:
    broken = [told for holds, told in RULES if not holds(vlm)]
    if vlm.vision and vlm.projector:
        broken += [told for holds, told in SIGHT_RULES if not holds(vlm.sight)]
    yield from (told.format(**vars(vlm)) for told in broken)
    image = () if vlm.image_token_id is None else (vlm.image_token_id,)
    ids = {"image_token_id": image, "bos_token_id": (vlm.bos_token_id,)}
    for name, values in (ids | {"eos_token_id": vlm.stop_token_ids}).items():
        for value in values:
            if not 0 <= value < vlm.text.vocab:
                yield f"{name} {value} is not within the vocabulary of {vlm.text.vocab}"
