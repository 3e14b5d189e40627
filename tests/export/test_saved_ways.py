"""Checkpoints that programs save in other ways than the hub's, and that transformers loads whole.

Each is read as the same tensors. Names are those of transformers' own modules and of what it saves.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FromTorch, hf_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedModel,
)

from export.checkpoint.folder import Checkpoint
from export.errors import UserError
from export.families import family_of
from export.families.section import Section
from export.files import read_json
from export.modeling.vlm import Vlm

State = dict[str, torch.Tensor]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CASES = {
    "idefics3": "grouped heads",
    "smolvlm": "smolvlm2",
    "gemma3": "named layer types",
    "gemma3_text": "text alone",
    "qwen2_5_vl": "windows of 2 x 2 squares",
    "internvl": "a class token, narrow rows, positions divided by 4",
}
HEADS = ("lm_head.weight", "language_model.lm_head.weight")
"""Names of a head, of which a family knows one or both."""


@pytest.fixture(scope="module", params=CASES)
def hf(request: pytest.FixtureRequest) -> PreTrainedModel:
    """A model whose head is its embedding."""
    model = hf_model(CASES[request.param])
    model.config.tie_word_embeddings = True
    model.tie_weights()
    return model


def saved(hf: PreTrainedModel, folder: Path) -> None:
    hf.save_pretrained(folder)


def without_a_head(hf: PreTrainedModel, folder: Path) -> None:
    hf.model.save_pretrained(folder)


def changed(change: Callable[[State, PreTrainedModel], State]) -> Callable[..., None]:
    def save(hf: PreTrainedModel, folder: Path) -> None:
        hf.save_pretrained(folder)
        state = change(load_file(folder / WEIGHTS), hf)
        copies = {name: value.detach().clone() for name, value in state.items()}
        save_file(copies, folder / WEIGHTS, {"format": "pt"})

    return save


def embedding(state: State) -> str:
    return next(name for name in state if name.endswith("embed_tokens.weight"))


def head_too(state: State, hf: PreTrainedModel) -> State:
    return state | {HEADS[0]: state[embedding(state)]}


def head_of_the_text_model_too(state: State, hf: PreTrainedModel) -> State:
    return state | {HEADS[1]: state[embedding(state)]}


def head_in_other_floats(state: State, hf: PreTrainedModel) -> State:
    rounded = {name: value.bfloat16() for name, value in state.items()}
    return head_too(rounded, hf) | {HEADS[0]: rounded[embedding(state)].float()}


def head_instead(state: State, hf: PreTrainedModel) -> State:
    name = embedding(state)
    return {HEADS[0] if key == name else key: value for key, value in state.items()}


def with_an_index(hf: PreTrainedModel, folder: Path) -> None:
    """Lists the tied head, which no file has."""
    hf.save_pretrained(folder)
    names = [*load_file(folder / WEIGHTS), HEADS[0]]
    (folder / WEIGHTS).rename(folder / "model-00001-of-00001.safetensors")
    places = dict.fromkeys(names, "model-00001-of-00001.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


WAYS: Mapping[str, Callable[[PreTrainedModel, Path], None]] = {
    "as transformers saves it": saved,
    "from the class without a head": without_a_head,
    "names in memory, and the head": changed(lambda state, hf: hf.state_dict()),
    "names in memory of the class without a head": changed(lambda _, hf: hf.model.state_dict()),
    "the head too": changed(head_too),
    "the head too, in the text model": changed(head_of_the_text_model_too),
    "the head too, in other floats": changed(head_in_other_floats),
    "the head instead of the embedding": changed(head_instead),
    "an index that lists the head": with_an_index,
}


def loads_whole(folder: Path) -> bool:
    text_only = read_json(folder, "config.json")["model_type"] == "gemma3_text"
    kind = AutoModelForCausalLM if text_only else AutoModelForImageTextToText
    _, found = kind.from_pretrained(folder, output_loading_info=True)
    return not any(found.values())


def opened(folder: Path) -> Checkpoint:
    config = read_json(folder, "config.json")
    family = family_of(config, "config.json")
    return Checkpoint(folder, family, family.read(Section(config, "config.json")))


@pytest.mark.parametrize("way", WAYS)
def test_what_transformers_loads_whole_is_the_same_tensors(
    hf: PreTrainedModel, way: str, tmp_path: Path
) -> None:
    WAYS[way](hf, tmp_path)
    if not loads_whole(tmp_path):
        assert way == "the head too, in the text model"  # not every family has that name
        return
    found, twin = opened(tmp_path), FromTorch(hf)
    assert found.shapes() == twin.shapes()
    rounded = "other floats" in way
    for name in found.shapes():
        expected = twin.read(name)
        close = {"rtol": 2**-8, "atol": 2**-8} if rounded else {"rtol": 0, "atol": 0}
        np.testing.assert_allclose(found.read(name), expected, **close)


def test_a_tied_head_that_differs_is_refused_by_name(hf: PreTrainedModel, tmp_path: Path) -> None:
    def other(state: State, hf: PreTrainedModel) -> State:
        trained = state[embedding(state)].clone()
        trained[-1, -1] += 1
        return state | {HEADS[0]: trained}

    changed(other)(hf, tmp_path)
    with pytest.raises(UserError, match=r"lm_head\.weight differs from .*embed_tokens\.weight"):
        opened(tmp_path)
    config = read_json(tmp_path, "config.json") | {"tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    head = opened(tmp_path).read("output.weight")  # the remedy
    assert not np.array_equal(head, opened(tmp_path).read("token_embd.weight"))


SAID = (None, False, True)


@pytest.mark.parametrize("nested", SAID)
@pytest.mark.parametrize("top", SAID)
def test_a_head_is_tied_where_transformers_ties_it(
    hf: PreTrainedModel, top: bool | None, nested: bool | None, tmp_path: Path
) -> None:
    config: dict[str, Any] = json.loads(hf.config.to_json_string(use_diff=False))
    for place, said in ((config.get("text_config", {}), nested), (config, top)):
        place.pop("tie_word_embeddings", None)
        if said is not None:
            place["tie_word_embeddings"] = said
    (tmp_path / "config.json").write_text(json.dumps(config))
    theirs = AutoConfig.from_pretrained(tmp_path).tie_word_embeddings
    vlm: Vlm = family_of(config, "config.json").read(Section(config, "config.json"))
    assert vlm.text.tied == bool(theirs)
