"""On an Arm CPU, artifacts answer what they answer on this one. Run by `make test-arm`."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench.scorers.regions import iou
from export.artifact import load_artifact
from export.bounds import BOUNDS, MAX_ERROR
from export.build import ExportSpec, build
from export.checkpoint.registry import open_model
from export.onnx.graph import graphs_of
from export.onnx.layouts import LAYOUTS
from export.onnx.ort_format import convert
from export.onnx.ort_order import reorder
from export.onnx.write import write_graphs
from export.quantize.recipe import RECIPES
from export.targets import TARGETS
from runtimes.proof.fidelity import Accumulator, FeatureAccumulator
from tests.arm.answers import Arrays, answers
from tests.arm.emulated import A72, A76, HWCAPS, INSTALLED, ROOT, Cpu, Machine

MODELS = ("tiny-smolvlm", "tiny-moondream", "tiny-qwen2.5-vl", "tiny-gemma3")
ONNX, PLAIN, GGUF = "onnxruntime", "onnxruntime_no_kleidiai", "llama_cpp"
TARGET = {ONNX: "onnx", PLAIN: "onnx", GGUF: "gguf"}
SCRIPT = str(ROOT / "tests" / "arm" / "answers.py")
EVERY_MODEL = pytest.mark.parametrize("model", MODELS)

pytestmark = pytest.mark.arm


class Workshop:
    """Exports, and their answers on this CPU and on others; each is made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.machine = cache(lambda cpu: Machine(cpu, folder))
        self.artifact = cache(self._artifact)
        self.here = cache(self._here)
        self.there = cache(self._there)

    def _artifact(self, model: str, recipe: str, target: str) -> Path:
        out = self._folder / target / f"{model}-{recipe}"
        out.parent.mkdir(exist_ok=True)
        layout = "onnx-vision" if (model, target) == ("tiny-moondream", "gguf") else "native"
        spec = ExportSpec(target, RECIPES[recipe], layout)
        build(open_model(model), spec, out, targets=TARGETS)
        return out

    def _here(self, model: str, recipe: str, runtime: str) -> Arrays:
        return answers(load_artifact(self.artifact(model, recipe, TARGET[runtime])), runtime)

    def _there(self, model: str, recipe: str, runtime: str, cpu: Cpu = A76) -> Arrays:
        path = self.artifact(model, recipe, TARGET[runtime])
        out = self._folder / cpu.name / runtime
        out.mkdir(exist_ok=True, parents=True)
        self.machine(cpu).run(SCRIPT, runtime, str(out), str(path))
        with np.load(out / f"{path.name}.npz") as stored:
            return dict(stored)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    if not (INSTALLED / "llama").is_dir():
        pytest.fail("the aarch64 packages are not installed; run make test-arm")
    return Workshop(tmp_path_factory.mktemp("arm"))


def parts(arrays: Arrays, *names: str) -> Arrays:
    """Those whose keys (answers.answers) have one of these names."""
    return {key: array for key, array in arrays.items() if key.split()[1] in names}


def expect_equal(expected: Arrays, found: Arrays, *names: str) -> None:
    for key, array in parts(expected, *names).items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)


def expect_same_choices(expected: Arrays, found: Arrays) -> None:
    """Answers are equal up to a token whose logit was so near to another one that the largest
    difference of two logits explains the other choice; boxes overlap by half, as detection asks."""
    logits = parts(expected, "logits").items()
    near = 2 * max(np.abs(array - found[key]).max() for key, array in logits)
    for key, tokens in parts(expected, "tokens").items():
        shared = min(len(tokens), len(found[key]))
        differ = np.flatnonzero(tokens[:shared] != found[key][:shared])
        if len(differ):
            assert expected[key.replace("tokens", "margins")][differ[0]] <= near, key
        else:
            assert len(tokens) == len(found[key]), key
    for key, boxes in parts(expected, "places").items():
        pairs = zip(boxes, found[key], strict=True)
        assert all(iou(tuple(one), tuple(other)) >= 0.5 for one, other in pairs), key


def errors(expected: Arrays, found: Arrays, name: str) -> np.ndarray:
    """Absolute differences, as fractions of the largest absolute value that is expected."""
    pairs = [(array.astype(np.float64), found[key]) for key, array in parts(expected, name).items()]
    scale = max(np.abs(array).max() for array, _ in pairs)
    return np.concatenate([np.abs(one - other).ravel() for one, other in pairs]) / scale


def expect_within_bounds(recipe: str, expected: Arrays, found: Arrays) -> None:
    """The limits that a proof sets the recipe hold between these answers."""
    fidelity, features = Accumulator(), FeatureAccumulator()
    for key, array in parts(expected, "logits").items():
        for one, other in zip(array, found[key], strict=True):
            fidelity.add(one, other)
    for key, array in parts(expected, "features").items():
        features.add(array, found[key])
    logits, images, bounds = fidelity.result(), features.result(), BOUNDS[recipe]
    assert logits is not None
    assert images is not None
    assert images.cosine >= bounds.cosine
    assert logits.mean_kld <= bounds.mean_kld
    assert logits.top1 >= bounds.top1


def tell(model: str, recipe: str, how: str, expected: Arrays, found: Arrays) -> None:
    """Prints a row of the table in docs/notes/2026-11-arm.md (make test-arm ARGS=-rP)."""
    answered = parts(expected, "tokens", "places")
    equal = sum(np.array_equal(array, found[key]) for key, array in answered.items())
    shares = [errors(expected, found, name) for name in ("features", "logits")]
    figures = " | ".join(f"{share.max():.1e} | {share.mean():.1e}" for share in shares)
    print(f"| {model} | {recipe} | {how} | {equal} of {len(answered)} | {figures} |")


@pytest.mark.parametrize("cpu", [A72, A76], ids=lambda cpu: cpu.name)
def test_cpuinfo_lists_the_features_that_qemu_emulates(cpu: Cpu, workshop: Workshop) -> None:
    read = "import ctypes as c; f = c.CDLL(None).getauxval; f.restype = c.c_ulong; print(f(16))"
    bits = int(workshop.machine(cpu).run("-c", read))
    assert [name for n, name in enumerate(HWCAPS.split()) if bits >> n & 1] == cpu.features.split()


@EVERY_MODEL
def test_float32_on_arm_is_float32_here(model: str, workshop: Workshop) -> None:
    expected, found = (make(model, "fp32", ONNX) for make in (workshop.here, workshop.there))
    tell(model, "fp32", "onnx", expected, found)
    expect_equal(expected, found, "ids", "pixels", "tokens", "places")
    assert errors(expected, found, "features").max() <= MAX_ERROR
    assert errors(expected, found, "logits").max() <= MAX_ERROR


@pytest.mark.parametrize(
    ("recipe", "runtime"),
    [("int8", ONNX), ("int4", PLAIN), ("fp32", GGUF), ("int8", GGUF), ("int4", GGUF)],
)
@EVERY_MODEL
def test_an_artifact_answers_on_arm_what_it_answers_here(
    model: str, recipe: str, runtime: str, workshop: Workshop
) -> None:
    expected, found = (make(model, recipe, runtime) for make in (workshop.here, workshop.there))
    tell(model, recipe, runtime, expected, found)
    expect_equal(expected, found, "ids", "pixels")
    expect_same_choices(expected, found)
    expect_within_bounds(recipe, workshop.here(model, "fp32", runtime), found)


@EVERY_MODEL
def test_int4_in_kleidiais_kernels_keeps_the_limits_of_a_proof(
    model: str, workshop: Workshop
) -> None:
    expected, found = (make(model, "int4", ONNX) for make in (workshop.here, workshop.there))
    tell(model, "int4", "onnx, KleidiAI", expected, found)
    expect_equal(expected, found, "ids", "pixels")
    expect_same_choices(expected, found)
    expect_within_bounds("int4", workshop.here(model, "fp32", ONNX), found)
    assert errors(workshop.there(model, "int4", PLAIN), found, "logits").any(), "not used"


@pytest.mark.parametrize("recipe", ["int8", "int4"])
@EVERY_MODEL
def test_graphs_become_the_same_ort_files_on_arm(
    model: str, recipe: str, workshop: Workshop, tmp_path: Path
) -> None:
    opened, layout = open_model(model), replace(LAYOUTS["ort"], ort=False)
    write_graphs(opened, RECIPES[recipe], tmp_path, graphs_of(opened.vlm), layout)
    program = (
        "import sys, pathlib; from export.onnx.ort_format import save\n"
        "for path in map(pathlib.Path, sys.argv[1:]): save(path, path.with_suffix('.arm'))"
    )
    graphs = sorted(tmp_path.glob("*.onnx"))
    workshop.machine(A76).run("-c", program, *map(str, graphs))
    for graph in graphs:
        there = graph.with_suffix(".arm")
        reorder(there)
        here = tmp_path / convert(graph, [f"{graph.name}_data"])
        assert there.read_bytes() == here.read_bytes(), graph.stem


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_layout_ort_computes_on_arm_what_layout_native_does(
    recipe: str, workshop: Workshop, tmp_path: Path
) -> None:
    model = "tiny-smolvlm"
    out = tmp_path / "ort"
    build(open_model(model), ExportSpec("onnx", RECIPES[recipe], "ort"), out, targets=TARGETS)
    workshop.machine(A76).run(SCRIPT, ONNX, str(tmp_path), str(out))
    with np.load(tmp_path / "ort.npz") as found:
        names = ("ids", "pixels", "tokens", "features", "logits")
        expect_equal(workshop.there(model, recipe, ONNX), dict(found), *names)


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_quantized_products_use_dot_products_where_the_cpu_has_them(
    recipe: str, workshop: Workshop, tmp_path: Path
) -> None:
    artifact = workshop.artifact("tiny-smolvlm", recipe, "onnx")
    words = (SCRIPT, ONNX, str(tmp_path), str(artifact))
    with_them, without = (workshop.machine(cpu).dot_products(*words) for cpu in (A76, A72))
    assert (with_them > 0, without) == (True, 0)


def test_the_command_line_answers_on_arm(workshop: Workshop) -> None:
    artifact = str(workshop.artifact("tiny-smolvlm", "int4", "onnx"))
    question = (str(ROOT / "models" / "example.png"), "how many red shapes are there?")
    said = workshop.machine(A76).run("-m", "bench", "ask", artifact, *question)
    assert said.split()[0] == "3"
