"""What the documentation says is true: links lead somewhere, commands parse, examples run."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from pages import GUIDES, PAGES, ROOT, anchors, blocks, commands, links

from bench import cli
from export.__main__ import parser as export_parser
from export.checkpoint.registry import data_root, list_models
from export.families import FAMILIES, family_of
from export.families.section import Section
from export.targets import TARGETS
from runtimes import RUNTIMES

README = ROOT / "README.md"
INDEX = ROOT / "docs" / "README.md"
EVERY_COMMAND = [(page, words) for page in GUIDES for words in commands(page)]
CI = [*sorted((ROOT / ".github" / "workflows").glob("*.yml")), ROOT / ".ci" / "run"]
SYSTEM = {"python3", "pip", "rsync", "ssh"}
DEVICES = {"cpu": "CPU", "cuda": "NVIDIA GPU"}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run(arguments: argparse.Namespace) -> int:
    """Stands for every command of `bench`, so that only its line is parsed."""
    return 0


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_index() -> None:
    linked = {(INDEX.parent / link).resolve() for link in links(INDEX)}
    assert {page for page in INDEX.parent.rglob("*.md") if page != INDEX} <= linked


def test_code_names_pages_that_exist() -> None:
    sources = [ROOT / "Makefile", ROOT / "models.yaml", ROOT / "pyproject.toml"]
    for folder in ("export", "runtimes", "bench", "models/train", "tests"):
        sources += (ROOT / folder).rglob("*.py")
    for source in sources:
        text = source.read_text(encoding="utf-8")
        for page in re.findall(r"\bdocs/(?:\w+/)[\w.-]+\.md|\bdocs/architecture\.md", text):
            assert (ROOT / page).exists(), f"{source}: {page}"


def test_pages_name_files_that_exist() -> None:
    pages = [page for page in GUIDES if "notes" not in page.parts]  # notes are of their date
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"`((?:export|runtimes|bench|tests|models)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), f"{name(page)}: {path}"


@pytest.mark.parametrize(
    ("page", "words"), EVERY_COMMAND, ids=[f"{name(p)}: {' '.join(w)}" for p, w in EVERY_COMMAND]
)
def test_a_command_line_is_one(
    page: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command, row in cli.COMMANDS.items():
        monkeypatch.setitem(cli.COMMANDS, command, replace(row, module=__name__))
    match re.sub(r"^\.venv(-litert)?/bin/", "", words[0]), *words[1:]:
        case "make", *given:
            expect_verb(given)
        case "bench", *given:
            assert cli.main(given) == 0
        case "python", *given:
            expect_python(given)
        case "optimum-cli", "export", "pocketvlm", *given:
            expect_optimum(given)
        case program, *_:
            assert program in SYSTEM, program


def expect_python(words: list[str]) -> None:
    """A module or a script of the repository; the arguments of `python -m export` parse."""
    match words:
        case "-m", "export", *given:
            assert export_parser().parse_args(given)
        case "-m", module, *_:
            assert find_spec(module), module
        case script, *_:
            assert (ROOT / script).is_file(), script


def expect_optimum(words: list[str]) -> None:
    command = pytest.importorskip("export.optimum_command").PocketVlmExport
    options = argparse.ArgumentParser()
    command.parse_args(options)
    assert options.parse_args(words)


@pytest.mark.parametrize("file", CI, ids=name)
def test_ci_runs_verbs_of_the_makefile(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    found = re.findall(r"^ *(?:- )?(?:(?:run|command): )?make ([^|#\n]+)", text, re.MULTILINE)
    assert found
    for line in found:
        expect_verbs(shlex.split(line))


def expect_verbs(words: list[str]) -> None:
    """Verbs of the Makefile, then variables."""
    settings = [word for word in words if "=" in word]
    for verb in words[: len(words) - len(settings)]:
        expect_verb([verb, *settings])


def expect_verb(words: list[str]) -> None:
    """A verb of the Makefile, and only variables that it reads."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    verb, *settings = words
    assert re.search(rf"^{re.escape(verb)}:.*## ", makefile, re.MULTILINE), verb
    for variable in (setting.partition("=")[0] for setting in settings):
        assert re.search(rf"^{variable} \??=", makefile, re.MULTILINE), variable


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to type the commands in, in which README's export was done."""
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("docs")
    (path / "models").symlink_to(ROOT / "models")
    words = next(words for words in commands(README) if words[1:3] == ["-m", "export"])
    assert "proof: no verdict (torch is not installed" in module(path, *words[2:])
    return path


def module(folder: Path, name: str, *arguments: str) -> str:
    """What `python -m NAME ARGUMENTS…` prints in the folder, with the quick start's packages."""
    code = "import runpy, sys; sys.argv[:] = {!r}; runpy.run_module({!r}, run_name='__main__')"
    return code_said(folder, code.format([name, *arguments], name))


def code_said(folder: Path, code: str) -> str:
    without_torch = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", without_torch + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout


def is_quick(words: list[str]) -> bool:
    match words[1:]:
        case ("ask", artifact, *_):
            return artifact == "build/tiny-smolvlm/onnx-int4"
        case ("list", *_):
            return True
        case ("footprint", "smolvlm-500m", *_):
            return True
    return False


QUICK = {" ".join(words): words for _, words in EVERY_COMMAND if is_quick(words)}


@pytest.mark.parametrize("line", QUICK)
def test_a_quick_command_runs(line: str, folder: Path) -> None:
    said = module(folder, "bench", *QUICK[line][1:])
    assert said.strip() == "3" if QUICK[line] in list(commands(README)) else said


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_python_examples_run(page: Path, folder: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, name(page), "exec")
        if re.search(r"^import (export|runtimes)", code, re.MULTILINE):
            said = code_said(folder, code)
            assert said.strip() == "3" if page == README else said


def test_the_readmes_example_is_three_lines() -> None:
    (code,) = blocks(README, "python")
    assert len([line for line in code.splitlines() if line]) == 3


def test_the_readmes_table_is_that_of_the_code() -> None:
    text = README.read_text(encoding="utf-8")
    shown = text.partition("<!-- support -->\n")[2].partition("<!-- end of support -->")[0]
    assert shown.strip() == support_table()


def support_table() -> str:
    """Families × targets × runtimes, from the tables of the code."""
    ways = [
        (target, runtime)
        for target in (*TARGETS, None)
        for runtime, row in RUNTIMES.items()
        if row.opens(target) and not row.hidden
        if target is None or row.runs_layout(TARGETS[target].layouts[0])
    ]
    clients = [layout for layout in TARGETS["onnx"].layouts if families_of(layout)]
    header = [
        "family",
        "models",
        *(f"{target or 'checkpoint'} on `{runtime}`" for target, runtime in ways),
        *(f"onnx for {layout}" for layout in clients),
    ]
    lines = [header, ["---"] * len(header)]
    devices = [", ".join(map(DEVICES.__getitem__, RUNTIMES[row].devices)) for _, row in ways]
    for family in FAMILIES:
        able = ["yes" if family in families_of(layout) else "no" for layout in clients]
        models = ", ".join(real_models(family)) or "your checkpoint"
        within = [
            found if target is None or family in (TARGETS[target].families or FAMILIES) else "no"
            for (target, _), found in zip(ways, devices, strict=True)
        ]
        lines.append([f"`{family}`", models, *within, *able])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def real_models(family: str) -> list[str]:
    """The models of models.yaml that are not bundled ones."""
    found = []
    for model, entry in list_models().items():
        if entry.config is None:
            continue
        file = data_root() / entry.config / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        if family_of(config, model).name == family:
            text_only = FAMILIES[family].read(Section(config, str(file))).vision is None
            found.append(f"{model} (text only)" if text_only else model)
    return found


def families_of(client: str) -> set[str]:
    return {name for name, family in FAMILIES.items() if client in family.clients}
