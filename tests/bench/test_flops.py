"""The work of a request comes from shapes and from the artifact's own account of its bytes."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.jobs.flops import decoder_bytes, work_of
from bench.subjects import load
from export.artifact import Artifact
from export.manifest import Quantization, Share
from tests.bench.made import VLM, MakeArtifact, timing

HEAD = VLM.text.vocab * VLM.text.hidden


def artifact(make: MakeArtifact, components: dict[str, Share]) -> Artifact:
    quantization = Quantization(4.5, components, {}, ())
    loaded = load(str(make(quantization=quantization)))
    assert isinstance(loaded, Artifact)
    return loaded


@pytest.mark.parametrize(
    ("decoder_parameters", "expected"),
    [(10**6, 1000), (HEAD, 1000 + 77)],
    ids=["the decoder lists the tied head", "the embedding alone lists it"],
)
def test_a_tied_head_is_read_once(
    make_artifact: MakeArtifact, decoder_parameters: int, expected: int
) -> None:
    parts = {"decoder": Share(decoder_parameters, 0, 1000), "embedding": Share(HEAD, 0, 77)}
    assert decoder_bytes(artifact(make_artifact, parts)) == expected


def test_decoding_reads_weights_and_the_cache_in_the_middle_of_the_answer(
    make_artifact: MakeArtifact,
) -> None:
    loaded = artifact(make_artifact, {"decoder": Share(10**6, 0, 1000)})
    work = work_of(loaded, timing(1, tokens=4), cache_value_bytes=2)
    text = VLM.text
    a_position = 2 * text.layers * text.kv_heads * text.head_dim * 2
    assert work.decode_bytes == 1000 + (40 + 2) * a_position


def test_phases_that_a_request_did_not_have_are_none(make_artifact: MakeArtifact) -> None:
    loaded = artifact(make_artifact, {})
    one = replace(timing(1, tokens=1), image_tiles=None, prefill_positions=None)
    work = work_of(loaded, one, 4)
    assert (work.image_flops, work.prefill_flops, work.decode_flops) == (None, None, None)
    assert work.decode_bytes is None


def test_the_reference_stores_all_weights_as_float32() -> None:
    from export.checkpoint.registry import open_model

    model = open_model(str(Path(__file__).parents[2] / "models" / "tiny-smolvlm"))
    size = decoder_bytes(model)
    assert size is not None
    assert size % 4 == 0
