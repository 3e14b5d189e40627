"""Gemma 3 in torch and in ONNX Runtime computes what transformers computes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from tiny_models import GEMMA3_CASES, IMAGE_TOKEN, FromTorch, hf_model, tiny_artifact, tiny_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from export.artifact import Artifact
from export.count import decoder_counts, vision_counts
from export.model import Model
from export.torch.attention import GrowingCache, GrowingState
from export.torch.run import Run, resident
from runtimes.session.images import image_ids, place_features

# Images between text, and words behind them: longer than every tiny window of attention.
PROMPTS = {
    "no image": (0, 3),
    "one image": (1, 3),
    "two images": (2, 3),
    "text past the window": (0, 50),
    "two images, then text past the window": (2, 50),
}
RELATIVE = {"fp32": 1e-4, "fp16": 5e-3, "int8": 0.1, "int4": 0.8}


def ids_of(images: int, words: int, per_image: int) -> np.ndarray:
    ids = [2, 5]
    for _ in range(images):
        ids += [*[IMAGE_TOKEN] * per_image, 7, 11]
    rest = np.random.default_rng(words).integers(3, 390, words)
    return np.array([*ids, *rest], np.int64)


def pixels_of(model: Model, images: int) -> torch.Tensor:
    edge = model.vlm.vision.tower.image_size
    generator = torch.Generator().manual_seed(images)
    return torch.randn(images, 3, edge, edge, generator=generator)


def expected(hf: PreTrainedModel, ids: np.ndarray, pixels: torch.Tensor) -> np.ndarray:
    batch = torch.from_numpy(ids)[None]
    kwargs = {"pixel_values": pixels} if len(pixels) else {}
    types = (batch == IMAGE_TOKEN).long()
    return hf(input_ids=batch, token_type_ids=types, **kwargs).logits[0].numpy()


class InTorch:
    """The reference, with the arrays that a session would make."""

    def __init__(self, model: Model, hf: PreTrainedModel) -> None:
        self.vlm = model.vlm
        self.parameter, self.cache = resident(FromTorch(hf)), GrowingCache()

    def features(self, pixels: torch.Tensor) -> np.ndarray:
        return self.vlm.vision.forward(Run(self.parameter), pixels).flatten(0, 1).numpy()

    def logits(self, ids: np.ndarray, numbers: np.ndarray, features: np.ndarray) -> np.ndarray:
        text, past = self.vlm.text, len(numbers) - len(ids)
        embeds = text.embed(Run(self.parameter), torch.from_numpy(ids)).numpy()
        place_features(embeds, ids, features, IMAGE_TOKEN)
        state = GrowingState(self.cache, past, torch.from_numpy(numbers), keep=0)
        ops = Run(self.parameter, state=state)
        return text.forward(ops, torch.from_numpy(embeds)[None])[0][0].numpy()


class InOnnx:
    """The three graphs, with the cache handed from call to call."""

    def __init__(self, artifact: Artifact) -> None:
        self.text = artifact.manifest.vlm.text
        self.vision, self.embed, self.decoder = (
            ort.InferenceSession(artifact.path / artifact.manifest.components[part][0])
            for part in ("vision", "embedding", "decoder")
        )
        self.cache: list[np.ndarray] = []

    def features(self, pixels: torch.Tensor) -> np.ndarray:
        found = self.vision.run(None, {"pixel_values": pixels.numpy()})[0]
        return found.reshape(-1, self.text.hidden)

    def logits(self, ids: np.ndarray, numbers: np.ndarray, features: np.ndarray) -> np.ndarray:
        embeds = self.embed.run(None, {"input_ids": ids[None]})[0]
        place_features(embeds[0], ids, features, IMAGE_TOKEN)
        feed = {
            "inputs_embeds": embeds,
            "attention_mask": np.ones((1, len(numbers)), np.int64),
            "image_numbers": numbers[None],
            "num_logits_to_keep": np.array(0),
        }
        if len(numbers) == len(ids):
            empty = np.zeros((1, self.text.kv_heads, 0, self.text.head_dim), np.float32)
            self.cache = [empty] * (2 * self.text.layers)
        names = [f"past_key_values.{i}.{k}" for i in range(self.text.layers) for k in KINDS]
        logits, *self.cache = self.decoder.run(
            None, feed | dict(zip(names, self.cache, strict=True))
        )
        return logits[0]


KINDS = ("key", "value")


def computed(
    subject: InTorch | InOnnx, ids: np.ndarray, pixels: torch.Tensor, steps: object = ((0, 999),)
) -> np.ndarray:
    """Logits of every position, prefilled in one or several steps."""
    numbers, parts = np.zeros(256, np.int64), []
    rest = subject.features(pixels) if len(pixels) else np.zeros((0, 1), np.float32)
    for start, stop in steps:
        new = ids[start:stop]
        if len(new):
            known = image_ids(numbers, new, rest, start, IMAGE_TOKEN)
            parts.append(subject.logits(new, known, rest))
            rest = rest[np.count_nonzero(new == IMAGE_TOKEN) :]
    return np.concatenate(parts)


def subjects(case: str, recipe: str, folder: Path) -> tuple[PreTrainedModel, Model, InOnnx]:
    hf = hf_model(case)
    model = tiny_model(hf)
    return hf, model, InOnnx(tiny_artifact(model, "onnx", recipe, folder))


@pytest.mark.parametrize("case", GEMMA3_CASES)
def test_run_gives_the_logits_of_transformers(case: str) -> None:
    hf = hf_model(case)
    model = tiny_model(hf)
    for images, words in PROMPTS.values():
        ids, pixels = (
            ids_of(images, words, model.vlm.vision.tokens_per_tile),
            pixels_of(model, images),
        )
        wanted = expected(hf, ids, pixels)
        found = computed(InTorch(model, hf), ids, pixels)
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("recipe", RELATIVE)
@pytest.mark.parametrize("case", GEMMA3_CASES)
def test_graphs_give_the_logits_of_transformers(case: str, recipe: str, tmp_path: Path) -> None:
    hf, model, subject = subjects(case, recipe, tmp_path)
    for images, words in PROMPTS.values():
        ids, pixels = (
            ids_of(images, words, model.vlm.vision.tokens_per_tile),
            pixels_of(model, images),
        )
        wanted, found = expected(hf, ids, pixels), computed(subject, ids, pixels)
        assert np.abs(found - wanted).max() <= RELATIVE[recipe] * np.abs(wanted).max()


@pytest.mark.parametrize("case", GEMMA3_CASES)
def test_steps_equal_one_long_prefill(case: str, tmp_path: Path) -> None:
    hf, model, in_onnx = subjects(case, "fp32", tmp_path)
    for images in (0, 2):
        ids, pixels = ids_of(images, 50, model.vlm.vision.tokens_per_tile), pixels_of(model, images)
        wanted = expected(hf, ids, pixels)
        for subject in (InTorch(model, hf), in_onnx):
            found = computed(subject, ids, pixels, cuts(ids))
            assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def cuts(ids: np.ndarray) -> list[tuple[int, int]]:
    """Steps that split text anywhere, but no image (its first rows could not see the rest)."""
    images = np.flatnonzero(ids == IMAGE_TOKEN)
    first = int(images[-1]) + 1 if len(images) else 20
    return [(0, 2), (2, first), (first, first + 1), (first + 1, first + 9), (first + 9, len(ids))]


@pytest.mark.parametrize("case", GEMMA3_CASES)
def test_counted_flops_are_those_torch_counts(case: str) -> None:
    hf = hf_model(case)
    subject = InTorch(tiny_model(hf), hf)
    vlm = subject.vlm
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as vision:
        edge = vlm.vision.tower.image_size
        subject.features(torch.zeros(2, 3, edge, edge))
    assert vision_counts(vlm, tiles=2).flops == vision.get_total_flops()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as step:
        vlm.text.forward(Run(subject.parameter), torch.zeros(1, 1, vlm.text.hidden))
    assert decoder_counts(vlm, new=1).flops == step.get_total_flops()


def test_a_local_layer_counts_no_more_than_its_window() -> None:
    vlm = tiny_model(hf_model("five local layers to a global one")).vlm
    near, far = (decoder_counts(vlm, new=1, past=past).flops for past in (100, 200))
    assert far - near == 4 * 100 * vlm.text.heads * vlm.text.head_dim  # of the one global layer


@pytest.mark.parametrize("recipe", RELATIVE)
def test_graphs_are_fused(recipe: str, tmp_path: Path) -> None:
    model = tiny_model(hf_model("five local layers to a global one"))
    artifact = tiny_artifact(model, "onnx", recipe, tmp_path)
    graph = onnx.load(artifact.path / "decoder_model_merged.onnx", load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    layers = model.vlm.text.layers
    assert kinds.count("GroupQueryAttention") == layers
    assert kinds.count("SkipSimplifiedLayerNormalization") == 2 * layers
    assert kinds.count("SimplifiedLayerNormalization") == 4 * layers + 1
    assert kinds.count("Where") == 2  # one bias for the local layers, one for the global ones
    assert kinds.count("Split") == 2 * layers
