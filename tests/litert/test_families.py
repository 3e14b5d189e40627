"""Small random models of what no bundled model has: text alone, InternVL's tiles. make litert."""

from pathlib import Path

import pytest
from built_artifacts import CASES, assert_answers_as_the_reference

from export.checkpoint.registry import open_model
from export.errors import UserError
from export.exporter import export_model

pytestmark = pytest.mark.litert


@pytest.mark.parametrize("case", CASES)
def test_answers_and_logits_are_the_references(case: str, tmp_path: Path) -> None:
    assert_answers_as_the_reference(case, "litert", tmp_path)


@pytest.mark.parametrize("model", ["tiny-qwen2.5-vl", "tiny-moondream"])
def test_models_that_the_runner_has_no_inputs_for_are_refused(model: str, tmp_path: Path) -> None:
    opened, out = open_model(model), tmp_path / "out"
    family = opened.vlm.family
    with pytest.raises(UserError, match=f"the target has no inputs for models of {family}; "):
        export_model(opened, target="litert", recipe="fp32", out=out)
    assert not out.exists()
