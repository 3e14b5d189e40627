"""The lines about a proof that an export prints: every figure with its unit and its limit."""

from dataclasses import replace

import pytest

from export.bounds import BOUNDS
from export.manifest import Quantization
from export.proof import (
    Checks,
    Features,
    Fidelity,
    GreedyCheck,
    PreprocessingCheck,
    Proof,
    ReferenceCheck,
    RegionCheck,
    Skipped,
    TensorCheck,
)
from export.proof_lines import proof_lines
from export.quantize.recipe import Calibration
from export.summary import calibration_lines, types_line

CHECKS = Checks(
    tensors=TensorCheck(84),
    preprocessing=PreprocessingCheck(6, 0.0, 6, True, "chat_template.json", "pil"),
    reference=ReferenceCheck(
        model="Idefics3ForConditionalGeneration",
        prompts=2,
        n=28,
        text_layers=4,
        of_text_layers=4,
        vision_layers=2,
        of_vision_layers=4,
        max_error=1.2e-6,
        mean_kld=1e-12,
        max_kld=1e-11,
        top1=1.0,
    ),
    features=Features(96, 0.9999812, 0.97, 0.02),
    logits=Fidelity(62, 0.37561, 1.5, 2.25, 3.0, 0.80645),
    greedy=GreedyCheck(11, 27),
    places=RegionCheck(3, {"detect": 0.0, "point": 0.0, "gaze": 0.125}),
)
PROOF = Proof(True, None, (), CHECKS)

SHOWN = """\
proof: passed
  tensors: all 84 of the checkpoint are explained
  preprocessing: pixels differ by at most 0 (limit: at most 1e-05) and token ids are equal in 6 \
of 6 prompts (chat_template.json, Pillow backend)
  reference: our torch model against transformers' Idefics3ForConditionalGeneration, largest error \
of a logit 1.2e-06 of the largest one (limit: at most 5e-05), over 28 tokens, 4 of 4 text layers \
and 2 of 4 vision layers
  the artifact against our torch model:
    vision features: mean cosine 0.999981 (limit: at least 0.9), lowest 0.97, largest error 0.02 \
of the largest value, over 96 feature vectors
    logits: mean KLD 0.3756 nats (limit: at most 0.5), 99th percentile 1.5, 99.9th 2.25, largest \
3; top-1 agreement 0.8065 (limit: at least 0.7), over 62 tokens
    greedy tokens: 11 of 27 equal
    points and boxes: detect 0, point 0, gaze 0.125 of the image off
"""


def shown(proof: Proof | None, recipe: str = "int4") -> str:
    return "".join(f"{line}\n" for line in proof_lines(proof, BOUNDS[recipe]))


def test_each_figure_is_shown_with_its_unit_and_its_limit() -> None:
    assert shown(PROOF) == SHOWN


def test_where_results_must_be_equal_greedy_tokens_and_points_have_limits() -> None:
    lines = shown(PROOF, "fp32")
    assert "greedy tokens: 11 of 27 equal (limit: all)\n" in lines
    assert "gaze 0.125 of the image off (limit: at most 1e-06)\n" in lines


def test_limits_that_did_not_decide_are_not_shown() -> None:
    lines = shown(replace(PROOF, passed=None, unjudged="weights are random"))
    assert lines.startswith("proof: no verdict (weights are random)\n")
    reading, compared = lines.split("the artifact against our torch model:\n")
    assert reading.count("limit") == 2
    assert "limit" not in compared


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"reference": Skipped("transformers has no model of this family")},
            "  reference: not compared: transformers has no model of this family\n",
        ),
        (
            {"preprocessing": PreprocessingCheck(2, 0.0, 2, True, "tokenizer_config.json")},
            "  preprocessing: token ids are equal in 2 of 2 prompts (tokenizer_config.json)\n",
        ),
        (
            {"preprocessing": PreprocessingCheck(6, float("inf"), 5, False, "t.jinja", "pil")},
            "  preprocessing: images differ in shape and token ids are equal in 5 of 6 prompts "
            "(t.jinja, Pillow backend)\n",
        ),
        (
            {"preprocessing": PreprocessingCheck(6, 0.0, None, True, "not compared, why", "pil")},
            "  preprocessing: pixels differ by at most 0 (limit: at most 1e-05) and token ids not "
            "compared, why (Pillow backend)\n",
        ),
    ],
    ids=["no model", "no images", "other shapes", "no tokenizer"],
)
def test_what_was_not_compared_is_named(changes: dict[str, Skipped], line: str) -> None:
    assert line in shown(replace(PROOF, checks=replace(CHECKS, **changes)))


def test_a_type_of_two_writers_is_counted_once() -> None:
    quantization = Quantization(10.1, {}, {"float32": 70, "int8 by rows": 900, "F32": 30}, ())
    assert types_line(quantization) == (
        "bits per weight 10.10: 90.0 % int8 by rows, 10.0 % float32"
    )


@pytest.mark.parametrize(
    ("calibrated", "lines"),
    [
        (None, []),
        (
            Calibration("mine.jsonl", "0" * 64, 24),
            ["4-bit weights were rounded with GPTQ, calibrated on 24 questions of mine.jsonl"],
        ),
        (
            Calibration("the proof's probes"),
            ["4-bit weights were rounded with GPTQ, calibrated on PocketVLM's own questions"],
        ),
    ],
    ids=["not calibrated", "a file", "our own"],
)
def test_calibration_is_said_with_its_questions(
    calibrated: Calibration | None, lines: list[str]
) -> None:
    assert list(calibration_lines(calibrated)) == lines
