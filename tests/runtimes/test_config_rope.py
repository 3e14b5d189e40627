"""Every kind of rotary positions that transformers has, in every spelling: followed, or refused."""

from typing import Any

import pytest
from config_fields import BASES
from config_oracle import assert_equal_logits, read
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, RopeParameters

from export.errors import UserError

Json = dict[str, Any]
KINDS: Json = {
    "dynamic": {"factor": 4.0},
    "linear": {"factor": 4.0},
    "llama3": {
        "factor": 4.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 64,
    },
    "longrope": {
        "factor": 4.0,
        "long_factor": [2.0] * 4,
        "original_max_position_embeddings": 64,
        "short_factor": [2.0] * 4,
    },
    "proportional": {"partial_rotary_factor": 0.5},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 64},
}
# Settings that only other kinds than the default one have.
UNUSED: Json = {
    **KINDS["longrope"],
    **KINDS["llama3"],
    "attention_factor": 2.0,
    "beta_fast": 16,
    "beta_slow": 2,
    "mscale": 2.0,
    "mscale_all_dim": 2.0,
    "truncate": False,
}
SPELLINGS = ("rope_scaling with type", "rope_scaling", "rope_parameters", "both")
MODELS = [model for model in BASES if model != "moondream"]


def spelled(model: str, settings: Json, spelling: str) -> Json:
    """The tiny config of `model` with rotary positions of these settings and a base of 100."""
    config = dict(BASES[model])
    text = dict(config["text_config"]) if "text_config" in config else config
    if text is not config:
        config["text_config"] = text
    old = [text.pop(key, None) for key in ("rope_scaling", "rope_theta", "rope_local_base_freq")]
    if sections := (old[0] or {}).get("mrope_section"):
        settings = settings | {"mrope_section": sections}
    of_kind = {"rope_type": "default", "rope_theta": 50.0}
    if spelling == "rope_parameters":
        saved = settings | {"rope_theta": 100.0}
        by_kind = {"full_attention": saved, "sliding_attention": of_kind}
        text["rope_parameters"] = by_kind if model.startswith("gemma3") else saved
        return config
    if spelling == "rope_scaling with type":
        settings = {("type" if key == "rope_type" else key): settings[key] for key in settings}
    text |= {"rope_scaling": settings, "rope_theta": 100.0}
    if spelling == "both" and not model.startswith("gemma3"):
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 100.0}
    return config


def test_every_kind_and_setting_of_transformers_is_known() -> None:
    assert KINDS.keys() == ROPE_INIT_FUNCTIONS.keys()
    read_or_refused = {"rope_type", "rope_theta", "mrope_section", "partial_rotary_factor"}
    assert RopeParameters.__annotations__.keys() <= UNUSED.keys() | read_or_refused


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_only_linear_positions_are_followed_and_others_refused(
    model: str, kind: str, spelling: str
) -> None:
    config = spelled(model, {"rope_type": kind, **KINDS[kind]}, spelling)
    if model.startswith("gemma3") and spelling == "rope_scaling with type":
        expected = "rename type to rope_type"  # transformers takes it for the default kind
    elif kind == "linear":
        return assert_equal_logits(config)
    else:
        expected = f"rope_.* is of kind {kind}, but only .*linear"
    with pytest.raises(UserError, match=expected):
        read(config)


@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("model", MODELS)
def test_settings_of_other_kinds_change_nothing(model: str, spelling: str) -> None:
    assert_equal_logits(spelled(model, {"rope_type": "default", **UNUSED}, spelling))


@pytest.mark.parametrize("model", MODELS)
def test_heads_that_rotate_in_part_are_refused(model: str) -> None:
    settings = {"rope_type": "default", "partial_rotary_factor": 0.5}
    for spelling in ("rope_scaling", "rope_parameters"):
        with pytest.raises(UserError, match=r"partial_rotary_factor is 0\.5"):
            read(spelled(model, settings, spelling))


@pytest.mark.parametrize("change", [{"rope_type": "linear", "factor": 8.0}, {"rope_theta": 1e6}])
def test_gemmas_positions_are_those_of_a_kind_of_layer(change: Json) -> None:
    """Linear positions of sliding layers, or one object for all layers, are refused."""
    config = spelled("gemma3", {"rope_type": "default"}, "rope_parameters")
    text = config["text_config"]
    if "rope_type" in change:
        text["rope_parameters"]["sliding_attention"] = change
    else:
        text["rope_parameters"] = change
    with pytest.raises(UserError, match="rope_parameters"):
        read(config)
