"""Parsers of a stranger's bytes take or refuse damaged examples; a fixed few, without a fuzzer.

`make fuzz-parsers` looks for more (docs/notes/2026-11-fuzz.md).
"""

import random
from pathlib import Path

import pytest

from tests.fuzz import sound
from tests.fuzz.mutations import damaged_header
from tests.fuzz.parsers import PARSERS, changed_bytes, examples, outcome

SEEDS = 40


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound").resolve()
    for name in (sound.MODEL, sound.ARTIFACT, sound.RECORDS, sound.QUESTIONS):
        sound.SOUND[name](folder, folder / name)
    return folder


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_bytes_are_taken_or_refused_in_one_line(name: str, root: Path) -> None:
    sound_bytes = [data for data in examples(name, root) if data]
    refused = 0
    for seed in range(SEEDS):
        chosen = random.Random(f"{name} {seed}")
        data = chosen.choice(sound_bytes)
        changed = changed_bytes(name, data, chosen) if seed % 2 else b""
        header = min(len(data), 2000)
        if not changed and header > 100:
            changed = damaged_header(chosen, data, header)
        said = outcome(name, changed or data[: len(data) // 2])
        assert "\n" not in said
        refused += bool(said)
    assert refused > SEEDS // 4
