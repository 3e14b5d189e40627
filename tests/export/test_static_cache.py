"""torch.export takes the reference with a static cache, and computes what the growing one does."""

import numpy as np
import pytest
import torch
from tiny_models import hf_model, tiny_model
from tiny_moondream import tiny_moondream

from export.model import Model
from export.modeling.vision import TileVision
from export.torch.attention import GrowingCache, GrowingState, StaticCache
from export.torch.modules import DecoderModule, EmbeddingModule, TensorBuffers, TileModule
from export.torch.run import Run, resident

CASES = {
    "smolvlm": "grouped heads",
    "gemma3": "a window narrower than an image",
    "gemma3, text only": "text alone, a window of 5",
    "qwen2_5_vl": "windows of 2 x 2 squares",
    "moondream": None,
}
LENGTH, PROMPT = 64, 40
STEPS = ((0, PROMPT), (PROMPT, PROMPT + 1), (PROMPT + 1, PROMPT + 7))


@pytest.fixture(scope="module", params=CASES)
def model(request: pytest.FixtureRequest) -> Model:
    case = CASES[request.param]
    return tiny_moondream("legacy") if case is None else tiny_model(hf_model(case))


def image_ids(model: Model) -> torch.Tensor:
    """Two images in the prompt; of a prefix, one at its beginning."""
    ids = torch.zeros(LENGTH, dtype=torch.int64)
    if model.vlm.text.prefix:
        ids[:12] = 1
    else:
        ids[3:12], ids[15:24] = 1, 2
    return ids


def positions() -> torch.Tensor:
    """Time, row and column that differ: [3, LENGTH]."""
    index = torch.arange(LENGTH)
    return torch.stack([index, index // 2 + 3, index % 5 + 1])


def exported(model: Model) -> torch.export.ExportedProgram:
    text = model.vlm.text
    parts = ("decoder", *(("embedding",) if text.tied else ()))
    weights = TensorBuffers(model.weights, parts)
    module = DecoderModule(model.vlm, weights, StaticCache(text, LENGTH)).eval()
    new = torch.export.Dim("new", min=1, max=LENGTH - 1)
    inputs = [torch.zeros(1, 5, text.hidden), torch.arange(5)]
    shapes: list[object] = [{1: new}, {0: new}]
    inputs.append(positions()[:, :5] if text.rope_sections else None)
    shapes.append({1: new} if text.rope_sections else None)
    inputs.append(image_ids(model) if text.sees_later_positions else None)
    shapes.append({} if text.sees_later_positions else None)
    return torch.export.export(module, tuple(inputs), dynamic_shapes=tuple(shapes))


def test_an_exported_decoder_gives_the_logits_of_the_growing_cache(model: Model) -> None:
    text, parameter = model.vlm.text, resident(model.weights)
    decoder, cache = exported(model).module(), GrowingCache()
    random = np.random.default_rng(0)
    embeds = torch.from_numpy(random.standard_normal((1, LENGTH, text.hidden), np.float32))
    numbers, where = image_ids(model), positions()
    for start, stop in STEPS:
        state = GrowingState(cache, start, numbers[:stop], where[:, start:stop])
        with torch.inference_mode():
            wanted, _ = text.forward(Run(parameter, state=state), embeds[:, start:stop])
        arguments = [embeds[:, start:stop], torch.arange(start, stop)]
        arguments.append(where[:, start:stop] if text.rope_sections else None)
        arguments.append(numbers if text.sees_later_positions else None)
        found = decoder(*arguments)
        if model.vlm.region is not None:
            found, state = found
            assert state.shape == (1, 1, text.hidden)
        assert found.shape == wanted.shape == (1, 1, text.vocab)
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_weights_and_cache_of_an_exported_decoder_are_buffers(model: Model) -> None:
    program = exported(model)
    shapes, names = model.weights.shapes(), ("blk.", "output")
    weights = {name.replace(".", "/") for name in shapes if name.startswith(names)}
    buffers = set(program.graph_signature.buffers)
    assert {f"weights.{name}" for name in weights} <= buffers
    kept = {f"cache.{kind}_{n}" for n in range(model.vlm.text.layers) for kind in ("key", "value")}
    assert kept <= buffers
    # Nothing as large as a matrix was baked into the graph as a constant.
    constants = [program.constants[n] for n in program.graph_signature.lifted_tensor_constants]
    assert all(constant.numel() < model.vlm.text.hidden for constant in constants)


def test_embeddings_and_tiles_are_exported_too(model: Model) -> None:
    ids = torch.tensor([[5, 7, 11]])
    embedding = EmbeddingModule(model.vlm, TensorBuffers(model.weights, ("embedding",)))
    program = torch.export.export(embedding, (ids,)).module()
    assert torch.equal(program(ids), model.vlm.text.embed(Run(resident(model.weights)), ids))
    if not isinstance(model.vlm.vision, TileVision):
        return
    vision = model.vlm.vision
    edge = vision.tower.image_size
    pixels = torch.randn(1, 3, edge, edge, generator=torch.Generator().manual_seed(0))
    module = TileModule(vision, TensorBuffers(model.weights, ("vision",)))
    tiles = torch.export.export(module, (pixels,)).module()
    wanted = vision.forward(Run(resident(model.weights)), pixels)
    assert (tiles(pixels) - wanted).abs().max() <= 1e-5 * wanted.abs().max()
