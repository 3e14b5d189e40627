"""The torch interpreter computes what transformers computes."""

import numpy as np
import pytest
import torch
from tiny_models import CASES, IMAGE_TOKEN, FromTorch, hf_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from export.count import decoder_counts, vision_counts
from export.families import family_of
from export.families.section import Section
from export.modeling.vlm import Vlm
from export.torch.attention import GrowingCache, GrowingState
from export.torch.run import Run, resident, streaming

# Image tokens between text: none, one tile, three tiles of two images.
PROMPTS = {"no image": (0,), "one tile": (1,), "two images": (2, 1)}


def ids_of(tiles: tuple[int, ...], per_tile: int) -> torch.Tensor:
    ids = [1, 5]
    for count in tiles:
        ids += [IMAGE_TOKEN] * (count * per_tile) + [7, 11]
    return torch.tensor([[*ids, 13, 17]])


def expected(model: PreTrainedModel, ids: torch.Tensor, pixels: torch.Tensor) -> np.ndarray:
    kwargs = {}
    if len(pixels):
        mask = torch.ones(1, len(pixels), *pixels.shape[-2:], dtype=torch.bool)
        kwargs = {"pixel_values": pixels[None], "pixel_attention_mask": mask}
    return model(input_ids=ids, **kwargs).logits.numpy()


def embedded(ops: Run, vlm: Vlm, ids: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    embeds = vlm.text.embed(ops, ids)
    if len(pixels):
        embeds[ids == IMAGE_TOKEN] = vlm.vision.forward(ops, pixels).flatten(0, 1)
    return embeds


def vlm_of(model: PreTrainedModel) -> Vlm:
    config = model.config.to_dict()
    return family_of(config, "config.json").read(Section(config, "config.json"))


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("case", CASES)
def test_run_gives_the_logits_of_transformers(case: str, prompt: str) -> None:
    model = hf_model(case)
    vlm = vlm_of(model)
    tiles = PROMPTS[prompt]
    pixels = torch.randn(sum(tiles), 3, vlm.vision.tower.image_size, vlm.vision.tower.image_size)
    ids = ids_of(tiles, vlm.vision.tokens_per_tile)
    ops = Run(resident(FromTorch(model)), state=GrowingState(keep=0))
    found = vlm.text.forward(ops, embedded(ops, vlm, ids, pixels))[0].numpy()
    wanted = expected(model, ids, pixels)
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_decoding_in_steps_equals_one_long_prefill() -> None:
    model = hf_model("grouped heads")
    vlm, ids = vlm_of(model), torch.randint(3, 390, (1, 40))
    parameter, cache = streaming(FromTorch(model)), GrowingCache()
    embeds = vlm.text.embed(Run(parameter), ids)
    whole, _ = vlm.text.forward(Run(parameter, state=GrowingState(keep=0)), embeds)
    parts = []
    for start, stop in ((0, 20), (20, 21), (21, 40)):
        ops = Run(parameter, state=GrowingState(cache, start, keep=0))
        parts.append(vlm.text.forward(ops, embeds[:, start:stop])[0])
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-5)


@pytest.mark.parametrize("case", ["grouped heads", "scale 3, positions divided by 4"])
def test_counted_flops_are_those_torch_counts(case: str) -> None:
    model = hf_model(case)
    vlm = vlm_of(model)
    ops = Run(resident(FromTorch(model)))
    # On a CPU torch does not count its fused attention kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as vision:
        edge = vlm.vision.tower.image_size
        vlm.vision.forward(ops, torch.zeros(2, 3, edge, edge))
    assert vision_counts(vlm, tiles=2).flops == vision.get_total_flops()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as step:
        vlm.text.forward(ops, torch.zeros(1, 1, vlm.text.hidden))
    assert decoder_counts(vlm, new=1).flops == step.get_total_flops()
