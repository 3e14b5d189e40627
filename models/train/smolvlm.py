"""SmolVLM (Idefics3) at toy size: its geometry, prompt and forward pass in pieces.

Every layer of the real model is here, narrower: SigLIP tower, pixel shuffle, projection, Llama
decoder with grouped key/value heads. NOT aware of tasks or training; the files are in
smolvlm_files.
"""

from typing import cast

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Idefics3Config, Idefics3ForConditionalGeneration

from models.train import smolvlm_files as files
from models.train.family import Family, Prompt
from models.train.tokenizer import train_tokenizer

PROMPT = Prompt(
    before_image="<|im_start|>User:<fake_token_around_image><global-img>",
    image_token="<image>",
    after_image="<fake_token_around_image>",
    question="{question}<end_of_utterance>\nAssistant:",
    answer=" {answer}<end_of_utterance>",
)
PARAGRAPH = "\n\n"
"""One token, as SmolLM2 has it: llama.cpp's own reading of images looks it up."""


def tokenizer(texts: list[str]) -> Tokenizer:
    return train_tokenizer(
        [*texts, *[PARAGRAPH] * len(texts)],
        size=files.VOCABULARY,
        first=files.FIRST_TOKENS,
        last=files.LAST_TOKENS,
    )


def build(tokenizer: Tokenizer) -> nn.Module:
    """A freshly initialised model; draws from torch's global generator."""
    config = Idefics3Config(**files.config(tokenizer))
    model: nn.Module = Idefics3ForConditionalGeneration(config)
    return model.float()


def image_tokens(model: nn.Module, pixels: Tensor) -> Tensor:
    """(batch, 3, 64, 64) in [-1, 1] to (batch, 16, width).

    transformers looks each patch's position up by where it lies in an image that may be padded;
    here none is, and the positions are the patches' own.
    """
    inner = _idefics3(model).model
    tower = inner.vision_model
    patches = tower.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
    placed = patches + tower.embeddings.position_embedding.weight
    states = tower.encoder(inputs_embeds=placed, attention_mask=None).last_hidden_state
    return cast(Tensor, inner.connector(tower.post_layernorm(states)))


def embed(model: nn.Module, ids: Tensor) -> Tensor:
    return cast(Tensor, _idefics3(model).model.text_model.embed_tokens(ids))


def hidden(model: nn.Module, embeddings: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    output = _idefics3(model).model.text_model(
        inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False
    )
    return cast(Tensor, output.last_hidden_state)


def logits(model: nn.Module, hidden: Tensor) -> Tensor:
    return cast(Tensor, _idefics3(model).lm_head(hidden))


def _idefics3(model: nn.Module) -> Idefics3ForConditionalGeneration:
    return cast(Idefics3ForConditionalGeneration, model)


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
)
