"""The sound inputs that the campaign breaks: folders, made once, a subfolder for each variant.

Needs neither torch nor network. A new kind of input is a function here and its row in SOUND.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from public_rows import ROWS, png
from random_checkpoint import save
from tiny_configs import PREPROCESSORS, RUNNABLE

from bench.record import append
from export.checkpoint.registry import data_root
from export.errors import UserError
from export.exporter import export_model
from tests.bench.made import run_records, save_artifact

MODEL, ARTIFACT, FAKE, IMAGES = "model", "artifact", "fake", "images"
RECORDS, ROWS_FOLDER, QUESTIONS, BASELINE, COSTS = (
    "records",
    "rows",
    "questions",
    "baseline",
    "costs",
)
TEMPLATES: Mapping[str, str] = {  # family -> the bundled model whose chat template it has
    "smolvlm": "tiny-smolvlm",
    "gemma3": "tiny-gemma3",
    "qwen2_5_vl": "tiny-qwen2.5-vl",
}
RECIPES: Mapping[str, tuple[str, ...]] = {"onnx": ("int4",), "gguf": ("int8",)}
FAKE_ANSWERS = {"answers": {"Is there a dog?": [1, 0]}}


def make_sound(root: Path) -> Path:
    """Makes every sound input in the new folder `root`: root/<name>/<variant>/…"""
    for name, make in SOUND.items():
        make(root, root / name)
    return root


def _models(_root: Path, out: Path) -> None:
    for family, config in RUNNABLE.items():
        folder = save(out / family, config, PREPROCESSORS[family])
        ids = {"eos_token_id": 300 if family == "moondream" else [1, 2]}
        (folder / "generation_config.json").write_text(json.dumps(ids))
        if family in TEMPLATES:
            template = data_root() / "models" / TEMPLATES[family] / "chat_template.json"
            text = json.loads(template.read_text())["chat_template"]
            (folder / "chat_template.jinja").write_text(text)


def _artifacts(root: Path, out: Path) -> None:
    for family in RUNNABLE:
        for target, recipes in RECIPES.items():
            for recipe in recipes:
                folder = out / f"{family} {target} {recipe}"
                model = root / MODEL / family
                with suppress(UserError):  # GGUF has no room for some of these networks
                    export_model(model, target=target, recipe=recipe, out=folder, verify=False)


def _fakes(_root: Path, out: Path) -> None:
    save_artifact(out / FAKE, FAKE_ANSWERS)


def _images(_root: Path, out: Path) -> None:
    picture = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    for format_ in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF"):
        folder = out / format_
        folder.mkdir(parents=True)
        picture.save(folder / "image", format_)


def _records(_root: Path, out: Path) -> None:
    (out / "run").mkdir(parents=True)
    for record in run_records():
        append(out / "run" / "run.jsonl", record)
    shutil.copy(out / "run" / "run.jsonl", out / "run" / "base.jsonl")


def _rows(_root: Path, out: Path) -> None:
    for task, rows in ROWS.items():
        (out / f"{task} parquet").mkdir(parents=True)
        columns = out / f"{task} parquet" / "test-00000-of-00001.parquet"
        pq.write_table(pa.Table.from_pylist(rows), columns)
        lines = out / f"{task} jsonl"
        lines.mkdir()
        (lines / "red.png").write_bytes(png("red"))
        named = [{key: _named(value) for key, value in row.items()} for row in rows]
        (lines / "rows.jsonl").write_text("\n".join(map(json.dumps, named)))


def _named(value: object) -> object:
    return "red.png" if isinstance(value, dict) and "bytes" in value else value


def _questions(_root: Path, out: Path) -> None:
    folder = out / "file"
    folder.mkdir(parents=True)
    (folder / "red.png").write_bytes(png("red"))
    asked = [
        {"question": "what is it?", "image": "red.png", "answer": "a square"},
        {"question": "why?"},
        {"question": "is it red?", "image": "red.png"},
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, asked)))


def _baselines(_root: Path, out: Path) -> None:
    shutil.copytree(data_root() / "results" / "baselines", out / "accepted")


def _costs(_root: Path, out: Path) -> None:
    (out / "two").mkdir(parents=True)
    lines = (data_root() / "results" / "exports.jsonl").read_text().splitlines(keepends=True)
    (out / "two" / "exports.jsonl").write_text("".join(lines[:2]))


SOUND: Mapping[str, Callable[[Path, Path], None]] = {
    MODEL: _models,
    ARTIFACT: _artifacts,
    FAKE: _fakes,
    IMAGES: _images,
    RECORDS: _records,
    ROWS_FOLDER: _rows,
    QUESTIONS: _questions,
    BASELINE: _baselines,
    COSTS: _costs,
}
"""name -> function that makes its variants in the second folder, after those above it"""
