"""The torch reference answers as transformers' own model of the checkpoint does, or a proof fails.

Misread settings stand for a config.json that PocketVLM reads otherwise than transformers.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import hf_model, tiny_artifact, tiny_model

from export.bounds import MAX_ERROR
from export.checkpoint.registry import data_root, list_models, open_model
from export.checkpoint.synthetic import Synthetic
from export.families import family_of
from export.families.section import Section
from export.images.crops import Crops
from export.model import Model
from export.modeling.depth import Depth, cut, least, whole
from export.modeling.vlm import Vlm, shapes
from export.proof import ReferenceCheck, Skipped
from runtimes.proof.ladder import prove
from runtimes.proof.original import compare, peak_bytes

NOISE = 1e-5
Misread = Callable[[Vlm], Vlm]


def saved(case: str, folder: Path) -> Path:
    """A checkpoint of a tiny transformers model, as save_pretrained writes it."""
    hf = hf_model(case)
    model = tiny_model(hf)
    hf.save_pretrained(folder)
    for name, content in model.files.items():
        (folder / name).write_bytes(content)
    if model.image is not None:
        settings = json.dumps({**model.image.preprocessor(), "image_mean": [0.5] * 3})
        (folder / "preprocessor_config.json").write_text(settings)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Model]:
    """A model of every family that transformers has, and one for text alone."""
    internvl = saved("a class token and layer scales", tmp_path_factory.mktemp("internvl"))
    text = saved("text alone, a window of 5", tmp_path_factory.mktemp("text"))
    bundled = ("tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl")
    found = {name: open_model(name) for name in bundled}
    return found | {"internvl": open_model(str(internvl)), "gemma3_text": open_model(str(text))}


def short_of_memory(model: Model) -> int:
    return peak_bytes(model.vlm) - 1


MODELS = ("tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl", "internvl", "gemma3_text")


@pytest.mark.parametrize("name", MODELS)
def test_reference_equals_transformers_model(name: str, models: Mapping[str, Model]) -> None:
    model = models[name]
    check = compare(model, None)
    assert isinstance(check, ReferenceCheck), check
    depth = Depth(check.text_layers, check.vision_layers)
    assert depth == Depth(check.of_text_layers, check.of_vision_layers) == whole(model.vlm)
    assert check.prompts == 2
    assert check.n >= 10
    assert check.max_error <= NOISE < MAX_ERROR
    assert check.mean_kld <= check.max_kld < 1e-9
    assert check.top1 == 1.0


@pytest.mark.parametrize("name", MODELS)
def test_first_layers_are_compared_where_memory_is_short(
    name: str, models: Mapping[str, Model]
) -> None:
    model = models[name]
    check = compare(model, short_of_memory(model))
    assert isinstance(check, ReferenceCheck), check
    assert Depth(check.text_layers, check.vision_layers) == least(model.vlm)
    assert Depth(check.of_text_layers, check.of_vision_layers) == whole(model.vlm)
    assert check.max_error <= NOISE


def text(**changes: object) -> Misread:
    return lambda vlm: replace(vlm, text=replace(vlm.text, **changes))


def tower(**changes: object) -> Misread:
    def misread(vlm: Vlm) -> Vlm:
        vision = vlm.require_vision()
        return replace(vlm, vision=replace(vision, tower=replace(vision.tower, **changes)))

    return misread


def window(**changes: object) -> Misread:
    return lambda vlm: text(sliding=replace(vlm.text.sliding, **changes))(vlm)


MISREAD: Mapping[str, Mapping[str, Misread]] = {
    "tiny-smolvlm": {
        "rotary base": text(rope_theta=1e4),
        "norm": text(norm_eps=1e-6),
        "activation": text(activation="gelu"),
        "scale": text(attention_scale=0.2),
        "tower's norm": tower(norm_eps=1e-4),
        "tower's activation": tower(activation="gelu"),
    },
    "tiny-gemma3": {
        "rotary base": text(rope_theta=1e4),
        "rotary factor": text(rope_factor=1.0),
        "rotary base of local layers": window(rope_theta=1e6),
        "window": window(window=65),
        "no window": text(sliding=None),
        "norm": text(norm_eps=1e-4),
        "activation": text(activation="gelu"),
        "scale": text(attention_scale=0.18),
        "scale of embeddings": text(embedding_scale=11.0),
        "causal images": text(bidirectional_images=False),
        "tower's activation": tower(activation="gelu"),
    },
    "tiny-qwen2.5-vl": {
        "rotary base": text(rope_theta=1e4),
        "rotary factor": text(rope_factor=4.0),
        "rotary sections": text(rope_sections=(5, 5, 6)),
        "norm": text(norm_eps=1e-5),
        "activation": text(activation="gelu"),
        "scale": text(attention_scale=0.2),
        "tower's activation": tower(activation="gelu"),
        "tower's windows": tower(window=4),
        "tower's full layers": tower(full_attention_layers=(0,)),
    },
    "internvl": {
        "rotary base": text(rope_theta=1e4),
        "norm": text(norm_eps=1e-3),
        "activation": text(activation="gelu"),
        "scale": text(attention_scale=0.2),
        "tower's norm": tower(norm_eps=1e-3),
        "tower's activation": tower(activation="silu"),
    },
}
CASES = {
    f"{name}, {setting}": (name, misread)
    for name, settings in MISREAD.items()
    for setting, misread in settings.items()
}


@pytest.mark.parametrize("case", CASES)
def test_misread_setting_is_seen_even_in_the_first_layers(
    case: str, models: Mapping[str, Model]
) -> None:
    name, misread = CASES[case]
    model = models[name]
    check = compare(replace(model, vlm=misread(model.vlm)), short_of_memory(model))
    assert isinstance(check, ReferenceCheck), check
    assert check.max_error > MAX_ERROR


def test_artifact_of_a_misread_config_fails_the_proof_by_this_rung_alone(
    models: Mapping[str, Model], tmp_path: Path
) -> None:
    model = models["tiny-smolvlm"]
    misread = replace(model, vlm=text(rope_theta=1e4)(model.vlm))
    proof = prove(misread, tiny_artifact(misread, "onnx", "fp32", tmp_path), threads=1)
    assert proof.passed is False
    (failure,) = proof.failures
    assert failure.startswith("reference: logits are off from those of transformers' Idefics3")
    assert failure.endswith("transformers reads config.json otherwise than PocketVLM")


def edited(model: Model, folder: Path, **keys: object) -> Model:
    """The model in a copy of its folder whose config.json has other keys: None removes one."""
    assert model.folder is not None
    shutil.copytree(model.folder, folder)
    config = json.loads((folder / "config.json").read_text()) | keys
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    return replace(model, folder=folder)


def test_without_a_model_to_compare_with_the_reason_is_given(
    models: Mapping[str, Model], tmp_path: Path
) -> None:
    model = models["tiny-smolvlm"]
    random = replace(model, weights=Synthetic(model.vlm))
    moondream = open_model("tiny-moondream")
    assert isinstance(moondream.image, Crops)
    unknown = edited(model, tmp_path / "unknown", model_type="pocket")
    blind = edited(model, tmp_path / "blind", model_type="siglip", architectures=None)
    for skipped, reason in (
        (compare(random, None), "random weights come without a checkpoint"),
        (compare(replace(model, folder=None), None), "random weights come without a checkpoint"),
        (compare(moondream, None), "transformers has no model of this family"),
        (compare(unknown, None), "transformers cannot open the checkpoint (ValueError: The check"),
        (compare(blind, None), "transformers has no AutoModelForImageTextToText of type siglip"),
        (compare(model, 10**6), "transformers' model needs about 1.0 GB of memory, 0.0 are free"),
    ):
        assert isinstance(skipped, Skipped)
        assert skipped.skipped.startswith(reason), skipped


def test_checkpoint_in_which_transformers_misses_a_tensor_is_no_reference(
    models: Mapping[str, Model], tmp_path: Path
) -> None:
    model = models["internvl"]
    folder = tmp_path / "m"
    hf = hf_model("a class token and layer scales")
    state = hf.state_dict()
    state.pop("model.language_model.norm.weight")
    hf.save_pretrained(folder, state_dict=state)
    skipped = compare(replace(model, folder=folder), None)
    expected = "transformers finds no tensor for model.language_model.norm.weight in the checkpoint"
    assert skipped == Skipped(expected)


def test_absent_transformers_is_named(
    models: Mapping[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    reason = "transformers is not installed (pip install 'pocket-vlm[reference]')"
    assert compare(models["tiny-smolvlm"], None) == Skipped(reason)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smolvlm-256m", Depth(2, 2)),
        ("gemma-3-4b", Depth(6, 2)),
        ("gemma-3-270m", Depth(6, 0)),
        ("qwen2.5-vl-3b", Depth(2, 8)),
        ("moondream-2b", Depth(2, 2)),
    ],
)
def test_least_depth_has_every_kind_of_layer(name: str, expected: Depth) -> None:
    entry = list_models()[name]
    assert entry.config is not None
    config = json.loads((data_root() / entry.config / "config.json").read_text())
    vlm = family_of(config, name).read(Section(config, name))
    assert least(vlm) == expected
    part, every = shapes(cut(vlm, expected)), shapes(vlm)
    assert part.items() < every.items()
    assert not [*cut(vlm, expected).problems()]
    assert cut(vlm, whole(vlm)) == vlm
