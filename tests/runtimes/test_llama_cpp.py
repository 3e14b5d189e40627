"""llama.cpp gives transformers' results with and without reuse, and bad files are refused."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import quants
from PIL import Image
from tiny_models import CASES, IMAGE_TOKEN, hf_model, tiny_artifact, tiny_model
from transformers import PreTrainedModel

from export.artifact import Artifact
from export.errors import UserError
from export.families import FAMILIES
from export.gguf.arrange import pieces
from export.gguf.packing import plan
from export.images.pixels import Pixels
from export.model import Model
from export.quantize.recipe import RECIPES
from runtimes import RUNTIMES
from runtimes.base import Event, Request, Session
from runtimes.llama_cpp.files import checked_decoder
from runtimes.llama_cpp.session import LlamaBackend
from runtimes.prepare.image import pixels
from runtimes.session.backend import Extend

pytest.importorskip("llama_cpp")

IMAGE = Image.effect_mandelbrot((50, 30), (-2, -1.5, 1, 1.5), 100).convert("RGB")
IMAGES: Mapping[str, tuple[Image.Image, ...]] = {
    "no image": (),
    "one cut image": (IMAGE,),
    "two images": (IMAGE, IMAGE.rotate(90, expand=True)),
}
# Largest errors relative to the largest value, compared with transformers with the same rounded
# weights: of the features (ggml's GELU is a float16 table), of the logits given the reference's
# features, and of these logits with a float32 cache. ggml rounds the inputs of quantized weights to
# 8 bits.
ERRORS: Mapping[str, tuple[float, float, float]] = {
    "fp32": (3e-3, 6e-3, 1e-5),
    "fp16": (3e-3, 8e-3, 5e-3),
    "int8": (0.03, 0.1, 0.1),
    "int4": (0.03, 0.1, 0.1),
}


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def rounded(hf: PreTrainedModel, recipe: str) -> PreTrainedModel:
    """The model with each weight rounded to its GGUF type, so that exporting it rounds nothing."""
    state = hf.state_dict()
    vlm, family = tiny_model(hf).vlm, FAMILIES["smolvlm"]
    made, sources = pieces(vlm, family.gguf), family.sources(vlm)
    for name, source in sources.items():
        kind = plan(made[name][0], RECIPES[recipe], family.gguf.floats)[0].type
        values = quants.quantize(state[source.name].numpy(), kind)
        state[source.name].copy_(torch.from_numpy(quants.dequantize(values, kind)))
    return hf


def inputs(images: tuple[Pixels, ...]) -> dict[str, torch.Tensor]:
    values = torch.from_numpy(np.concatenate([image.values for image in images]))[None]
    mask = torch.ones(1, values.shape[1], *values.shape[3:], dtype=torch.bool)
    return {"pixel_values": values, "pixel_attention_mask": mask}


@pytest.mark.parametrize("recipe", ERRORS)
@pytest.mark.parametrize("case", CASES)
def test_features_and_logits_equal_transformers(case: str, recipe: str, tmp_path: Path) -> None:
    hf = rounded(hf_model(case), recipe)
    model = tiny_model(hf)
    artifact = tiny_artifact(model, "gguf", recipe, tmp_path)
    feature_bound, *logit_bounds = ERRORS[recipe]
    backends = [LlamaBackend(artifact, 1, 256, cache_bits=bits) for bits in (16, 32)]
    for images in IMAGES.values():
        prepared = tuple(pixels(image, model.image) for image in images)
        tiles = sum(len(image.values) for image in prepared)
        ids = np.array(
            [1, 5] + [IMAGE_TOKEN] * (tiles * model.vlm.vision.tokens_per_tile) + [7, 11, 13]
        )
        kwargs, features = {}, None
        if images:
            kwargs = inputs(prepared)
            tensors = hf.model.get_image_features(**kwargs).pooler_output
            features = np.concatenate([tensor.numpy() for tensor in tensors])
            assert error(backends[0].encode(prepared), features) <= feature_bound
        wanted = hf(input_ids=torch.tensor(ids[None]), **kwargs).logits[0, -1].numpy()
        for backend, bound in zip(backends, logit_bounds, strict=True):
            assert error(backend.extend(Extend.sequential(ids, 0, features)), wanted) <= bound
    for backend in backends:
        backend.close()


def tokens(session: Session, request: Request) -> list[int]:
    return [event.token for event in session.generate(request) if event.token is not None]


def opened(case: str, folder: Path, recipe: str = "fp32") -> tuple[Model, Session]:
    model = tiny_model(rounded(hf_model(case), recipe))
    artifact = tiny_artifact(model, "gguf", recipe, folder)
    return model, RUNTIMES["llama_cpp"].open_session(artifact, threads=1)


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
@pytest.mark.parametrize("images", IMAGES)
def test_greedy_tokens_equal_the_reference(images: str, recipe: str, tmp_path: Path) -> None:
    model, session = opened("grouped heads", tmp_path, recipe)
    reference = RUNTIMES["reference"].open_session(model, threads=1)
    request = Request("what is it?", IMAGES[images], max_tokens=12)
    assert tokens(session, request) == tokens(reference, request)


def test_reuse_changes_no_answer(tmp_path: Path) -> None:
    _, session = opened("grouped heads", tmp_path)
    questions = ["what is it?", "what colour is it?", "what is it?"]
    fresh = [Request(q, (IMAGE,), max_tokens=8, reuse=False) for q in questions]
    expected = [tokens(session, request) for request in fresh]
    reusing = [Request(q, (IMAGE,), max_tokens=8) for q in questions]
    assert [tokens(session, request) for request in reusing] == expected


def test_second_question_reuses_image_features_and_prompt_prefix(tmp_path: Path) -> None:
    _, session = opened("grouped heads", tmp_path)
    first, second = (
        {event.kind: event for event in session.generate(Request(question, (IMAGE,), max_tokens=2))}
        for question in ("what is it?", "what else?")
    )
    assert first["prefill"].positions == first["prepare"].positions
    assert second["image"].reused
    assert second["prefill"].reused
    assert second["prefill"].positions < 40 < second["prepare"].positions


def test_cache_is_truncated_to_the_given_prefix(tmp_path: Path) -> None:
    artifact = tiny_artifact(tiny_model(hf_model("grouped heads")), "gguf", "fp32", tmp_path)
    backend = LlamaBackend(artifact, 1, 256, cache_bits=32)
    ids = np.array([1, 5, 9, 30, 12, 7, 8])
    wanted = backend.extend(Extend.sequential(ids)).copy()
    backend.extend(Extend.sequential(np.array([40, 41, 42, 43, 44]), 3))
    assert error(backend.extend(Extend.sequential(ids[3:], 3)), wanted) <= 1e-5


def test_prompts_longer_than_a_batch_give_the_same_logits(tmp_path: Path) -> None:
    from runtimes.llama_cpp.decoder import LlamaDecoder

    artifact = tiny_artifact(tiny_model(hf_model("grouped heads")), "gguf", "fp32", tmp_path)
    file, vlm = checked_decoder(artifact), artifact.manifest.vlm
    whole, parts = (
        LlamaDecoder(file, vlm, 1, 256, cache_bits=32, batch=size) for size in (256, 16)
    )
    ids = np.array([1, *[IMAGE_TOKEN] * 50, *range(3, 40)])
    features = np.random.default_rng(0).standard_normal((50, 64), np.float32)
    wanted = whole.extend(Extend.sequential(ids, 0, features))
    assert error(parts.extend(Extend.sequential(ids, 0, features)), wanted) <= 1e-5


CAUSAL = tiny_model(hf_model("grouped heads")).vlm.text
BIDIRECTIONAL = replace(CAUSAL, bidirectional_images=True)
PREFIX = replace(CAUSAL, prefix=4)
# ids (9 is the image token), past, decoder -> spans (start, stop, embeddings, bidirectional)
SPANS = {
    "text": ([1, 2, 3], 0, CAUSAL, [(0, 3, False, False)]),
    "image first": ([9, 9, 1], 0, CAUSAL, [(0, 2, True, False), (2, 3, False, False)]),
    "between": (
        [1, 9, 9, 2, 3],
        0,
        CAUSAL,
        [(0, 1, False, False), (1, 3, True, False), (3, 5, False, False)],
    ),
    "image only": ([9], 0, CAUSAL, [(0, 1, True, False)]),
    "more image tokens than features": (
        [9] * 5,
        0,
        CAUSAL,
        [(0, 4, True, False), (4, 5, False, False)],
    ),
    "bidirectional image": (
        [1, 9, 9, 2],
        0,
        BIDIRECTIONAL,
        [(0, 1, False, False), (1, 3, True, True), (3, 4, False, False)],
    ),
    "two bidirectional images": (
        [9, 2, 9],
        0,
        BIDIRECTIONAL,
        [(0, 1, True, True), (1, 2, False, False), (2, 3, True, True)],
    ),
    "a prefix": ([1, 9, 9, 9, 2, 3], 0, PREFIX, [(0, 4, True, True), (4, 6, False, False)]),
    "the rest of a prefix": ([9, 9, 2, 3], 2, PREFIX, [(0, 2, True, True), (2, 4, False, False)]),
    "an image token after the prefix": (
        [1, 9, 2],
        4,
        PREFIX,
        [(0, 1, False, False), (1, 2, True, False), (2, 3, False, False)],
    ),
    "a prefix without image": ([1, 2, 3, 4, 5], 0, PREFIX, [(0, 5, False, False)]),
}


@pytest.mark.parametrize("case", SPANS)
def test_step_is_cut_into_spans(case: str) -> None:
    from runtimes.llama_cpp.batch import Span, spans

    ids, past, text, wanted = SPANS[case]
    features = np.zeros((4, 2), np.float32) if 9 in ids else None
    assert spans(np.array(ids), features, 9, past, text) == [Span(*span) for span in wanted]


def test_joined_tiles_form_one_span_with_the_text_between_them() -> None:
    from runtimes.llama_cpp.batch import Span, spans

    ids, features = np.array([1, 9, 2, 3, 9, 4]), np.zeros((2, 2), np.float32)
    whole = [Span(0, 1, False, False), Span(1, 5, True, False), Span(5, 6, False, False)]
    assert spans(ids, features, 9, 0, CAUSAL, joined=True) == whole
    apart = spans(ids, features, 9, 0, BIDIRECTIONAL)
    assert spans(ids, features, 9, 0, BIDIRECTIONAL, joined=True) == apart


@pytest.mark.parametrize("recipe", ["fp32", "int4"])
def test_joined_tiles_give_the_same_logits(recipe: str, tmp_path: Path) -> None:
    from runtimes.llama_cpp.decoder import LlamaDecoder

    artifact = tiny_artifact(tiny_model(hf_model("grouped heads")), "gguf", recipe, tmp_path)
    file, vlm = checked_decoder(artifact), artifact.manifest.vlm
    decoder = LlamaDecoder(file, vlm, 1, 256, cache_bits=32)
    ids = np.array([1, *[IMAGE_TOKEN] * 9, 5, 6, *[IMAGE_TOKEN] * 9, *range(3, 20)])
    features = np.random.default_rng(0).standard_normal((18, 64), np.float32)
    wanted = decoder.extend(Extend.sequential(ids, 0, features))
    decoder.joins_tiles = True
    assert error(decoder.extend(Extend.sequential(ids, 0, features)), wanted) <= 1e-5


def test_recipe_with_smaller_images_is_followed(tmp_path: Path) -> None:
    """The file keeps its preproc_image_size, but the tower gets the smaller recipe's pixels."""
    hf = hf_model("grouped heads")
    model = tiny_model(hf)
    artifact = tiny_artifact(model, "gguf", "fp32", tmp_path)
    small = replace(model.image, longest_edge=model.image.tile)
    manifest = replace(artifact.manifest, image=small)
    backend = LlamaBackend(Artifact(tmp_path, manifest), 1, 256)
    prepared = (pixels(IMAGE, small),)
    assert prepared[0].values.shape[0] == 1
    wanted = hf.model.get_image_features(**inputs(prepared)).pooler_output[0].numpy()
    assert error(backend.encode(prepared), wanted) <= ERRORS["fp32"][0]


def test_answer_that_does_not_fit_the_context_is_refused(tmp_path: Path) -> None:
    _, session = opened("grouped heads", tmp_path)
    with pytest.raises(UserError, match="the context holds 256"):
        list(session.generate(Request("hello", max_tokens=300)))


def test_missing_gpu_is_refused(tmp_path: Path) -> None:
    artifact = tiny_artifact(tiny_model(hf_model("grouped heads")), "gguf", "fp32", tmp_path)
    with pytest.raises(UserError, match="sees no GPU"):
        RUNTIMES["llama_cpp"].open_session(artifact, threads=1, device="cuda")


def patched(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old, new, 1)


LAYERS = b"clip.vision.block_count" + bytes([4, 0, 0, 0])
# component, damage to its file, part of the error message
DAMAGE: Mapping[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty": ("decoder", lambda content: b"", "not a GGUF file"),
    "another format": ("vision", lambda content: b"PK" + content[2:], "not a GGUF file"),
    "an older version": ("vision", lambda content: b"GGUF\2" + content[5:], "GGUF version 2"),
    "half a header": ("decoder", lambda content: content[:300], "damaged or cut short"),
    "half of the tensors": ("decoder", lambda content: content[: len(content) // 2], "end at"),
    "a hundred bytes short": ("vision", lambda content: content[:-100], "end at"),
    "a count of billions": (
        "vision",
        lambda content: content[:8] + b"\xff" * 7 + content[15:],
        "more entries than bytes",
    ),
    "another architecture": ("decoder", patched(b"llama", b"gemma"), "expected llama"),
    "another tensor": ("vision", patched(b"v.post_ln.weight", b"v.post_ln.wEight"), "post_ln.w"),
    "another number": ("vision", patched(LAYERS + b"\3", LAYERS + b"\4"), "is 4, expected 3"),
    "an unknown value type": ("vision", patched(LAYERS, LAYERS[:-4] + b"\x63\0\0\0"), "type 99"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_file_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    component, damage, said = DAMAGE[case]
    artifact = tiny_artifact(tiny_model(hf_model("grouped heads")), "gguf", "int8", tmp_path)
    path = tmp_path / artifact.manifest.components[component][0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=said) as caught:
        RUNTIMES["llama_cpp"].open_session(artifact, threads=1)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_vision_file_of_another_model_is_refused(tmp_path: Path) -> None:
    folders = {case: tmp_path / case for case in ("grouped heads", "one kv head of three")}
    artifacts = {}
    for case, folder in folders.items():
        folder.mkdir()
        artifacts[case] = tiny_artifact(tiny_model(hf_model(case)), "gguf", "fp16", folder)
    own, other = artifacts.values()
    name = own.manifest.components["vision"][0]
    (own.path / name).write_bytes((other.path / name).read_bytes())
    with pytest.raises(UserError, match="projection_dim is 96, expected 64"):
        RUNTIMES["llama_cpp"].open_session(own, threads=1)


def test_session_closes_twice_and_logits_outlive_it(tmp_path: Path) -> None:
    _, session = opened("grouped heads", tmp_path)
    request = Request("what is it?", (IMAGE,), answer=(9, 2), arrays=True)
    events: list[Event] = list(session.generate(request))
    kept = [event.logits.copy() for event in events if event.logits is not None]
    session.close()
    session.close()
    found = [event.logits for event in events if event.logits is not None]
    assert all(np.array_equal(a, b) for a, b in zip(found, kept, strict=True))
