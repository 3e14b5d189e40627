"""The proof compares prompt ids by transformers' tokenizer alone, whatever processor there is."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from export.checkpoint.registry import open_model
from export.prompts import Prompt
from export.proof import PreprocessingCheck, Skipped
from runtimes.proof import processor
from runtimes.proof.prompt_ids import BUILT_IN

MODELS = Path(__file__).parents[2] / "models"
LEGACY, TOKENIZER, TEMPLATE = "chat_template.json", "tokenizer_config.json", "chat_template.jinja"
Edit = Callable[[Path], object]


def copied(twin: str, folder: Path, edit: Edit = lambda folder: None) -> str:
    shutil.copytree(MODELS / twin, folder)
    edit(folder)
    return str(folder)


def as_jinja(folder: Path) -> None:
    """As transformers 5 saves a template."""
    content = json.loads((folder / LEGACY).read_text())
    (folder / TEMPLATE).write_text(content["chat_template"])
    without(folder)


def without(folder: Path) -> None:
    (folder / LEGACY).unlink()
    content = json.loads((folder / TOKENIZER).read_text())
    del content["chat_template"]
    (folder / TOKENIZER).write_text(json.dumps(content))


def without_bos(folder: Path) -> None:
    """As some versions of transformers save a fine-tune whose tokenizer has no BOS."""
    for name in ("config.json", "generation_config.json"):
        content = json.loads((folder / name).read_text())
        content["bos_token_id"] = None
        if "text_config" in content:
            content["text_config"]["bos_token_id"] = None
        (folder / name).write_text(json.dumps(content))


def text_only(folder: Path) -> None:
    """As gemma-3-1b-it, whose tokenizer_config.json names a processor that it does not have."""
    config = json.loads((folder / "config.json").read_text())
    text = config["text_config"] | {"model_type": "gemma3_text", "bos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(text))
    weights, prefix = folder / "model.safetensors", "language_model."
    kept = {k: v for k, v in load_file(weights).items() if k.startswith(prefix)}
    save_file({k.removeprefix(prefix): v for k, v in kept.items()}, weights)
    for name in ("preprocessor_config.json", "processor_config.json", LEGACY):
        (folder / name).unlink()
    assert json.loads((folder / TOKENIZER).read_text())["processor_class"] == "Gemma3Processor"


def unknown_tokenizer(folder: Path) -> None:
    content = json.loads((folder / TOKENIZER).read_text()) | {"tokenizer_class": "Ours"}
    content["auto_map"] = {"AutoTokenizer": ["code.Ours", None]}
    (folder / TOKENIZER).write_text(json.dumps(content))


CASES: dict[str, tuple[str, Edit, str]] = {
    "smolvlm": ("tiny-smolvlm", lambda folder: None, LEGACY),
    "gemma3": ("tiny-gemma3", as_jinja, TEMPLATE),
    "qwen2.5-vl": ("tiny-qwen2.5-vl", as_jinja, TEMPLATE),
    "smolvlm without a template": ("tiny-smolvlm", without, BUILT_IN),
    "smolvlm without BOS": ("tiny-smolvlm", without_bos, LEGACY),
    "gemma3 without BOS": ("tiny-gemma3", without_bos, LEGACY),
    "qwen2.5-vl without BOS": ("tiny-qwen2.5-vl", without_bos, LEGACY),
    "text alone": ("tiny-gemma3", text_only, TOKENIZER),
    "text alone, without a template": (
        "tiny-gemma3",
        lambda folder: (
            (without(folder), shutil.copy(MODELS / "tiny-gemma3" / LEGACY, folder))
            and text_only(folder)
        ),
        BUILT_IN,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_ids_of_all_probes_are_compared(case: str, tmp_path: Path) -> None:
    twin, edit, prompts = CASES[case]
    check = processor.compare(open_model(copied(twin, tmp_path / "m", edit)))
    assert isinstance(check, PreprocessingCheck)
    assert (check.equal_ids, check.n, check.equal) == (6, 6, True)
    assert check.prompts == prompts


def test_another_prompt_is_seen() -> None:
    model = open_model("tiny-qwen2.5-vl")
    other = replace(model.prompt, text_only=model.prompt.text_only.replace("assistant", "user"))
    check = processor.compare(replace(model, prompt=other))
    assert isinstance(check, PreprocessingCheck)
    assert (check.equal_ids, check.equal) == (5, False)


def test_ids_are_compared_where_pixels_cannot_be(tmp_path: Path) -> None:
    model = open_model(copied("tiny-smolvlm", tmp_path / "m"))
    for name in ("preprocessor_config.json", "processor_config.json"):
        (tmp_path / "m" / name).unlink()
    check = processor.compare(model)
    assert isinstance(check, PreprocessingCheck)
    assert (check.max_pixel_difference, check.equal_ids, check.equal) == (None, 6, True)
    assert check.pixels.startswith("not compared, transformers' image processor cannot be opened (")
    assert "\n" not in check.pixels
    assert check.verdict == "equal, pixels not compared"

    assert isinstance(model.prompt, Prompt)
    text_only = model.prompt.text_only.replace("User", "Me")
    check = processor.compare(replace(model, prompt=replace(model.prompt, text_only=text_only)))
    assert isinstance(check, PreprocessingCheck)
    assert check.verdict == "unequal, pixels not compared"

    unknown_tokenizer(tmp_path / "m")
    neither = processor.compare(model)
    assert isinstance(neither, Skipped)
    assert "; token ids not compared, transformers cannot open" in neither.skipped


def test_a_tokenizer_that_transformers_cannot_open_is_said(tmp_path: Path) -> None:
    check = processor.compare(open_model(copied("tiny-smolvlm", tmp_path / "m", unknown_tokenizer)))
    assert isinstance(check, PreprocessingCheck)
    assert check.equal_ids is None
    assert check.prompts.startswith("not compared, transformers cannot open the tokenizer (The rep")
