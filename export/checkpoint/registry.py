"""Opens models: by a name in models.yaml, a checkpoint's folder or an id on the hub."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from export.checkpoint import chat_template, check, tokenizer_files
from export.checkpoint.folder import Checkpoint
from export.checkpoint.hub import fetch
from export.checkpoint.synthetic import Synthetic
from export.checkpoint.tokens import Tokens
from export.checkpoint.unused import expect_model, unused
from export.decode import Mismatch, decode
from export.errors import UserError, unknown
from export.families import family_of
from export.families.section import Json, Section
from export.families.spec import Family
from export.files import inside, is_folder, read_file, read_json, short, snapshot_of
from export.images import ImageRecipe
from export.manifest import MANIFEST
from export.model import Model
from export.modeling.vlm import Vlm
from export.origin import Origin
from export.prompts import ChatTemplate, Prompt
from export.weights import Weights

WeightsKind = Literal["hub", "synthetic"]

PREFIX = "models.yaml:"
"""Before a name: the model of models.yaml, also where a folder of that name exists."""
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
"""Files that clients may need besides the weights; an artifact gets those that exist."""


@dataclass(frozen=True)
class Entry:
    """One model of models.yaml, from its checkpoint folder (`path`) or from the hub (`hub`).

    hub: owner/name; revision: its commit, tag or branch. config: a folder with configuration files
    only, for random weights. Both folders are relative to models.yaml.
    """

    path: str | None = None
    hub: str | None = None
    revision: str = "main"
    config: str | None = None


@dataclass(frozen=True)
class _ModelFolder:
    """The folder that a model is opened from.

    synthetic: its weights are to be random. hub: its id and commit; None: it is not of the hub.
    """

    name: str
    folder: Path
    synthetic: bool
    hub: Mapping[str, str] | None = None


def data_root() -> Path:
    """Returns the folder of models.yaml: export/_data in an installed wheel, or the checkout."""
    package = Path(__file__).parents[1]
    return package / "_data" if (package / "_data").is_dir() else package.parent


def list_models(root: Path | None = None) -> dict[str, Entry]:
    """Reads models.yaml in the folder `root` (None: the one of PocketVLM): name -> entry, in order.

    Raises UserError for a missing or broken file.
    """
    import yaml

    path = (root or data_root()) / "models.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {name: decode(Entry, fields, name) for name, fields in content.items()}
    except (OSError, yaml.YAMLError, Mismatch, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be used ({' '.join(str(error).split())})") from None


def open_model(
    name_or_dir: str | Path,
    *,
    weights: WeightsKind | None = None,
    revision: str | None = None,
    offline: bool = False,
    seed: int = 0,
) -> Model:
    """Opens a model by its name in models.yaml, its checkpoint folder or its id on the hub.

    A Path is always a folder. A name that is also a checkpoint folder here is an error: ./NAME is
    the folder, models.yaml:NAME the model of models.yaml. A hub id needs weights="hub".
    weights="synthetic" gives random values generated from `seed`, and uses no network. Models on
    the hub are downloaded at `revision` (a commit, tag or branch), or with `offline` taken from the
    cache. Raises UserError.
    """
    if isinstance(name_or_dir, Path):
        found = _of_folder(name_or_dir, weights == "synthetic")
    else:
        found = _locate(name_or_dir, weights, revision, offline)
    if revision is not None and found.hub is None:
        raise UserError(
            f"{name_or_dir} is not on the hub, so --revision has no effect; leave it out"
        )
    return _open(found, seed)


def expect_one_reading(name: str, file: str, what: str) -> None:
    """Raises UserError if `name` is both a model of models.yaml and a folder here with `file`.

    `what` says what such a folder is. The folder that the entry itself names is no other reading.
    """
    folder = Path(name)
    if "/" in name or not is_folder(folder) or not (folder / file).is_file():
        return
    entry = list_models().get(name)
    own = [data_root() / path for path in (entry.path, entry.config) if path] if entry else []
    if entry and not any(path.is_dir() and path.samefile(folder) for path in own):
        raise UserError(
            f"{name}: is a model of models.yaml, and ./{name} is {what}; write ./{name} for the "
            f"folder, {PREFIX}{name} for the model"
        )


def _locate(
    given: str, weights: WeightsKind | None, revision: str | None, offline: bool
) -> _ModelFolder:
    models, name = list_models(), given.removeprefix(PREFIX)
    if entry := models.get(name):
        if given == name and not (Path(name) / MANIFEST).exists():
            expect_one_reading(name, CONFIG, "a checkpoint")
        return _of_entry(name, entry, weights == "synthetic", revision, offline)
    if given != name:
        raise unknown("model", name, models)
    if is_folder(Path(name)):
        return _of_folder(Path(name), weights == "synthetic")
    if weights == "hub" and name.count("/") == 1:
        return _fetched(name.partition("/")[2], name, revision or "main", offline)
    if "/" in name:
        raise UserError(
            f"{short(name, 200)}: no such folder; expected a checkpoint's folder or one of "
            f"{', '.join(models)} (a hub id needs --weights hub)"
        )
    raise unknown("model", short(name, 200), models)


def _of_entry(
    name: str, entry: Entry, synthetic: bool, revision: str | None, offline: bool
) -> _ModelFolder:
    if (local := (entry.config if synthetic else None) or entry.path) is not None:
        return _ModelFolder(name, _expect_folder(data_root() / local, name), synthetic)
    if entry.hub is not None and not synthetic:
        return _fetched(name, entry.hub, revision or entry.revision, offline)
    if synthetic:
        raise UserError(f"models.yaml: {name} has no config, so it has no synthetic weights")
    raise UserError(
        f"models.yaml: {name} has neither path nor hub; give the folder of a checkpoint, or use "
        f"--weights synthetic"
    )


def _of_folder(folder: Path, synthetic: bool) -> _ModelFolder:
    if not is_folder(folder):
        raise UserError(f"{short(str(folder), 200)}: no such folder; expected a checkpoint's")
    real = folder.resolve()
    return _ModelFolder(snapshot_of(real) or real.name, folder, synthetic)


def _expect_folder(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: the checkpoint of {name} is missing; it is part of PocketVLM's repository, "
            f"not of the installed package, so run from a checkout"
        )
    return folder


def _fetched(name: str, repository: str, revision: str, offline: bool) -> _ModelFolder:
    folder, commit = fetch(repository, revision, offline=offline)
    return _ModelFolder(name, folder, False, {"hub": repository, "revision": commit})


def _open(found: _ModelFolder, seed: int) -> Model:
    folder = found.folder
    expect_model(folder, CONFIG)
    config = read_json(folder, CONFIG)
    family = family_of(config, str(folder / CONFIG))
    section = Section(config, str(folder / CONFIG))
    vlm = check.numbers(family.read(section), section.file)
    image = _image(family, vlm, folder)
    prompt = family.prompt(vlm, section)
    files = {name: read_file(folder, name) for name in FILES if inside(folder, name).exists()}
    known = _known(files, found.hub)
    if found.synthetic and TOKENIZER not in files:
        from export.checkpoint.tokenizer import synthetic_tokenizer

        special = family.tokens(vlm)
        files |= synthetic_tokenizer(vlm, special, prompt.image_token, family.vocabulary)
    tokenizer_files.expect_sound(files, folder)
    tokens = Tokens(files.get(TOKENIZER), folder / TOKENIZER)
    tokens.expect(prompt.image_token, vlm, family.image_tokens if vlm.vision is None else ())
    template: ChatTemplate | None = None
    notes: tuple[str, ...] = ()
    if isinstance(prompt, Prompt) and not found.synthetic:
        bos = None if vlm.bos_token_id is None else tokens.text(vlm.bos_token_id)
        template, notes = chat_template.checked(files, folder, prompt, family, bos)
    stop = _stop_ids(folder, vlm, tokens.ids(family.stop_tokens))
    vlm = check.numbers(replace(vlm, stop_token_ids=stop), str(folder / GENERATION))
    weights: Weights = (
        Synthetic(vlm, seed, known) if found.synthetic else Checkpoint(folder, family, vlm, known)
    )
    return Model(
        found.name,
        vlm,
        image,
        prompt,
        weights,
        files,
        None if found.synthetic else folder,
        template=template,
        notes=(*notes, *unused(folder, config, GENERATION)),
    )


def _known(files: Mapping[str, bytes], hub: Mapping[str, str] | None) -> Origin:
    """Returns what identifies a model beside its weights: hub id and commit, and read files."""
    facts = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    return {**(hub or {}), "files": facts}


def _image(family: Family, vlm: Vlm, folder: Path) -> ImageRecipe | None:
    """Reads the image recipe of a checkpoint folder; None: the model takes only text.

    processor_config.json comes before preprocessor_config.json, as in transformers 5. Raises
    UserError if both lack it.
    """
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
        f"{folder}: has neither {PREPROCESSOR} nor an image_processor in {PROCESSOR}; save the "
        f"processor into the folder too (processor.save_pretrained)"
    )


def _checked_image(family: Family, vlm: Vlm, content: Json, file: Path) -> ImageRecipe | None:
    image = family.image(vlm, Section(content, str(file)))
    return check.recipe(image, vlm, str(file))


def _stop_ids(folder: Path, vlm: Vlm, named: tuple[int, ...]) -> tuple[int, ...]:
    """Collects the ids that end an answer, each once. Raises UserError.

    They come from generation_config.json, from config.json (`vlm`), and from the family's stop
    tokens (`named`).
    """
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
