"""What a config.json means to us, and that transformers' own model computes the same with it."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
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
