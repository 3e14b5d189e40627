"""Samples are seeded and spread, answers are matched as stated, distributions are compared."""

from collections import Counter
from dataclasses import replace

import pytest

from bench.jobs.processes import run_job
from bench.tasks import TASKS
from bench.tasks.easy_vqa import QUESTIONS_PER_IMAGE, Question, questions, sample
from bench.tasks.fidelity import compare
from bench.tasks.latency import ids, image
from runtimes.base import Request
from runtimes.fake import FakeSession
from tests.bench.made import ENVIRONMENT, IMAGE_TOKEN_ID, VLM, MakeJob

MADE = [
    Question(f"{number}/{n}", f"{number}.png", "", "") for number in range(50) for n in range(9)
]


def test_the_test_split_is_whole_and_grouped_by_image() -> None:
    everything = questions()
    assert len(everything) == 9673
    assert len({question.id for question in everything}) == 9673
    paths = [question.image_path for question in everything]
    changes = sum(here != before for here, before in zip(paths[1:], paths, strict=False))
    assert changes == len(set(paths)) - 1 == 999


@pytest.mark.parametrize("limit", [1, 4, 30, 200, 300, 449])
def test_samples_are_spread_over_images_and_grouped(limit: int) -> None:
    found = sample(MADE, limit, 0)
    assert len(found) == len({question.id for question in found}) == limit
    assert found == sorted(found, key=MADE.index)
    counts = Counter(question.image_path for question in found)
    assert len(counts) == min(50, -(-limit // QUESTIONS_PER_IMAGE))


def test_samples_depend_on_the_seed_alone() -> None:
    assert sample(MADE, 40, 7) == sample(MADE, 40, 7) != sample(MADE, 40, 8)
    assert sample(MADE, None, 7) == MADE


def test_answers_are_matched_without_case_and_edges(make_job: MakeJob) -> None:
    # "red" to every question (the tokenizer's word 3), "no" to one, then the end.
    chosen = sample(questions(), 12, 0)
    answers = {chosen[0].text: [2, 0], **{q.text: [3, 0] for q in chosen[1:]}}
    record = run_job(make_job({"answers": answers}, task="easy-vqa", limit=12), 60, ENVIRONMENT)
    assert record.reason is None
    items = {item.id: item for item in record.outcome.items}
    assert list(items) == [question.id for question in chosen]
    for question in chosen:
        said = "no" if answers[question.text] == [2, 0] else "red"
        assert items[question.id].answer == said
        assert items[question.id].correct == (question.answer == said)


def test_a_session_agrees_with_itself() -> None:
    requests = [Request(question, arrays=True) for question in ("a", "b")]
    session = FakeSession({"answers": {"a": (1, 2, 0), "b": (3, 0)}})
    found = compare("model", session, session, requests)
    assert (found.items, found.equal_answers, len(found.token_kld)) == (2, 2, 5)
    assert found.fidelity is not None
    assert (found.fidelity.mean_kld, found.fidelity.top1) == (0.0, 1.0)


def test_answers_that_differ_are_counted_by_item_and_by_token() -> None:
    requests = [Request(question, arrays=True) for question in ("a", "b")]
    reference = FakeSession({"answers": {"a": (1, 2, 0), "b": (3, 0)}})
    subject = FakeSession({"answers": {"a": (1, 4, 0), "b": (3, 0)}})
    found = compare("model", reference, subject, requests)
    assert (found.items, found.equal_answers) == (2, 1)
    assert found.fidelity is not None
    assert found.fidelity.top1 == pytest.approx(4 / 5)
    assert [kld > 1 for kld in found.token_kld] == [False, True, False, False, False]


def test_made_up_ids_are_the_same_every_time_and_no_images() -> None:
    numbers = replace(VLM, text=replace(VLM.text, vocab=4 * IMAGE_TOKEN_ID))
    found = ids(numbers, 200)
    assert found == ids(numbers, 200)
    assert IMAGE_TOKEN_ID not in found
    assert max(found) < 2 * IMAGE_TOKEN_ID


def test_the_picture_is_the_same_every_time() -> None:
    assert image().tobytes() == image().tobytes()
    assert image().size == (640, 480)


def test_every_task_has_its_code() -> None:
    import importlib

    for task in TASKS.values():
        assert callable(importlib.import_module(task.module).run)
