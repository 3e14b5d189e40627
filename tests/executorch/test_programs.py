"""ExecuTorch programs of the bundled models compute what the checkpoints do. -m executorch."""

import importlib
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from answering import TWINS
from built_artifacts import Made, assert_float32_is_proven, first_logits

from export.artifact import Artifact, load_artifact
from export.checkpoint.registry import open_model
from export.executorch.memory import planned_bytes
from export.quantize.recipe import RECIPES
from export.summary import delegation_lines
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.base import Request
from runtimes.proof.probes import probes

pytestmark = pytest.mark.executorch
PROBES = probes(64)
NEW_POSITIONS = 20
"""Fewer than any prompt has, and not fewer than an image that sees ahead."""
INT4 = ("tiny-qwen2.5-vl", "int4")
NETWORKS = {"vision_encoder", "token_embedding", "text_decoder"}
REGIONS = {f"{n}_{kind}" for n in ("coordinate", "size") for kind in ("embedding", "bins")}
MORE = {"tiny-moondream": {"projection", *REGIONS}}


@pytest.mark.parametrize("model", TWINS)
def test_the_proof_of_float32_passes(model: str, made: Made) -> None:
    assert_float32_is_proven(made(model, "fp32"))


@pytest.mark.parametrize("model", TWINS)
def test_the_proof_of_int8_passes(model: str, made: Made) -> None:
    proof = made(model, "int8").manifest.proof
    assert proof is not None
    assert proof.passed, proof.failures


@pytest.mark.parametrize("model", TWINS)
def test_the_manifest_says_what_runs_in_xnnpack(model: str, made: Made) -> None:
    artifact = load_artifact(made(model, "fp32").path)
    details = artifact.manifest.details.executorch
    assert details is not None
    assert set(details.methods) == NETWORKS | MORE.get(model, set())
    for name, found in details.methods.items():
        assert found.operators == found.delegated_operators + sum(found.outside.values()), name
        assert 0 <= found.delegated_weight_bytes <= found.weight_bytes, name
    decoder = details.methods["text_decoder"]
    assert decoder.delegated_weight_bytes > 0.9 * decoder.weight_bytes
    assert len(list(delegation_lines(details.methods))) >= len(details.methods)


@pytest.mark.parametrize("model", TWINS)
def test_a_prompt_whose_start_is_cached_gives_the_same_logits(model: str, made: Made) -> None:
    session = RUNTIMES["executorch"].open_session(made(model, "fp32"), threads=1)
    request = Request("what color is it?", PROBES[0].images, max_tokens=1, arrays=True)
    first, again = first_logits(session, request), first_logits(session, request)
    assert np.abs(first - again).max() <= 1e-4 * np.abs(first).max()


@pytest.mark.parametrize("model", TWINS)
def test_a_prompt_in_parts_gives_the_same_logits(model: str, made: Made) -> None:
    whole = made(model, "fp32")
    request = Request("what color is it?", PROBES[0].images, max_tokens=1, arrays=True)
    logits = [
        first_logits(RUNTIMES["executorch"].open_session(artifact, threads=1), request)
        for artifact in (whole, in_parts(whole))
    ]
    assert np.abs(logits[0] - logits[1]).max() <= 1e-4 * np.abs(logits[0]).max()


def in_parts(artifact: Artifact) -> Artifact:
    """Returns the artifact as if its decoder took fewer positions at once than the prompt has."""
    manifest = artifact.manifest
    found = manifest.details.executorch
    assert found is not None
    fewer = replace(found, new_positions=max(NEW_POSITIONS, manifest.vlm.text.prefix))
    details = replace(manifest.details, executorch=fewer)
    return replace(artifact, manifest=replace(manifest, details=details))


@pytest.mark.parametrize(("model", "recipe"), [*product(TWINS, ("fp32", "int8")), INT4])
def test_the_predicted_size_is_within_what_the_target_states(
    model: str, recipe: str, made: Made
) -> None:
    artifact, target = made(model, recipe), TARGETS["executorch"]
    predicted = target.sizes(open_model(model), RECIPES[recipe], "native")
    written = {name: artifact.manifest.files[name].bytes for name in predicted}
    assert list(written) == ["model.pte"]
    assert sum(predicted.values()) == pytest.approx(
        sum(written.values()), rel=target.size_error["native"]
    )


@pytest.mark.parametrize("model", TWINS)
def test_the_predicted_memory_of_a_program_is_what_was_planned(model: str, made: Made) -> None:
    path = made(model, "int8").file("decoder")  # imports ExecuTorch without its warnings
    serialize = importlib.import_module("executorch.exir._serialize._program")
    plans = serialize.deserialize_pte_binary(path.read_bytes()).program.execution_plan
    sizes = next(plan for plan in plans if plan.name == "text_decoder").non_const_buffer_sizes
    values, cache = planned_bytes(open_model(model).vlm)
    assert sizes[2] == cache
    assert sizes[1] == pytest.approx(values, rel=0.01)
