"""The public Python API: names at the package roots, typed, and cheap to import."""

import ast
import importlib
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hatchling import build as hatchling
from PIL import Image

import bench
import export
import runtimes
from bench.tasks.scenes.shapes import counting
from tests.bench.test_cli import HEAVY

ROOT = Path(__file__).parents[1]
PACKAGES = (export, runtimes, bench)
PICTURE = ROOT / "models" / "example.png"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> export.Artifact:
    out = tmp_path_factory.mktemp("api") / "artifact"
    return export.export_model("tiny-smolvlm", target="onnx", recipe="int4", out=out, verify=False)


def roots(package: ModuleType) -> ast.Module:
    return ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_exists_and_is_documented(package: ModuleType) -> None:
    for name in package.__all__:
        found = getattr(package, name)
        assert found is getattr(package, name)
        if callable(found):
            assert found.__doc__, name


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_type_checkers_see_the_names_that_are_imported(package: ModuleType) -> None:
    """Names under TYPE_CHECKING, with their modules, are those of the lazy table."""
    (block,) = [node for node in roots(package).body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    typed = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    (table,) = [node for node in ast.walk(block) if isinstance(node, ast.Dict)]
    assert ast.literal_eval(table) == typed
    assert set(typed) <= set(package.__all__)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_an_unknown_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"'{package.__name__}' has no attribute 'no_such'"):
        _ = package.no_such


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_importing_a_package_imports_no_heavy_library(package: ModuleType) -> None:
    heavy = (*HEAVY, *(("numpy",) if package is export else ()))
    program = (
        f"import sys, {package.__name__}\n"
        f"sys.stdout.write(' '.join(name for name in {heavy!r} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""


def test_the_wheel_says_that_the_packages_are_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    wheel = tmp_path / hatchling.build_wheel(str(tmp_path))
    with zipfile.ZipFile(wheel) as content:
        assert {f"{p.__name__}/py.typed" for p in PACKAGES} <= set(content.namelist())


def test_the_bundled_picture_is_the_scene_it_claims_to_be() -> None:
    scene = counting(np.random.default_rng(1007), "test", 7)
    with Image.open(PICTURE) as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), np.asarray(scene.image))
    assert ("how many red shapes are there?", "3") in [(a.question, a.answer) for a in scene.asked]


def test_an_exported_model_answers(artifact: export.Artifact) -> None:
    pytest.importorskip("onnxruntime")
    answer = runtimes.ask(artifact, PICTURE, "how many red shapes are there?")
    assert answer.text == "3"
    assert answer.token_ids
    assert answer.regions == ()
    with Image.open(PICTURE) as picture:
        assert runtimes.ask(artifact.path, picture, "how many red shapes are there?") == answer


def test_a_session_answers_several_questions(artifact: export.Artifact) -> None:
    pytest.importorskip("onnxruntime")
    session = runtimes.open_session(artifact, runtime="onnxruntime", threads=1)
    image = runtimes.load_image(PICTURE)
    for question in ("how many red shapes are there?", "how many triangles are there?"):
        events = list(session.generate(runtimes.Request(question, (image,))))
        assert [event.kind for event in events[:3]] == ["prepare", "image", "prefill"]
        assert events[-1].token is not None
    session.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"target": "onx", "recipe": "int4"}, "unknown target 'onx'; did you mean onnx"),
        ({"target": "onnx", "recipe": "int5"}, "unknown recipe 'int5'; did you mean int8 or int4"),
        ({"target": "onnx", "recipe": "int8", "rounding": "nearest"}, "int8 rounds nothing"),
        ({"target": "gguf", "recipe": "int4", "layout": "genai"}, "has no layout 'genai'"),
    ],
)
def test_a_wrong_option_is_a_users_error(
    words: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(export.UserError, match=message):
        export.export_model("tiny-smolvlm", out=tmp_path / "out", **words)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_does_not_open_the_artifact_is_a_users_error(
    artifact: export.Artifact,
) -> None:
    with pytest.raises(export.UserError, match="llama_cpp does not open onnx; choose onnxruntime"):
        runtimes.open_session(artifact, runtime="llama_cpp")
    with pytest.raises(export.UserError, match="unknown runtime 'onxruntime'; did you mean"):
        runtimes.open_session(artifact, runtime="onxruntime")


def test_a_modules_path_and_a_public_name_never_clash() -> None:
    """A submodule, once imported, would replace a lazy name of its own name."""
    for package in PACKAGES:
        for name in package.__all__:
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(f"{package.__name__}.{name}")
