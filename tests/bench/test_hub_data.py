"""A public data set comes from a hub, over HTTP by the real `datasets`, and then from its cache."""

import os
import subprocess
import sys
from pathlib import Path

from datasets import Dataset, Image
from local_hub import serving
from public_rows import ROWS

CARD = """---
configs:
- config_name: InfographicVQA
  data_files: [{split: validation, path: other/validation-*}]
- config_name: DocVQA
  data_files: [{split: validation, path: data/validation-*}, {split: test, path: data/test-*}]
---
"""
ASK = """
from bench.options import Options
from bench.tasks.public import questions
found = questions("docvqa", Options())
question = found.question(1)
print(len(found.pictures), question.pictures[0].open().size, question.turns[0].gold.answers[0])
"""


def asked(home: Path, address: str, offline: str) -> str:
    """In a process of its own: these settings are read when the libraries are imported."""
    places = {"HF_HOME": str(home), "HF_ENDPOINT": address}
    modes = {"HF_HUB_OFFLINE": offline, "TRANSFORMERS_OFFLINE": offline}
    words = [sys.executable, "-c", ASK]
    environment = {**os.environ, **places, **modes}
    done = subprocess.run(words, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def test_a_data_set_is_fetched_by_configuration_and_split_and_then_cached(tmp_path: Path) -> None:
    hub, home = tmp_path / "hub", tmp_path / "home"
    for folder in ("data", "other"):
        hub.joinpath(folder).mkdir(parents=True)
    hub.joinpath("README.md").write_text(CARD)
    (own,) = ROWS["docvqa"]
    rows = Dataset.from_list([own, own]).cast_column("image", Image())
    rows.to_parquet(str(hub / "data" / "validation-00000-of-00001.parquet"))
    for other in ("data/test", "other/validation"):
        rows.select([0]).to_parquet(str(hub / f"{other}-00000-of-00001.parquet"))
    expected = f"2 (12, 8) {own['answers'][0]}"
    with serving("lmms-lab-encoder/DocVQA", hub) as address:
        assert asked(home, address, offline="0") == expected
    assert asked(home, address, offline="1") == expected
