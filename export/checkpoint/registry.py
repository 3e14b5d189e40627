"""Opens models: by their name in models.yaml, or a checkpoint's folder.

NOT aware of targets, recipes or runtimes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from export.checkpoint import check
from export.checkpoint.folder import Checkpoint
from export.checkpoint.hub import fetch
from export.checkpoint.synthetic import Synthetic
from export.checkpoint.tokens import Tokens
from export.decode import Mismatch, decode
from export.errors import UserError, unknown
from export.families import family_of
from export.families.section import Json, Section
from export.families.spec import Family
from export.files import inside, read_file, read_json, short
from export.images import ImageRecipe
from export.model import Model
from export.modeling.vlm import Vlm
from export.weights import Weights

WeightsKind = Literal["hub", "synthetic"]

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
GENERATION = "generation_config.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
FILES = (
    CONFIG,
    GENERATION,
    PREPROCESSOR,
    PROCESSOR,
    "video_preprocessor_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""What a client may need beside the weights; those that a checkpoint has go into the artifact."""


@dataclass(frozen=True)
class Entry:
    """One model of models.yaml. Paths are relative to it."""

    path: str | None = None
    hub: str | None = None
    revision: str = "main"
    config: str | None = None


@dataclass(frozen=True)
class _Place:
    """Where a model's files are, and what its weights are made from."""

    name: str
    folder: Path
    synthetic: bool
    origin: Mapping[str, Any] | None = None


def data_root() -> Path:
    """The folder that has models.yaml: in an installed wheel export/_data, else the checkout."""
    package = Path(__file__).parents[1]
    return package / "_data" if (package / "_data").is_dir() else package.parent


def list_models(root: Path | None = None) -> dict[str, Entry]:
    """The models of models.yaml by name, in its order. Raises UserError for a broken file."""
    import yaml

    path = (root or data_root()) / "models.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {name: decode(Entry, fields, name) for name, fields in content.items()}
    except (OSError, yaml.YAMLError, Mismatch, AttributeError) as error:
        raise UserError(f"{path}: cannot be used ({' '.join(str(error).split())})") from None


def open_model(
    name_or_dir: str,
    *,
    weights: WeightsKind | None = None,
    revision: str | None = None,
    offline: bool = False,
    seed: int = 0,
) -> Model:
    """A model of models.yaml, a checkpoint folder or (only with weights="hub") a hub id.

    weights="synthetic" takes random values made from `seed` and needs no network; a model that is
    on the hub is fetched otherwise, from the cache alone with `offline`. Raises UserError.
    """
    place = _locate(name_or_dir, weights, revision, offline)
    if revision is not None and not (place.origin and "hub" in place.origin):
        raise UserError(
            f"{name_or_dir} is not taken from the hub, so --revision means nothing; leave it out"
        )
    return _open(place, seed)


def _locate(name: str, weights: WeightsKind | None, revision: str | None, offline: bool) -> _Place:
    models, root, synthetic = list_models(), data_root(), weights == "synthetic"
    if entry := models.get(name):
        if (local := (entry.config if synthetic else None) or entry.path) is not None:
            return _Place(name, _expect_folder(root / local, name), synthetic)
        if entry.hub is not None and not synthetic:
            return _fetched(name, entry.hub, revision or entry.revision, offline)
        if synthetic:
            raise UserError(f"models.yaml: {name} has no config, so it has no synthetic weights")
        raise UserError(
            f"models.yaml: no checkpoint of {name} is known; give its folder, or take "
            f"--weights synthetic"
        )
    if Path(name).is_dir():
        return _Place(Path(name).resolve().name, Path(name), synthetic)
    if weights == "hub" and name.count("/") == 1:
        return _fetched(name.partition("/")[2], name, revision or "main", offline)
    if "/" in name:
        raise UserError(
            f"{name}: there is no such folder; expected a checkpoint's folder or one of "
            f"{', '.join(models)} (a hub id needs --weights hub)"
        )
    raise unknown("model", name, models)


def _expect_folder(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: the checkpoint of {name} is not there; it is part of PocketVLM's "
            f"repository, not of the installed package, so run from a checkout"
        )
    return folder


def _fetched(name: str, repository: str, revision: str, offline: bool) -> _Place:
    folder, commit = fetch(repository, revision, offline=offline)
    return _Place(name, folder, False, {"hub": repository, "revision": commit})


def _open(place: _Place, seed: int) -> Model:
    folder = place.folder
    config = read_json(folder, CONFIG)
    family = family_of(config, str(folder / CONFIG))
    section = Section(config, str(folder / CONFIG))
    vlm = check.numbers(family.read(section), section.file)
    image = _image(family, vlm, folder)
    prompt = family.prompt(vlm, section)
    files = {name: read_file(folder, name) for name in FILES if inside(folder, name).exists()}
    if place.synthetic and TOKENIZER not in files:
        from export.checkpoint.tokenizer import synthetic_tokenizer

        special = family.tokens(vlm)
        files |= synthetic_tokenizer(vlm, special, prompt.image_token, family.vocabulary)
    tokens = Tokens(files.get(TOKENIZER), folder / TOKENIZER)
    tokens.expect(prompt.image_token, vlm, family.image_tokens if vlm.vision is None else ())
    stop = _stop_ids(folder, vlm, tokens.ids(family.stop_tokens))
    vlm = check.numbers(replace(vlm, stop_token_ids=stop), str(folder / GENERATION))
    weights: Weights = (
        Synthetic(vlm, seed) if place.synthetic else Checkpoint(folder, family, vlm, place.origin)
    )
    return Model(
        place.name, vlm, image, prompt, weights, files, None if place.synthetic else folder
    )


def _image(family: Family, vlm: Vlm, folder: Path) -> ImageRecipe | None:
    """The image recipe. transformers 5 writes processor_config.json, and reads that first."""
    if vlm.vision is None:
        return None
    if not family.preprocessor_file:
        return _checked_image(family, vlm, {}, folder / CONFIG)
    for name, key in ((PROCESSOR, "image_processor"), (PREPROCESSOR, None)):
        if not inside(folder, name).exists():
            continue
        content: Any = read_json(folder, name)
        if key is not None:
            content = content.get(key)
        if isinstance(content, dict):
            return _checked_image(family, vlm, content, folder / name)
    raise UserError(
        f"{folder}: no {PREPROCESSOR}, and no image_processor in {PROCESSOR}; save the processor "
        f"into the folder too (processor.save_pretrained)"
    )


def _checked_image(family: Family, vlm: Vlm, content: Json, file: Path) -> ImageRecipe | None:
    image = family.image(vlm, Section(content, str(file)))
    return check.recipe(image, vlm, str(file))


def _stop_ids(folder: Path, vlm: Vlm, named: tuple[int, ...]) -> tuple[int, ...]:
    """What ends an answer: ids of generation_config.json, of config.json, and named tokens."""
    found: Any = None
    if inside(folder, GENERATION).exists():
        found = read_json(folder, GENERATION).get("eos_token_id")
    listed = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(value) is int for value in listed):
        raise UserError(
            f"{folder / GENERATION}: eos_token_id is {short(str(found))}, expected an id or a list "
            f"of ids; take the file from the checkpoint"
        )
    return tuple(dict.fromkeys([*listed, *vlm.stop_token_ids, *named]))
