"""Moondream's description: numbers, names, recipes, and what is refused."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_moondream as tiny
import torch
from tiny_models import tiny_artifact
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from export.checkpoint.registry import open_model
from export.count import decoder_counts, vision_counts
from export.errors import UserError
from export.families.moondream import MOONDREAM, PARTS
from export.families.section import Section
from export.model import Model
from export.modeling.vlm import shapes
from export.onnx.write import sizes
from export.quantize.recipe import RECIPES
from export.torch.run import Run, resident
from runtimes.base import Request, Session
from runtimes.onnxruntime.session import open_session
from runtimes.reference import open_session as open_reference

RELATIVE = {"fp32": 1e-4, "fp16": 5e-3, "int8": 0.1, "int4": 0.8}


@pytest.fixture(scope="module")
def model() -> Model:
    """With one kv head of two, which no released size has."""
    made = tiny.tiny_moondream("legacy")
    vlm = replace(made.vlm, text=replace(made.vlm.text, kv_heads=1))
    return replace(made, vlm=vlm, weights=tiny.Seeded(vlm))


def logits(session: Session, request: Request) -> np.ndarray:
    found = [event.logits for event in session.generate(request) if event.logits is not None]
    return np.stack(found)


@pytest.mark.parametrize("recipe", RELATIVE)
def test_graphs_give_the_references_logits_and_have_the_predicted_bytes(
    recipe: str, model: Model, tmp_path: Path
) -> None:
    answer = (5, 900, 50256, 7)
    image = tiny.noise(500, 400)
    asked = [
        Request("what?", (image,), answer=answer, arrays=True),
        Request("what?", answer=answer, arrays=True),
        Request("where?", (image,), answer=answer, arrays=True, region=(0.25, 0.5)),
        Request("where?", (image,), answer=answer, arrays=True, region=(0.25, 0.5, 0.75, 1)),
    ]
    artifact = tiny_artifact(model, "onnx", recipe, tmp_path)
    predicted = sizes(model, RECIPES[recipe], "native")
    assert {name: (tmp_path / name).stat().st_size for name in predicted} == dict(predicted)
    subject, reference = open_session(artifact, threads=1), open_reference(model, threads=1)
    for request in asked:
        wanted, found = logits(reference, request), logits(subject, request)
        assert np.abs(found - wanted).max() <= RELATIVE[recipe] * np.abs(wanted).max()


def test_steps_and_reused_positions_equal_one_long_prefill(model: Model, tmp_path: Path) -> None:
    image, long = tiny.noise(500, 400), "what is in it, and " * 3
    asked = [
        Request(long + "why?", (image,), answer=(5, 6), arrays=True, region=(0.25, 0.5)),
        # A longer common beginning, but for what its place's positions hold.
        Request(long + "why?", (image,), answer=(5, 6), arrays=True, region=(0.75, 0.5)),
        Request(long + "who?", (image,), answer=(5, 6, 7), arrays=True, region=(0.75, 0.5)),
        Request(long + "who?", answer=(5,), arrays=True),
    ]
    artifact = tiny_artifact(model, "onnx", "fp32", tmp_path)
    for session in (open_session(artifact, threads=1), open_reference(model, threads=1)):
        for request in asked:
            found = logits(session, request)
            fresh = logits(open_reference(model, threads=1), replace(request, reuse=False))
            assert np.abs(found - fresh).max() <= 1e-4 * np.abs(fresh).max()


def test_counted_flops_are_those_torch_counts(model: Model) -> None:
    vlm, ops = model.vlm, Run(resident(model.weights))
    edge, patches = vlm.vision.tower.image_size, vlm.vision.tower.patches
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as vision:
        vlm.vision.forward(ops, torch.zeros(2, 3, edge, edge))
        vlm.vision.crops.join(ops, torch.zeros(1, patches, 2 * vlm.vision.tower.hidden))
    assert vision_counts(vlm, tiles=2).flops == vision.get_total_flops()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as step:
        vlm.text.forward(ops, torch.zeros(1, 1, vlm.text.hidden))
    assert decoder_counts(vlm, new=1).flops == step.get_total_flops()


@pytest.mark.parametrize("recipe", RELATIVE)
def test_graphs_are_fused(recipe: str, model: Model, tmp_path: Path) -> None:
    artifact = tiny_artifact(model, "onnx", recipe, tmp_path)
    graph = onnx.load(artifact.path / "decoder_model_merged.onnx", load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    layers = model.vlm.text.layers
    assert kinds.count("GroupQueryAttention") == layers
    assert kinds.count("SkipLayerNormalization") == layers
    assert kinds.count("LayerNormalization") == 1
    assert kinds.count("Where") == 1  # one bias for all layers


# Keys of answers with a chain of thought, and keys that prompts read.
NOT_NUMBERS = (
    *("thinking_id", "coord_id", "size_id", "start_ground_points_id", "end_ground_id"),
    *("templates", "answer_id"),
)


@pytest.mark.parametrize(
    ("part", "key"),
    [(part, key) for part, keys in PARTS.items() for key in keys if key not in NOT_NUMBERS],
)
def test_every_number_of_the_authors_config_is_read(part: str, key: str) -> None:
    config = {"model_type": "moondream1", "config": {part: {key: "x"}}}
    with pytest.raises(UserError, match=rf'{part}\.{key} is "x"'):
        MOONDREAM.read(Section(config, "config.json"))


def test_the_real_sizes_have_as_many_parameters_as_the_authors() -> None:
    for name, parameters in (("moondream-2b", 1_927_237_104), ("moondream-0.5b", 631_889_382)):
        model = open_model(name, weights="synthetic")
        assert sum(np.prod(shape) for shape in shapes(model.vlm).values()) == parameters


@pytest.mark.parametrize("prefix", ["model.", ""], ids=["the wrapper's names", "the author's own"])
def test_a_checkpoint_gives_every_canonical_tensor(prefix: str, tmp_path: Path) -> None:
    tiny.save(tmp_path, prefix)
    wanted = tiny.tiny_moondream("legacy").weights
    found = open_model(str(tmp_path)).weights
    for name, shape in found.shapes().items():
        np.testing.assert_array_equal(found.read(name), wanted.read(name))
        part = slice(1, max(2, shape[0] // 2))
        rows = found.read(name, part.start, part.stop)
        np.testing.assert_array_equal(rows, wanted.read(name)[part])


Change = Callable[[dict[str, Any]], object]
BROKEN: Mapping[str, tuple[Change, str]] = {
    "a quantized text model": (
        lambda c: c["text"].update(group_size=128),
        "text.group_size is 128, but only None is supported",
    ),
    "another prefix": (
        lambda c: c["text"].update(prefix_attn=10),
        "text.prefix_attn is 10, but only 730 is supported",
    ),
    "a width of region heads": (
        lambda c: c["region"].update(dim=64),
        "region.dim is 64, but only 128 is supported",
    ),
    "a margin of half a crop": (
        lambda c: c["vision"].update(overlap_margin=14),
        "does not fit crops of 27 patches along an edge",
    ),
    "the other generation's begin": (
        lambda c: c.update(tokenizer={"bos_id": 0, "eos_id": 0}),
        "id 0 is not a special token, but config.json has it as bos_token_id",
    ),
    "a template that is no list of ids": (
        lambda c: c.update(tokenizer={"templates": {"caption": {"normal": ["a"]}}}),
        'config.tokenizer.templates.caption.normal is ["a"], expected a list of integers',
    ),
    "a template beyond the vocabulary": (
        lambda c: c.update(tokenizer={"templates": {"caption": {"normal": [1, 10**6]}}}),
        "the template of caption has the id 1000000, but the vocabulary has",
    ),
    "parts that are no object": (lambda c: c.update(text=3), "text is 3, expected an object"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    change, message = BROKEN[case]
    content = json.loads(json.dumps(tiny.config("legacy")))
    change(content["config"])
    (tmp_path / "config.json").write_text(json.dumps(content))
    for name, data in tiny.tiny_moondream("legacy").files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as raised:
        open_model(str(tmp_path), weights="synthetic")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
