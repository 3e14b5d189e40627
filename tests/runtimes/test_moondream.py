"""Moondream's answers equal the golden outputs of its author's code (tests/golden)."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_moondream as tiny
import torch
from PIL import Image
from tiny_models import tiny_artifact

from bench.cli import main as bench_main
from export.__main__ import main as export_main
from export.arrays import FloatArray
from export.artifact import Artifact
from export.errors import UserError
from export.families.moondream import MOONDREAM
from export.families.section import Section
from export.model import Model
from export.onnx import memory
from runtimes import reference
from runtimes.base import Event, Region, Request, Session
from runtimes.onnxruntime.session import open_session as open_onnxruntime
from runtimes.prepare.crops import stitched
from runtimes.prepare.image import load_image, pixels
from runtimes.prepare.request import preparer_of
from runtimes.proof.ladder import prove
from runtimes.session.backend import Extend
from runtimes.session.regions import RegionHead, generate_regions

GOLDEN = Path(__file__).parents[1] / "golden"
ROWS, VOCAB = slice(None, None, 81), slice(7, None, 400)  # as tests/golden/make_moondream.py keeps
RELATIVE = 1e-4
CUTS = {f"{rows}x{cols}": case for (rows, cols), case in tiny.CUTS.items()}
Open = Callable[[Model, Artifact, int], Session]


def in_torch(model: Model, artifact: Artifact, most: int) -> Session:
    model = replace(model, image=model.image.within(most + 1))
    return reference.open_session(model, threads=1)


def in_onnx(model: Model, artifact: Artifact, most: int) -> Session:
    manifest = replace(artifact.manifest, image=model.image.within(most + 1))
    return open_onnxruntime(replace(artifact, manifest=manifest), threads=1)


def in_steps(model: Model, artifact: Artifact, most: int) -> Session:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(memory, "PROMPT_STEP", 5)
        return in_onnx(model, artifact, most)


SESSIONS: Mapping[str, Open] = {
    "torch": in_torch,
    "onnx": in_onnx,
    "onnx, prompts in steps": in_steps,
}


class Golden:
    def __init__(self, tokenizer: str) -> None:
        self.facts: dict[str, Any] = json.loads(
            (GOLDEN / f"moondream-{tokenizer}.json").read_text()
        )
        self.arrays: Mapping[str, FloatArray] = np.load(GOLDEN / f"moondream-{tokenizer}.npz")


@pytest.fixture(scope="module", params=tiny.TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(tokenizer: str) -> Model:
    return tiny.tiny_moondream(tokenizer)


@pytest.fixture(scope="module")
def golden(tokenizer: str) -> Golden:
    return Golden(tokenizer)


@pytest.fixture(scope="module")
def artifact(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(model, "onnx", "fp32", tmp_path_factory.mktemp("artifact"))


@pytest.fixture(scope="module", params=SESSIONS)
def opened(
    request: pytest.FixtureRequest, model: Model, artifact: Artifact
) -> Iterator[Callable[[int], Session]]:
    """Sessions of one runtime, by the limit of crops."""
    made: dict[int, Session] = {}

    def session(most: int) -> Session:
        if most not in made:
            made[most] = SESSIONS[request.param](model, artifact, most)
        return made[most]

    yield session
    for one in made.values():
        one.close()


def close_to(found: FloatArray, wanted: FloatArray) -> bool:
    return bool(np.abs(found - wanted).max() <= RELATIVE * np.abs(wanted).max())


def check_text(events: list[Event], wanted: Any, logits: FloatArray) -> None:
    tokens = [event for event in events if event.kind == "token"]
    assert [event.token for event in tokens] == wanted["tokens"]
    for event, row in zip(tokens, logits, strict=False):
        assert event.logits is not None
        assert close_to(event.logits[VOCAB], row)


@pytest.mark.parametrize("cut", CUTS)
def test_answers_equal_the_authors_code(
    cut: str, golden: Golden, opened: Callable[[int], Session]
) -> None:
    size, most = CUTS[cut]
    image, session = tiny.noise(*size), opened(most)
    for task, asked in tiny.REQUESTS.items():
        wanted, logits = golden.facts[f"{cut}/{task}"], golden.arrays[f"{cut}/{task}/logits"]
        request = replace(asked, images=(image,), arrays=True)
        events = []
        for event in session.generate(request):
            events.append(event)
            if sum(one.kind == "place" for one in events) == len(wanted["places"]) > 0:
                break
        shown = next(event.features for event in events if event.kind == "image")
        assert shown is not None
        assert close_to(shown[ROWS], golden.arrays[f"{cut}/features"])
        places = [event.region for event in events if event.kind == "place"]
        np.testing.assert_allclose(places, wanted["places"], atol=1e-6)
        check_text(events, wanted, logits)


def test_answer_without_an_image_equals_the_authors_code(
    tokenizer: str, golden: Golden, opened: Callable[[int], Session]
) -> None:
    events = list(opened(12).generate(replace(tiny.REQUESTS["query"], arrays=True)))
    if tokenizer == "starmie":  # the author's older code has none
        check_text(events, golden.facts["no image/query"], golden.arrays["no image/query/logits"])
    assert [event.kind for event in events[:2]] == ["prepare", "prefill"]


@pytest.mark.parametrize("task", tiny.REQUESTS)
def test_prompt_ids_equal_the_authors_code(task: str, model: Model, golden: Golden) -> None:
    image = tiny.noise(100, 80)
    prepared = preparer_of(model)(replace(tiny.REQUESTS[task], images=(image,)))
    first = [model.vlm.bos_token_id, *[model.vlm.image_token_id] * 729]
    assert list(prepared.ids[:730]) == first
    place = range(prepared.region_at, prepared.region_at + (2 if task == "gaze" else 0))
    rest = [int(id_) for n, id_ in enumerate(prepared.ids) if n >= 730 and n not in place]
    assert rest == golden.facts[f"1x1/{task}"]["ids"]


RECIPE = MOONDREAM.image(
    MOONDREAM.read(Section({}, "config.json")), Section({}, "preprocessor_config.json")
)
IMAGES = {f"{w}x{h}": tiny.noise(w, h) for w, h in tiny.SIZES}
IMAGES |= {mode: tiny.image_of(mode) for mode in tiny.MODES}


@pytest.mark.parametrize("name", IMAGES)
def test_crops_equal_the_authors_code(name: str) -> None:
    (rows, cols), digest = Golden("legacy").facts["crops"][name]
    found = pixels(IMAGES[name], RECIPE)
    assert (found.rows, found.cols) == (rows, cols)
    levels = np.rint((found.values * 0.5 + 0.5) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    overview, locals_ = levels[-1:], levels[:-1] if len(levels) > 1 else levels
    theirs = np.concatenate([overview, locals_])
    assert hashlib.sha256(theirs.tobytes()).hexdigest() == digest


def _palette() -> Image.Image:
    image = tiny.noise(500, 420).quantize(16)
    image.info["transparency"] = bytes([0, 255, 100, 7])
    return image


DEEP = (np.arange(500 * 420).reshape(420, 500) * 23 % 2**16).astype(np.uint16)
OTHERS = {"16-bit grey": Image.fromarray(DEEP), "a palette with transparency": _palette()}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow's, of `convert`
def test_other_image_modes_are_converted_as_in_the_authors_code(name: str) -> None:
    """The author's code calls `convert("RGB")` (prepare_crops of moondream/torch/vision.py)."""
    image = OTHERS[name]
    found, expected = pixels(image, RECIPE), pixels(image.convert("RGB"), RECIPE)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.values.std() > 0


class Script:
    """A backend with scripted region heads: fixed bins, and given tokens that continue or end."""

    context = 100

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens
        self.seen: list[tuple[int, float]] = []

    def extend(self, step: Extend) -> FloatArray:
        assert step.features is not None
        self.seen.append((step.past, float(step.features.sum())))
        return one_hot(self.tokens.pop(0), 4)

    def region_embeddings(self, head: RegionHead, values: FloatArray) -> FloatArray:
        return values.sum(axis=1, keepdims=True)

    def region_logits(self, head: RegionHead) -> FloatArray:
        if head == "coord":
            return one_hot(512, 1024)
        return np.concatenate([one_hot(1023, 1024), one_hot(0, 1024)])


def one_hot(index: int, width: int) -> FloatArray:
    return np.eye(width, dtype=np.float32)[index]


def scripted(backend: Script, first: int, boxes: bool, limit: int = 9) -> list[Region]:
    return list(
        generate_regions(
            backend,
            one_hot(first, 4),
            50,
            placeholder=9,
            stop=frozenset({0}),
            boxes=boxes,
            limit=limit,
        )
    )


def test_regions_end_at_a_stop_token_the_limit_or_the_context() -> None:
    assert scripted(Script([]), 0, boxes=False) == []
    point, box = (0.5, 0.5), (0.0, 0.5 - 2**-11, 1.0, 0.5 + 2**-11)
    assert scripted(Script([1, 1, 1, 0]), 1, boxes=False) == [point, point]
    assert scripted(Script([0, 0, 0]), 1, boxes=True) == [box]
    assert len(scripted(Script([1] * 99), 1, boxes=True, limit=4)) == 4
    assert len(scripted(Script([1] * 99), 1, boxes=True, limit=99)) == (100 - 50) // 3


@pytest.mark.parametrize("bins", [16, 128, 1023, 1024, 2048])
def test_sizes_are_read_as_in_the_authors_code_whatever_the_number_of_bins(bins: int) -> None:
    """size = 2^((bin / 1023) * 10 - 10): _generate_points of moondream/torch/moondream.py."""

    class Sized(Script):
        def region_logits(self, head: RegionHead) -> FloatArray:
            if head == "coord":
                return super().region_logits(head)
            return np.concatenate([one_hot(bins // 3, bins), one_hot(bins - 1, bins)])

    x_min, y_min, x_max, y_max = scripted(Sized([0, 0, 0]), 1, boxes=True)[0]
    assert x_max - x_min == pytest.approx(2 ** (bins // 3 / 1023.0 * 10.0 - 10.0))
    assert y_max - y_min == pytest.approx(2 ** ((bins - 1) / 1023.0 * 10.0 - 10.0))


def test_regions_are_appended_to_the_cache() -> None:
    backend = Script([1, 1, 0])
    scripted(backend, 1, boxes=True)
    assert backend.seen == [(50, 0.5), (51, 0.5), (52, 1 + 2**-10)]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(""), "query needs question"),
        (Request("cat", task="detect"), "detect needs image"),
        (Request("cat", task="detct"), "did you mean detect"),
        (Request(task="gaze", images=(tiny.noise(9, 9),)), "gaze needs place"),
        (Request("a", images=(tiny.noise(9, 9),) * 2), "2 images were given"),
        (Request("a", region=(0.5, 1.5)), "from 0 to 1"),
        (Request("a", region=(0.5,)), "expected x, y"),
        (Request("a <|endoftext|>"), "a special token"),
    ],
)
def test_invalid_request_is_refused_in_one_line(
    request_: Request, message: str, model: Model
) -> None:
    with pytest.raises(UserError) as raised:
        preparer_of(model)(request_)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_rotated_photo_is_cropped_upright(tmp_path: Path) -> None:
    picture = tiny.noise(700, 500)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    picture.save(tmp_path / "turned.png", exif=exif)
    found = pixels(load_image(tmp_path / "turned.png"), RECIPE)
    upright = pixels(picture.transpose(Image.Transpose.ROTATE_270), RECIPE)
    np.testing.assert_array_equal(found.values, upright.values)
    assert found.rows > found.cols


@pytest.mark.parametrize("size", [(1000, 800), (400, 9000), (9000, 400), (3000, 3000)])
@pytest.mark.parametrize("budget", [1, 2, 3, 7, 12, 13])
def test_tile_budget_is_kept(size: tuple[int, int], budget: int) -> None:
    rows, cols = RECIPE.within(budget).tiling(size)
    assert (rows * cols + 1 if rows * cols > 1 else 1) <= budget
    assert RECIPE.within(budget).most_tiles <= max(budget, 1)


@pytest.mark.parametrize("cut", [(1, 1), (2, 3), (12, 1), (3, 4)])
def test_joined_patches_are_stitched_and_averaged(cut: tuple[int, int]) -> None:
    (rows, cols), side, margin = cut, 27, 4
    step = side - 2 * margin
    whole = np.random.default_rng(0).standard_normal(
        (step * rows + 2 * margin, step * cols + 2 * margin, 5), np.float32
    )
    crops = [
        whole[y * step : y * step + side, x * step : x * step + side].reshape(-1, 5)
        for y in range(rows)
        for x in range(cols)
    ]
    overview = crops[0] if rows * cols == 1 else crops[-1] + 1
    given = crops if rows * cols == 1 else [*crops, overview]
    found = stitched(given, rows, cols, side, margin)
    channels = torch.from_numpy(whole).permute(2, 0, 1)
    wanted = torch.nn.functional.adaptive_avg_pool2d(channels, side).permute(1, 2, 0)
    np.testing.assert_array_equal(found[:, :5], overview)
    np.testing.assert_allclose(found[:, 5:], wanted.reshape(-1, 5).numpy(), atol=1e-6)


def test_checkpoint_is_exported_proven_and_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "tiny", tmp_path / "out"
    folder.mkdir()
    tiny.save(folder)
    tiny.noise(300, 200).save(tmp_path / "image.png")
    assert (
        export_main([str(folder), "--target", "onnx", "--recipe", "fp32", "--out", str(out)]) == 0
    )
    manifest = json.loads((out / "artifact.json").read_text())
    assert manifest["proof"]["passed"] is True
    assert set(manifest["proof"]["checks"]["places"]["differences"]) == {"detect", "point", "gaze"}
    assert set(manifest["components"]) == {"vision", "projection", "embedding", "decoder", "region"}
    capsys.readouterr()
    ask = ["ask", str(out), str(tmp_path / "image.png"), "--json"]
    assert bench_main([*ask, "a red car", "--task", "point"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["token_ids"] == []
    assert all(len(place) == 2 for place in line["places"])
    assert bench_main([*ask, "--task", "caption", "--max-tokens", "3"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "places" not in line
    assert bench_main(ask) == 2
    assert "there is no question" in capsys.readouterr().err


def test_wrong_region_graph_fails_the_proof(tmp_path: Path) -> None:
    model = tiny.tiny_moondream("legacy")

    class Changed(tiny.Seeded):
        def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
            values = super().read(name, start, stop)
            return -values if name == "region.coord_decoder.1.weight" else values

    changed = replace(model, weights=Changed(model.vlm))
    artifact = tiny_artifact(changed, "onnx", "fp32", tmp_path)
    proof = prove(model, artifact, threads=1)
    assert proof.passed is False
    assert all(failure.startswith("places: ") for failure in proof.failures)
