"""What a bundle says of its model to LiteRT-LM's runner: tokens, prompt, images, masks, cache."""

import re
from typing import Any

from export.families import FAMILIES
from export.litert.attention import cache_name
from export.litert.lengths import cached_positions
from export.litert.library import executor_metadata, llm_metadata
from export.model import Model
from export.modeling.vision import TileVision
from export.prompts import Prompt

CACHE_AXIS = 2
"""The axis of positions in a buffer of keys or values."""


def of_model(model: Model) -> Any:
    """Returns the message LlmMetadata: what the runner needs to make a prompt and end an answer."""
    found = llm_metadata.LlmMetadata(max_num_tokens=cached_positions(model.vlm))
    for token in model.vlm.stop_token_ids:
        found.stop_tokens.add().token_ids.ids.append(token)
    if model.template is not None:
        found.jinja_prompt_template = model.template.source
        # The runner renders `bos_token` as nothing, and puts its start token before the prompt.
        if "bos_token" in model.template.source and model.vlm.bos_token_id is not None:
            found.start_token.token_ids.ids.append(model.vlm.bos_token_id)
    _describe_images(model, found.llm_model_type.generic_model)
    return found


def _describe_images(model: Model, message: Any) -> None:
    """Says how large an image is, what stands for it in a prompt, and what is put around it."""
    message.image_enabled = isinstance(model.vlm.vision, TileVision)
    if not isinstance(model.vlm.vision, TileVision):
        return
    assert isinstance(model.prompt, Prompt)
    before, _, after = model.prompt.single.partition("{tokens}")
    pattern = re.escape(FAMILIES[model.vlm.family].image_in_template)
    message.delimiter_regex, message.image_token_regex = f"({pattern})", pattern
    message.image_tensor_height = message.image_tensor_width = model.vlm.vision.tower.image_size
    message.image_prefix, message.image_suffix = before, after


def of_decoder(model: Model) -> Any:
    """Returns the message ExecutorMetadata: the cache's buffers, and who attends to whom."""
    found = executor_metadata.ExecutorMetadata()
    decoder, positions = found.llm_executor_metadata, cached_positions(model.vlm)
    kinds = {
        "k": executor_metadata.StateBuffer.TYPE_GLOBAL_KEY_CACHE,
        "v": executor_metadata.StateBuffer.TYPE_GLOBAL_VALUE_CACHE,
    }
    for layer in range(model.vlm.text.layers):
        for kind, type_ in kinds.items():
            name = cache_name(kind, layer)
            decoder.state_buffers.add(
                prefill_input_name=name,
                prefill_output_name=name,
                decode_input_name=name,
                decode_output_name=name,
                type=type_,
                sequence_axis=CACHE_AXIS,
                maximum_sequence_length=positions,
            )
    decoder.max_history_size = positions
    decoder.attention_mask_settings.attention_mask_type = (
        executor_metadata.ATTENTION_MASK_TYPE_VISION_BIDIRECTIONAL
        if model.vlm.text.sees_later_positions
        else executor_metadata.ATTENTION_MASK_TYPE_CAUSAL
    )
    return found
