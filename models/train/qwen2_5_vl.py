"""Qwen2.5-VL at toy size: its geometry, prompt and forward pass in pieces.

Every layer of the real model is here, narrower: a tower with rotary positions, windows and two
layers without, the merger, and a decoder with three-axis positions. NOT aware of tasks or
training; the files are in qwen2_5_vl_files.
"""

from typing import Any, cast

import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from models.train import qwen2_5_vl_files as files
from models.train.family import Family, Prompt
from models.train.tokenizer import train_tokenizer

SYSTEM = "You are a helpful assistant."
PROMPT = Prompt(
    before_image=f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n<|vision_start|>",
    image_token="<|image_pad|>",
    after_image="<|vision_end|>",
    question="{question}<|im_end|>\n<|im_start|>assistant",
    # The line end is learnt, too: some clients leave it to the model, which writes it itself.
    answer="\n{answer}<|im_end|>",
)
BEFORE_IMAGE = 15
"""Tokens of the prompt before the image, on which the image's positions depend."""
# Qwen2's, as its tokenizer.json has it.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer(texts: list[str]) -> Tokenizer:
    made = train_tokenizer(
        [*texts, *["system", "user", "assistant", SYSTEM] * 1000],
        size=files.TOKENS,
        first=(),
        last=files.LAST_TOKENS,
        words=pre_tokenizers.Split(Regex(WORDS), "isolated"),
    )
    made.normalizer = normalizers.NFC()
    before = len(made.encode(PROMPT.before_image).ids)
    if before != BEFORE_IMAGE:
        raise ValueError(f"{before} tokens stand before the image, expected {BEFORE_IMAGE}")
    return made


def build(tokenizer: Tokenizer) -> nn.Module:
    """A freshly initialised model; draws from torch's global generator."""
    model: nn.Module = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(**files.config(tokenizer))
    )
    return model.float()


def image_tokens(model: nn.Module, pixels: Tensor) -> Tensor:
    """(batch, 3, 64, 64) in [-1, 1] to (batch, 16, width).

    transformers attends to one window after another; here all images are one batch, which is the
    same, since an image is one window.
    """
    tower = _qwen(model).model.visual
    x = tower.patch_embed(_patches(pixels)).view(len(pixels), -1, files.WIDTH)
    turn = _turn(x)
    for block in tower.blocks:
        x = x + _attended(block.attn, block.norm1(x), turn)
        x = x + block.mlp(block.norm2(x))
    return cast(Tensor, tower.merger(x.flatten(0, 1))).view(len(pixels), -1, files.WIDTH)


def embed(model: nn.Module, ids: Tensor) -> Tensor:
    return cast(Tensor, _qwen(model).model.language_model.embed_tokens(ids))


def hidden(model: nn.Module, embeddings: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    output = _qwen(model).model.language_model(
        inputs_embeds=embeddings,
        attention_mask={"full_attention": mask},
        position_ids=three_axes(positions),
        use_cache=False,
    )
    return cast(Tensor, output.last_hidden_state)


def logits(model: nn.Module, hidden: Tensor) -> Tensor:
    return cast(Tensor, _qwen(model).lm_head(hidden))


def three_axes(places: Tensor) -> Tensor:
    """Places (batch, length) in the prompt to positions (3, batch, length): time, row, column.

    All tokens of the image have one time; what follows goes on from the image's longer edge.
    """
    cells = files.GRID**2
    cell = places - BEFORE_IMAGE
    is_image = (cell >= 0) & (cell < cells)
    after = torch.where(cell >= cells, places - cells + files.GRID, places)
    axes = (torch.zeros_like(cell), cell // files.GRID, cell % files.GRID)
    return torch.stack([torch.where(is_image, BEFORE_IMAGE + axis, after) for axis in axes])


def _patches(pixels: Tensor) -> Tensor:
    """What the image processor makes of images: (batch * 64, 3 * 2 * 14 * 14), by squares of 2."""
    scaled = interpolate(
        pixels * 0.5 + 0.5, (files.IMAGE_SIZE,) * 2, mode="bicubic", antialias=True
    )
    # One channel after another, with plain numbers: a tensor of them would have to be copied to
    # the device in each step.
    channels = zip(files.PREPROCESSOR["image_mean"], files.PREPROCESSOR["image_std"], strict=True)
    values = torch.stack(
        [(scaled[:, n].clamp(0, 1) - mean) / std for n, (mean, std) in enumerate(channels)], dim=1
    )
    size, merge, grid = files.PATCH_SIZE, files.MERGE, files.GRID
    cut = values.reshape(-1, 3, 1, grid, merge, size, grid, merge, size).expand(
        -1, -1, files.FRAMES, -1, -1, -1, -1, -1, -1
    )  # (batch, channel, frame, row, row in square, y, column, column in square, x)
    rows = cut.permute(0, 3, 6, 4, 7, 1, 2, 5, 8)
    return rows.reshape(-1, 3 * files.FRAMES * size * size)


def _turn(x: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (patches, head width) of the patches' rows and columns."""
    merge, grid, head = files.MERGE, files.GRID, files.WIDTH // files.HEADS
    edge = torch.arange(grid * merge, device=x.device)
    rows, columns = torch.meshgrid(edge, edge, indexing="ij")
    placed = torch.stack([rows, columns], -1).view(grid, merge, grid, merge, 2)
    placed = placed.transpose(1, 2).reshape(-1, 2)  # in the order of the patches
    frequencies = 1e4 ** -(torch.arange(0, head // 2, 2, device=x.device) / (head // 2))
    angles = (placed[:, :, None] * frequencies).flatten(1).repeat(1, 2)
    return angles.cos().to(x), angles.sin().to(x)


def _attended(attention: Any, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Every patch of an image attends to every other: (batch, patches, width)."""
    batch, patches, _ = x.shape
    query, key, value = attention.qkv(x).view(batch, patches, 3, files.HEADS, -1).unbind(2)
    query, key = apply_rotary_pos_emb_vision(query, key, *turn)  # type: ignore[no-untyped-call]
    parts = (part.transpose(1, 2) for part in (query, key, value))
    return cast(
        Tensor, attention.proj(scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))
    )


def _qwen(model: nn.Module) -> Qwen2_5_VLForConditionalGeneration:
    return cast(Qwen2_5_VLForConditionalGeneration, model)


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
