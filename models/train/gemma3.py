"""Gemma 3 at toy size: its geometry, prompt and forward pass in pieces.

Every layer of the real model is here, narrower: SigLIP tower, average pool, projection, Gemma
decoder with five local layers to a global one. NOT aware of tasks or training; the files are in
gemma3_files.
"""

from typing import cast

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from models.train import gemma3_files as files
from models.train.family import Family, Prompt
from models.train.sentencepiece import train_tokenizer

PROMPT = Prompt(
    before_image="<bos><start_of_turn>user\n\n\n<start_of_image>",
    image_token="<image_soft_token>",
    after_image="<end_of_image>\n\n",
    question="{question}<end_of_turn>\n<start_of_turn>model\n",
    answer="{answer}<end_of_turn>",
)


def tokenizer(texts: list[str]) -> Tokenizer:
    return train_tokenizer(
        texts, size=files.VOCABULARY, first=files.FIRST_TOKENS, last=files.LAST_TOKENS
    )


def build(tokenizer: Tokenizer) -> nn.Module:
    """A freshly initialised model; draws from torch's global generator."""
    model = Gemma3ForConditionalGeneration(Gemma3Config(**files.config(tokenizer)))
    # transformers starts the projection at zero: a checkpoint always overwrites it.
    weight = model.model.multi_modal_projector.mm_input_projection_weight
    nn.init.normal_(weight, std=weight.shape[0] ** -0.5)
    made: nn.Module = model.float()
    return made


def image_tokens(model: nn.Module, pixels: Tensor) -> Tensor:
    """(batch, 3, 64, 64) in [-1, 1] to (batch, 16, width)."""
    inner = _gemma3(model).model
    patches = inner.vision_tower(pixel_values=pixels).last_hidden_state
    return cast(Tensor, inner.multi_modal_projector(patches))


def embed(model: nn.Module, ids: Tensor) -> Tensor:
    return cast(Tensor, _gemma3(model).model.language_model.embed_tokens(ids))


def hidden(model: nn.Module, embeddings: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    text = _gemma3(model).model.language_model
    # Positions restart at each question, so a window is counted in them, not in places.
    is_far = positions[:, None, :, None] - positions[:, None, None, :] >= files.WINDOW
    local = mask.masked_fill(is_far, float("-inf"))
    output = text(
        inputs_embeds=embeddings,
        attention_mask={"full_attention": mask, "sliding_attention": local},
        position_ids=positions,
        use_cache=False,
    )
    return cast(Tensor, output.last_hidden_state)


def logits(model: nn.Module, hidden: Tensor) -> Tensor:
    return cast(Tensor, _gemma3(model).lm_head(hidden))


def _gemma3(model: nn.Module) -> Gemma3ForConditionalGeneration:
    return cast(Gemma3ForConditionalGeneration, model)


FAMILY = Family(
    prompt=PROMPT,
    image_size=files.IMAGE_SIZE,
    grid=files.GRID,
    width=files.WIDTH,
    tokenizer=tokenizer,
    build=build,
    image_tokens=image_tokens,
    embed=embed,
    hidden=hidden,
    logits=logits,
    write=files.write,
    sees_itself="image",
)
