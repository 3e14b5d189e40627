"""Whatever config.json says, we compute what transformers computes, or refuse it by name.

The fields are those of transformers' own config classes: a new one fails here until it is
classified in config_fields.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from config_fields import ALSO, BASES, ELSEWHERE, PARTS, Fields, changed, within
from PIL import Image
from tiny_models import randomized, tiny_model
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedModel,
)
from transformers_answers import logits_of

from export.checkpoint import check
from export.errors import UserError
from export.families import family_of
from export.families.section import Section
from export.modeling.vlm import Vlm
from runtimes.base import Request
from runtimes.prepare.request import preparer_of
from runtimes.reference import ReferenceScorer

RELATIVE = 1e-5
Json = dict[str, Any]
NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
ANSWER = (5, 44, 300, 7, 120, 61)


def read(config: Mapping[str, Any]) -> Vlm:
    found = family_of(config, "config.json").read(Section(config, "config.json"))
    return check.numbers(found, "config.json")


def transformers_model(config: Json) -> PreTrainedModel:
    """transformers' model of a config.json, with random weights in float32."""
    made = CONFIG_MAPPING[config["model_type"]].from_dict(json.loads(json.dumps(config)))
    auto = AutoModelForCausalLM if config["model_type"] == "gemma3_text" else None
    torch.manual_seed(0)
    return randomized((auto or AutoModelForImageTextToText).from_config(made, dtype=torch.float32))


def assert_equal_logits(config: Json) -> None:
    hf = transformers_model(config)
    model = tiny_model(hf, config)
    images = () if model.vlm.vision is None else (Image.fromarray(NOISE),)
    request = Request("what is there to be seen?", images, answer=ANSWER)
    scorer = ReferenceScorer(model)
    found = scorer.score(request, scorer.features(request))
    prepared = preparer_of(model)(request)
    ids = np.array([*prepared.ids, *ANSWER], np.int64)
    wanted = logits_of(hf, model, ids, prepared.images)[len(prepared.ids) - 1 : -1]
    assert np.abs(found - wanted).max() <= RELATIVE * np.abs(wanted).max()
    # As transformers 5 would save this config.
    assert read(json.loads(hf.config.to_json_string(use_diff=False))) == model.vlm


OBJECTS = [(model, part) for model, parts in PARTS.items() for part in parts]


@pytest.mark.parametrize(("model", "part"), OBJECTS)
def test_every_field_of_transformers_is_classified(model: str, part: str) -> None:
    known: Fields = PARTS[model][part]
    theirs = {field.name for field in fields(known.config_class)}
    theirs |= known.config_class.attribute_map.keys()
    assert theirs - ELSEWHERE <= known.read.keys() | known.refused.keys() | known.inert.keys()


READ = [(*at, key) for at in OBJECTS for key in PARTS[at[0]][at[1]].read]
REFUSED = [(*at, key) for at in OBJECTS for key in PARTS[at[0]][at[1]].refused]


@pytest.mark.parametrize(("model", "part", "key"), READ)
def test_what_is_read_is_what_transformers_computes(model: str, part: str, key: str) -> None:
    change = within(part, {key: PARTS[model][part].read[key]})
    assert_equal_logits(changed(model, change, ALSO.get((model, part, key), {})))


@pytest.mark.parametrize(("model", "part", "key"), REFUSED)
def test_what_is_not_supported_is_refused_by_name(model: str, part: str, key: str) -> None:
    value = PARTS[model][part].refused[key]
    with pytest.raises(UserError) as caught:
        read(changed(model, within(part, {key: value})))
    message = str(caught.value)
    assert key in message or "rope_parameters" in message
    assert "\n" not in message


@pytest.mark.parametrize("model", BASES.keys() & PARTS.keys())
def test_what_is_ignored_changes_nothing_in_transformers(model: str) -> None:
    inert = [within(part, known.inert) for part, known in PARTS[model].items()]
    assert_equal_logits(changed(model, *inert))
