"""Small random models of what no bundled model has: text alone, InternVL's tiles. -m executorch."""

from pathlib import Path

import pytest
from built_artifacts import CASES, assert_answers_as_the_reference

pytestmark = pytest.mark.executorch


@pytest.mark.parametrize("case", CASES)
def test_answers_and_logits_are_the_references(case: str, tmp_path: Path) -> None:
    assert_answers_as_the_reference(case, "executorch", tmp_path)
