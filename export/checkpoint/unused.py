"""Finds what a checkpoint folder holds and an export leaves out: adapters, settings of decoding."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from export.errors import UserError
from export.files import few, inside, read_json, short

ADAPTER_CONFIG = "adapter_config.json"
MERGE = "merge it into its model (PEFT: model.merge_and_unload(), then save_pretrained)"

DECODING: Mapping[str, object] = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "sequence_bias": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "force_words_ids": None,
    "constraints": None,
    "min_length": 0,
    "min_new_tokens": 0,
    "exponential_decay_length_penalty": None,
    "guidance_scale": 1.0,
    "watermarking_config": None,
    "penalty_alpha": 0.0,
    "dola_layers": None,
    "num_beams": 1,
    "stop_strings": None,
}
"""Settings that change the answers of transformers' `generate` without sampling -> the value that
changes nothing, besides null (transformers.generation.utils, _get_logits_processor)."""


def unused(folder: Path, config: Mapping[str, Any], generation: str) -> tuple[str, ...]:
    """Returns a line for each thing that transformers would use and an export does not.

    `config` is the content of config.json, `generation` the name of the file of settings. Raises
    UserError for such a file that is damaged.
    """
    return (*_adapter(folder), *_decoding(folder, config, generation))


def expect_model(folder: Path, config: str) -> None:
    """Raises UserError for a folder that holds an adapter without its model.

    `config` is the name of the file that a model's folder has.
    """
    if inside(folder, config).exists() or not inside(folder, ADAPTER_CONFIG).exists():
        return
    base = read_json(folder, ADAPTER_CONFIG).get("base_model_name_or_path")
    of = f" of {short(base)}" if isinstance(base, str) and base else ""
    raise UserError(
        f"{folder}: holds only an adapter{of} ({ADAPTER_CONFIG}), no {config} and no model; "
        f"{MERGE} and export that folder"
    )


def _adapter(folder: Path) -> Iterator[str]:
    if inside(folder, ADAPTER_CONFIG).exists():
        yield (
            f"the adapter beside the weights ({ADAPTER_CONFIG}) is not in the export, though "
            f"transformers loads it with peft; to have it, {MERGE}"
        )


def _decoding(folder: Path, config: Mapping[str, Any], generation: str) -> Iterator[str]:
    """Yields a line if answers are to be decoded otherwise than by the most probable token."""
    where, settings = "config.json", config
    if inside(folder, generation).exists():
        where, settings = generation, read_json(folder, generation)
    changed = {
        name: settings[name]
        for name, neutral in DECODING.items()
        if name in settings and settings[name] not in (None, neutral, [], {})
    }
    if changed:
        shown = few((f"{name} {short(str(value), 40)}" for name, value in changed.items()), 6)
        yield (
            f"answers are decoded without {shown} of {where}, which transformers applies also "
            f"without sampling"
        )
