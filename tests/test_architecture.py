"""Imports point one way, bench -> runtimes -> export, without cycles between second-level packages;
heavy libraries stay in their wrappers."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# package -> our packages it may import
ALLOWED = {
    "export": {"export"},
    "runtimes": {"export", "runtimes"},
    "bench": {"export", "runtimes", "bench"},
}
# An export is proven and calibrated by runtimes, which this module imports by name when needed.
BY_NAME = {"export/exporter.py"}
# heavy library -> how the names of modules start that may import it at their top: each wraps it,
# and is itself only imported by name, at the last moment
WRAPPERS = {
    "torch": {
        "export/executorch/",
        "export/litert/",
        "export/torch/",
        "runtimes/calibrate/hessian.py",
        "runtimes/executorch/",
        "runtimes/peers/executorch_runner.py",
        "runtimes/proof/transformers_model.py",
        "runtimes/reference.py",
    },
    "transformers": set[str](),
    "onnx": {"export/onnx/"},
    "onnx_ir": {"export/onnx/"},
    "onnxruntime": {"runtimes/onnxruntime/", "runtimes/peers/"},
    "onnxruntime_genai": {"runtimes/peers/"},
    "openvino": {"runtimes/openvino/", "runtimes/peers/programs/"},
    "optimum": {"export/optimum_"},
    "gguf": {"export/gguf/", "runtimes/llama_cpp/"},
    "llama_cpp": {"runtimes/llama_cpp/", "runtimes/peers/"},
    "executorch": {"export/executorch/"},
    "litert_torch": {"export/litert/"},
    "ai_edge_litert": {"export/litert/", "runtimes/litert/"},
    "ai_edge_quantizer": {"export/litert/"},
    "litert_lm_builder": {"export/litert/", "runtimes/litert/"},
    "litert_lm": {"runtimes/peers/"},
    "jinja2": {"export/checkpoint/render.py"},
    "matplotlib": set[str](),
    "scipy": set[str](),
    "easy_vqa": set[str](),
    "datasets": set[str](),
    "sklearn": set[str](),
}


def modules(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def imports(nodes: Iterator[ast.AST]) -> set[str]:
    """First names of what is imported."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a module is"
            found.add((node.module or "").partition(".")[0])
    return found


def run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """What importing a module runs: no function bodies, nothing that only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from run_on_import(child)


def strings(tree: ast.AST) -> set[str]:
    """First names of strings like "runtimes.fake": imports by name."""
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    dotted = (value for value in constants if isinstance(value, str) and "\n" not in value)
    return {value.partition(".")[0] for value in dotted if value.replace(":", ".").count(".")}


def unit(name: str) -> str:
    """The second-level name that a dotted name belongs to: bench.jobs of bench.jobs.plan."""
    return ".".join(name.split(".")[:2])


def imported_units(path: Path) -> set[str]:
    """Second-level names that importing a module imports."""
    names: set[str] = set()
    for node in run_on_import(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {unit(name) for name in names}


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of nodes that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            waiting += (new := graph.get(waiting.pop(), set()) - seen)
            seen |= new
        return seen

    reach = {name: reached(name) for name in graph}
    groups = ({other for other in reach[name] if name in reach.get(other, ())} for name in graph)
    return [set(group) for group in {frozenset(group) for group in groups if group}]


@pytest.mark.parametrize("package", ALLOWED)
def test_no_cycles_between_second_level_packages(package: str) -> None:
    graph: dict[str, set[str]] = {}
    for path in modules(package):
        name = unit(".".join(path.relative_to(ROOT).with_suffix("").parts))
        inside = {other for other in imported_units(path) if other.startswith(f"{package}.")}
        graph.setdefault(name, set()).update(inside - {name})
    assert cycles(graph) == []


def imported_modules(path: Path, names: set[str]) -> set[str]:
    """Which modules of `names` importing a module imports by their names."""
    found: set[str] = set()
    for node in run_on_import(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            dotted = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in names else node.module for name in dotted}
    return found & names


@pytest.mark.parametrize("package", ALLOWED)
def test_no_cycles_between_modules(package: str) -> None:
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in modules(package)
    }
    graph = {name: imported_modules(path, set(paths)) - {name} for name, path in paths.items()}
    assert cycles(graph) == []


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [{"b", "c"}]


@pytest.mark.parametrize("path", modules(*ALLOWED), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    others = set(ALLOWED) - ALLOWED[path.relative_to(ROOT).parts[0]]
    assert not others & imports(ast.walk(tree))
    if name not in BY_NAME:
        assert not others & strings(tree)


@pytest.mark.parametrize("path", modules(*ALLOWED), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_by_their_wrappers_only(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = imports(run_on_import(ast.parse(path.read_text(encoding="utf-8"))))
    for library in found & set(WRAPPERS):
        assert any(name.startswith(place) for place in WRAPPERS[library]), library


def test_wrappers_exist() -> None:
    places = {place for allowed in WRAPPERS.values() for place in allowed}
    assert [place for place in places if not list(ROOT.glob(f"{place}*"))] == []
