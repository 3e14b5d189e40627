"""models.yaml and what opens: by name, by folder, with random weights."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.checkpoint.registry import Entry, data_root, list_models, open_model
from export.errors import UserError
from export.opening import open_named
from export.origin import difference, identity
from tests.export.checkpoints import CONFIG, PREPROCESSOR, make, save_json

PARAMETERS = {  # computed from transformers' classes, see docs of the models
    "smolvlm-256m": 256_484_928,
    "smolvlm-500m": 507_482_304,
    "smolvlm-2.2b": 2_246_272_880,
    "smolvlm2-256m": 256_484_928,
    "smolvlm2-500m": 507_482_304,
    "smolvlm2-2.2b": 2_246_784_880,
    "gemma-3-4b": 4_300_079_472,
}
END_OF_UTTERANCE = 399
TWIN = data_root() / "models" / "tiny-smolvlm"
CHAT = json.loads((TWIN / "chat_template.json").read_text())["chat_template"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_model_opens_with_random_weights_and_no_network(name: str) -> None:
    model = open_model(name, weights="synthetic")
    shapes = model.weights.shapes()
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == PARAMETERS[name]
    assert model.weights.synthetic
    assert model.folder is None
    assert model.name == name
    assert {"config.json", "preprocessor_config.json", "tokenizer.json"} <= model.files.keys()
    end_of_turn = {"smolvlm": model.vlm.text.vocab - 1, "gemma3": model.vlm.image_token_id - 3}
    assert end_of_turn[model.vlm.family] in model.vlm.stop_token_ids


def test_the_bundled_model_is_a_checkpoint() -> None:
    model = open_model("tiny-smolvlm")
    assert not model.weights.synthetic
    assert model.folder == data_root() / "models" / "tiny-smolvlm"
    assert set(model.weights.origin) == {"files"}


def test_models_on_the_hub_name_a_revision() -> None:
    entries = [entry for entry in list_models().values() if entry.hub]
    meant = re.compile(r"main|[0-9a-f]{40}|\d{4}-\d\d-\d\d")
    assert all(meant.fullmatch(entry.revision) for entry in entries)
    assert all(entry.config for entry in entries)


YAML: Mapping[str, str] = {
    "unknown key": "m:\n  pth: x\n",
    "not a mapping": "- m\n",
    "no fields": "m:\n",
    "wrong type": "m:\n  hub: [1]\n",
    "not yaml": "m: {\n",
    "empty": "",
}


@pytest.mark.parametrize("case", YAML)
def test_a_broken_models_yaml_is_one_line(tmp_path: Path, case: str) -> None:
    (tmp_path / "models.yaml").write_text(YAML[case])
    with pytest.raises(UserError, match=r"models\.yaml: cannot be used") as raised:
        list_models(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_models_yaml_is_read_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("b:\n  hub: o/b\na:\n  path: models/a\n")
    assert list(list_models(tmp_path).items()) == [
        ("b", Entry(hub="o/b")),
        ("a", Entry("models/a")),
    ]


ASKED: Mapping[str, tuple[str, dict[str, Any], str]] = {
    "near name": ("smolvlm-256", {}, "unknown model 'smolvlm-256'; did you mean smolvlm"),
    "no folder": ("models/none", {}, "no such folder"),
    "a long name": ("x" * 5000, {}, "unknown model 'xxx"),
    "a long path": ("models/" + "x" * 5000, {}, "no such folder"),
    "revision of a bundled model": ("tiny-smolvlm", {"revision": "x"}, "--revision has no effect"),
    "revision of random weights": (
        "smolvlm-256m",
        {"revision": "x", "weights": "synthetic"},
        "--revision has no effect",
    ),
    "offline and not cached": ("smolvlm-256m", {"offline": True}, "use --weights synthetic"),
    "hub id, offline": ("o/nowhere", {"weights": "hub", "offline": True}, "o/nowhere at main"),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_opened_is_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, options, expected = ASKED[case]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as raised:
        open_model(name, **options)
    assert expected in str(raised.value)


STOPS: Mapping[str, tuple[object, tuple[int, ...]]] = {
    "one id": ({"eos_token_id": 7}, (7, 2, END_OF_UTTERANCE)),
    "a list": ({"eos_token_id": [2, 7]}, (2, 7, END_OF_UTTERANCE)),
    "none": ({"eos_token_id": None}, (2, END_OF_UTTERANCE)),
    "no file": (None, (2, END_OF_UTTERANCE)),
}


@pytest.mark.parametrize("case", STOPS)
def test_stop_tokens_come_from_generation_config_config_and_tokenizer(
    tmp_path: Path, case: str
) -> None:
    content, expected = STOPS[case]
    folder = make(tmp_path / "m")
    if content is not None:
        save_json(folder / "generation_config.json", content)
    assert open_model(str(folder)).vlm.stop_token_ids == expected


def test_processor_config_takes_precedence_over_preprocessor_config(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    newer = {"image_processor": PREPROCESSOR | {"size": {"longest_edge": 96}}, "image_seq_len": 4}
    save_json(folder / "processor_config.json", newer)
    assert open_model(str(folder)).image.longest_edge == 96
    (folder / "preprocessor_config.json").unlink()
    assert open_model(str(folder)).image.longest_edge == 96
    assert "processor_config.json" in open_model(str(folder)).files


def test_a_fine_tune_saved_by_transformers_opens(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.idefics3.image_processing_pil_idefics3 import (
        Idefics3ImageProcessorPil,
    )

    hub_style, saved = make(tmp_path / "hub"), tmp_path / "saved"
    config = transformers.AutoConfig.from_pretrained(hub_style)
    transformers.AutoModelForImageTextToText.from_config(config).save_pretrained(saved)
    processor = transformers.Idefics3Processor(
        Idefics3ImageProcessorPil.from_pretrained(hub_style),
        transformers.AutoTokenizer.from_pretrained(hub_style),
        image_seq_len=4,
        chat_template=CHAT,
    )
    processor.save_pretrained(saved)
    before, after = open_model(str(hub_style)), open_model(str(saved))
    assert after.vlm == before.vlm
    assert after.image == before.image
    assert {"chat_template.jinja", "processor_config.json"} <= after.files.keys()


def test_random_weights_of_a_folder_need_only_its_config(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    real = open_model(str(folder))
    (folder / "model.safetensors").unlink()
    random = open_model(str(folder), weights="synthetic", seed=5)
    assert random.vlm == real.vlm
    assert random.files["tokenizer.json"] == real.files["tokenizer.json"]
    assert random.weights.origin["synthetic"]["seed"] == 5


def test_opening_a_model_imports_no_framework(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    code = (
        "import sys; from export.checkpoint.registry import open_model; "
        "open_model(sys.argv[1]); open_model('smolvlm-256m', weights='synthetic'); "
        "print([m for m in ('torch', 'transformers', 'onnx', 'onnx_ir', 'onnxruntime', 'gguf', "
        "'llama_cpp', 'huggingface_hub', 'rich') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=data_root(), check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_with_two_readings_is_refused_with_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "tiny-smolvlm")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        open_model("tiny-smolvlm")
    assert str(raised.value) == (
        "tiny-smolvlm: is a model of models.yaml, and ./tiny-smolvlm is a checkpoint; write "
        "./tiny-smolvlm for the folder, models.yaml:tiny-smolvlm for the model"
    )
    own, hidden = open_model("models.yaml:tiny-smolvlm"), CONFIG["text_config"]["hidden_size"]
    assert (own.name, own.vlm.text.hidden != hidden) == ("tiny-smolvlm", True)
    for folder in ("./tiny-smolvlm", Path("tiny-smolvlm"), tmp_path / "tiny-smolvlm"):
        assert open_model(folder if isinstance(folder, Path) else str(folder)).vlm.text.hidden == (
            hidden
        )


@pytest.mark.parametrize("file", [None, "artifact.json"])
def test_a_folder_that_is_no_checkpoint_is_no_other_reading(
    file: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny-smolvlm").mkdir()
    if file is not None:  # an artifact of some layouts has a config.json too
        for name in (file, "config.json"):
            (tmp_path / "tiny-smolvlm" / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert open_model("tiny-smolvlm").folder == data_root() / "models" / "tiny-smolvlm"
    monkeypatch.chdir(data_root() / "models")
    assert open_model("tiny-smolvlm").folder == data_root() / "models" / "tiny-smolvlm"


def test_an_artifact_with_a_models_name_has_two_readings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny-smolvlm").mkdir()
    (tmp_path / "tiny-smolvlm" / "artifact.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"\./tiny-smolvlm is an artifact; write \./tiny-smolvlm"):
        open_named("tiny-smolvlm")
    with pytest.raises(UserError, match=r"artifact\.json: schema: missing"):
        open_named("./tiny-smolvlm")
    assert open_named("models.yaml:tiny-smolvlm").name == "tiny-smolvlm"


def test_a_snapshot_of_the_hub_has_its_models_name(tmp_path: Path) -> None:
    commit = "067788b187b95ebe7b2e040b3e4299e342e5b8fd"
    folder = make(tmp_path / "models--org--some-fine-tune" / "snapshots" / commit)
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert {open_model(str(path)).name for path in (folder, link)} == {"some-fine-tune"}


def test_a_models_origin_changes_with_each_file_that_was_read(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    before = open_model(str(folder)).weights.origin
    random = open_model(str(folder), weights="synthetic").weights.origin
    save_json(folder / "generation_config.json", {"eos_token_id": 7})
    after = open_model(str(folder)).weights.origin
    assert difference(before, before) is None
    assert difference(after, before) == (
        f"generation_config.json is missing, expected "
        f"{after['files']['generation_config.json']['sha256'][:12]} (SHA-256)"
    )
    assert identity(before) != identity(after)
    again = open_model(str(folder), weights="synthetic").weights.origin
    assert identity(random) != identity(again)
