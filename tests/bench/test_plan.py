"""A plan has every combination, as a job or as a skip with its reason."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from bench.jobs.plan import Choices, plan
from bench.machine.profiles import PROFILES
from bench.options import Options
from bench.references import References
from bench.subjects import Candidate
from bench.tasks import TASKS
from export.errors import UserError
from export.model import Model
from export.origin import identity
from runtimes import RUNTIMES, Runtime
from tests.bench.made import PROMPT, VLM, files, subject

ONNX = Candidate(subject("int4", 1.5), "a/onnx-int4")
GGUF = Candidate(replace(subject("int8", 2.5), target="gguf"), "a/gguf-int8")
RANDOM = Candidate(replace(subject("int4", 300), synthetic=True), "a/random")
CHECKPOINT = Candidate(subject(None, 3.3), "tiny-smolvlm")
STRANGER = Candidate(replace(subject("int4", 1.5), model="fine-tune"), "a/fine-tune")
BLIND = Candidate(subject("int4", 1.5), "a/text", has_vision=False)
TWIN = Candidate(subject("int4", 1.5, origin=files("another")), "a/twin")
FETCHED = Candidate(subject("int4", 1.5, origin={"hub": "o/m", "revision": "c0"}), "a/fetched")
OWN = replace(STRANGER, checkpoint="./fine-tune")
ABSENT = Runtime("runtimes.fake", ("onnx",), ("cpu",), imports=("no_such_library",))


@dataclass(frozen=True)
class Unread:
    """Weights of which only the origin is asked."""

    origin: dict[str, Any]


def opened(location: str, commit: str | None, offline: bool) -> Model:
    """The checkpoints there are: bundled ones, and one at a commit on the hub."""
    hub = {"hub": location, "revision": commit} if commit else {}
    name = "another" if location == "there" else "tiny-smolvlm"
    assert offline == location.startswith("models.yaml:"), "a namesake is not fetched"
    return Model(location, VLM, None, PROMPT, Unread({**files(name), **hub}), {}, None)


def choices(**changes: Any) -> Choices:
    made = Choices(
        runtimes={"fake": RUNTIMES["fake"]},
        asked_runtimes=False,
        tasks={name: TASKS[name] for name in ("latency", "easy-vqa", "fidelity")},
        options=Options(),
        rounds=1,
        threads=1,
        references=References(None, open=opened),
    )
    return replace(made, **changes)


def test_repeated_tasks_are_interleaved_by_rounds_and_come_first() -> None:
    jobs = plan([ONNX, GGUF], choices(rounds=3)).jobs
    found = [(job.case.task, job.case.round, job.location[-4:]) for job in jobs]
    rounds = [("latency", n, end) for n in range(3) for end in ("int4", "int8")]
    once = [(task, 0, end) for task in ("easy-vqa", "fidelity") for end in ("int4", "int8")]
    assert found == rounds + once


def test_contended_jobs_follow_the_same_job_on_a_free_machine() -> None:
    jobs = plan([ONNX, GGUF], choices(rounds=2, contended=True)).jobs
    found = [(job.case.options.contended, job.case.round, job.location[-4:]) for job in jobs]
    rounds = [
        (busy, n, end) for n in range(2) for end in ("int4", "int8") for busy in (False, True)
    ]
    others = [(False, 0, end) for _ in range(2) for end in ("int4", "int8")]
    assert found == rounds + others


def test_an_artifact_named_twice_is_measured_once() -> None:
    again = replace(ONNX, location="elsewhere/onnx-int4")
    assert plan([ONNX, GGUF, again], choices()).jobs == plan([ONNX, GGUF], choices()).jobs


SKIPS = [
    (ONNX, {"runtimes": {"x": ABSENT}}, "no_such_library is not installed"),
    (GGUF, {"runtimes": {"x": ABSENT}, "asked_runtimes": True}, "it opens onnx, and this is gguf"),
    (ONNX, {"device": "cuda"}, "it has no device cuda, only cpu"),
    (RANDOM, {"tasks": {"easy-vqa": TASKS["easy-vqa"]}}, "random weights"),
    (RANDOM, {"tasks": {"fidelity": TASKS["fidelity"]}}, "random weights"),
    (STRANGER, {"tasks": {"fidelity": TASKS["fidelity"]}}, "name its checkpoint with --reference"),
    (
        TWIN,
        {"tasks": {"fidelity": TASKS["fidelity"]}},
        "models.yaml:tiny-smolvlm is another model (model.safetensors is 74696e792d73, "
        "expected 616e6f746865 (SHA-256)); name its checkpoint with --reference",
    ),
    (
        ONNX,
        {"tasks": {"x": replace(TASKS["latency"], imports=("no_such_library",))}},
        "needs no_such_library",
    ),
    (BLIND, {"tasks": {"latency": TASKS["latency"]}}, "takes no images, choose --prompt text"),
    (
        BLIND,
        {"tasks": {"easy-vqa": TASKS["easy-vqa"]}, "options": Options(prompt="text")},
        "its model takes no images",
    ),
    (
        ONNX,
        {"tasks": {"fidelity": TASKS["fidelity"]}, "options": Options(shard="1/2")},
        "cannot be merged from shards",
    ),
    (
        CHECKPOINT,
        {
            "tasks": {"fidelity": TASKS["fidelity"]},
            "runtimes": {"x": replace(RUNTIMES["fake"], takes="checkpoint")},
        },
        "is what artifacts are compared with",
    ),
    (
        ONNX,
        {
            "tasks": {"easy-vqa": TASKS["easy-vqa"]},
            "options": Options(batch=2),
            "runtimes": {"x": replace(RUNTIMES["fake"], batches=False)},
        },
        "it answers one question at a time; --batch is for reference",
    ),
]


@pytest.mark.parametrize(("candidate", "changes", "reason"), SKIPS)
def test_impossible_jobs_are_skipped_with_their_reason(
    candidate: Candidate, changes: dict[str, Any], reason: str
) -> None:
    found = plan([candidate], choices(**changes))
    assert not found.jobs
    assert found.skips
    assert all(reason in skip.reason for skip in found.skips)


def test_a_text_only_model_is_timed_with_text_prompts() -> None:
    made = choices(tasks={"latency": TASKS["latency"]}, options=Options(prompt="text"))
    assert len(plan([BLIND], made).jobs) == 1


def test_runtimes_of_other_targets_are_skips_only_if_named() -> None:
    found = plan([GGUF], choices(runtimes={"x": ABSENT}))
    assert found.jobs == found.skips == ()


ONLY_FIDELITY = {"fidelity": TASKS["fidelity"]}


def test_a_named_reference_is_used_for_every_subject() -> None:
    asked = choices(tasks=ONLY_FIDELITY, references=References("there", open=opened))
    jobs = plan([ONNX, STRANGER], asked).jobs
    assert [job.reference and job.reference.location for job in jobs] == ["there", "there"]
    assert {job.case.reference for job in jobs} == {identity(files("another"))}


REFERENCES = {
    "its namesake of equal digests": (ONNX, "models.yaml:tiny-smolvlm", None),
    "the model that this run exported": (OWN, "./fine-tune", None),
    "the repository at its commit": (FETCHED, "o/m", "c0"),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_an_artifact_is_compared_with_the_checkpoint_of_its_origin(case: str) -> None:
    candidate, location, commit = REFERENCES[case]
    (job,) = plan([candidate], choices(tasks=ONLY_FIDELITY)).jobs
    assert job.reference is not None
    assert (job.reference.location, job.reference.commit) == (location, commit)


def test_a_reference_that_cannot_be_opened_is_a_skip_with_a_remedy() -> None:
    def refuse(location: str, commit: str | None, offline: bool) -> Model:
        raise UserError("it is not in the cache")

    asked = choices(tasks=ONLY_FIDELITY, references=References(None, open=refuse))
    (skip,) = plan([ONNX], asked).skips
    assert skip.reason.endswith("(it is not in the cache); name its checkpoint with --reference")


PHONE = {"phone-4gb": PROFILES["phone-4gb"], "phone-8gb": PROFILES["phone-8gb"]}
ONLY_LATENCY = {"latency": TASKS["latency"]}


def test_a_profile_sets_threads_up_to_the_available_ones() -> None:
    jobs = plan([ONNX], choices(profiles=PHONE, threads=3, tasks=ONLY_LATENCY)).jobs
    found = [(job.case.profile, job.case.threads) for job in jobs]
    assert found == [("phone-4gb", 2), ("phone-8gb", 3)]


PROFILE_SKIPS = [
    (CHECKPOINT, "reference", "phone-4gb", "latency", "phone-4gb has no reference, only"),
    (ONNX, "fake", "cuda", "latency", "it has no device cuda, only cpu"),
    (ONNX, "fake", "desktop", "fidelity", "no profile has enough for both"),
]


@pytest.mark.parametrize(("candidate", "runtime", "profile", "task", "reason"), PROFILE_SKIPS)
def test_jobs_that_a_profile_excludes_are_skipped(
    candidate: Candidate, runtime: str, profile: str, task: str, reason: str
) -> None:
    made = choices(
        runtimes={runtime: RUNTIMES[runtime]},
        profiles={profile: PROFILES[profile]},
        tasks={task: TASKS[task]},
    )
    found = plan([candidate], made)
    assert found.jobs == ()
    assert [reason in skip.reason for skip in found.skips] == [True]


def test_a_failed_export_is_skipped_with_its_problem() -> None:
    unmade = replace(ONNX, problem="it could not be exported: disk full")
    (skip,) = plan([unmade], choices(tasks=ONLY_LATENCY)).skips
    assert skip.reason == "it could not be exported: disk full"
