"""Whatever a checkpoint's files say, an export ends well or with a user's error.

A few inputs of each kind and family; `make fuzz` tries as many as wanted, on every command.
"""

import io
import json
import random
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from random_checkpoint import save
from tiny_configs import CONFIGS, PREPROCESSORS

from export.__main__ import main
from export.checkpoint.registry import open_model
from runtimes.prepare.request import preparer_of
from tests.fuzz.mutations import CHECKPOINT

SEEDS = range(8)


def make(folder: Path, family: str) -> Path:
    save(folder, CONFIGS[family], PREPROCESSORS[family])
    ids = {"eos_token_id": [1, 2]} if family != "moondream" else {"eos_token_id": 300}
    (folder / "generation_config.json").write_text(json.dumps(ids))
    return folder


def tried(sound: Path, kind: str, seed: int, folder: Path) -> tuple[str, str | None]:
    """What was broken, and the error it ended with (None: exported). Raises anything else."""
    checkpoint, out = folder / "model", folder / "out"
    shutil.copytree(sound, checkpoint)
    said = CHECKPOINT[kind](random.Random(f"{kind} {seed}"), checkpoint)
    arguments = ["--target", "onnx", "--recipe", "int4", "--no-verify", "--out", str(out)]
    shown = io.StringIO()
    try:
        with redirect_stderr(shown), redirect_stdout(io.StringIO()):
            code = main([str(checkpoint), *arguments])
        if code == 0:
            preparer_of(open_model(str(checkpoint)))
            return said, None
    except BaseException as error:
        error.add_note(said)
        raise
    assert code == 2, said
    assert [path.name for path in folder.iterdir()] == ["model"], said
    return said, shown.getvalue()


def kinds_of(sound: Path) -> list[str]:
    preprocessor = (sound / "preprocessor_config.json").exists()
    return [kind for kind in CHECKPOINT if kind != "preprocessor" or preprocessor]


@pytest.mark.parametrize("family", CONFIGS)
def test_a_faulty_checkpoint_is_exported_or_refused_in_one_line(
    family: str, tmp_path: Path
) -> None:
    sound = make(tmp_path / "sound", family)
    refused = 0
    for kind in kinds_of(sound):
        for seed in SEEDS:
            folder = tmp_path / f"{kind} {seed}"
            folder.mkdir()
            said, error = tried(sound, kind, seed, folder)
            if error is not None:
                refused += 1
                assert error.startswith("error: "), said
                assert error.count("\n") == 1, said
                assert len(error) < 1000, said
    assert refused > 3 * len(SEEDS)  # else faults are not what they should be
