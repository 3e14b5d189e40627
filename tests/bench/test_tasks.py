"""Questions are sampled and scored reproducibly, and distributions are compared."""

import importlib
import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli import parser
from bench.jobs.plan import Job
from bench.jobs.processes import run_job
from bench.options import FidelityOptions, Options
from bench.record import BadItem, Case, Item
from bench.scorers import SCORERS
from bench.subjects import candidate
from bench.tasks import TASKS, easy_vqa, generated, unavailable
from bench.tasks.fidelity import compare, questions_of
from bench.tasks.journal import Journal
from bench.tasks.latency import ids, image
from bench.tasks.questions import QUESTIONS_PER_IMAGE, chosen, sample
from bench.tasks.scenes import GENERATORS
from export.errors import UserError
from export.prompts import PromptTask as ModelTask
from export.prompts import Templates
from runtimes.base import Request
from runtimes.fake import FakeSession
from tests.bench.made import ENVIRONMENT, IMAGE_TOKEN_ID, VLM, MakeArtifact, MakeJob

MADE = [f"{number}.png" for number in range(50) for _ in range(9)]


def test_the_test_split_is_complete_and_grouped_by_image() -> None:
    questions = easy_vqa.questions()
    assert len(questions.pictures) == 9673
    assert len({questions.question(n).id for n in range(9673)}) == 9673
    changes = sum(here != before for before, here in itertools.pairwise(questions.pictures))
    assert changes == len(set(questions.pictures)) - 1 == 999


@pytest.mark.parametrize("limit", [1, 4, 30, 200, 300, 449])
def test_samples_are_spread_over_images_and_grouped(limit: int) -> None:
    found = sample(MADE, limit, 0)
    assert len(set(found)) == limit
    assert found == sorted(found)
    counts = Counter(MADE[n] for n in found)
    assert len(counts) == min(50, -(-limit // QUESTIONS_PER_IMAGE))


def test_samples_depend_only_on_the_seed() -> None:
    assert sample(MADE, 40, 7) == sample(MADE, 40, 7) != sample(MADE, 40, 8)
    assert sample(MADE, None, 7) == list(range(450))


@pytest.mark.parametrize("limit", [None, 40, 130])
def test_shards_divide_a_sample_by_images(limit: int | None) -> None:
    parts = [chosen(MADE, limit, 3, f"{n}/4") for n in range(1, 5)]
    assert sorted(itertools.chain(*parts)) == chosen(MADE, limit, 3, None)
    images = [{MADE[n] for n in part} for part in parts]
    assert sum(map(len, images)) == len(set.union(*images))


@pytest.mark.parametrize("word", ["0/4", "5/4", "2", "a/b", "-1/4"])
def test_impossible_shards_are_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["run", "there", f"--shard={word}"])
    assert f"'{word}' is not a shard; give I/N, for example 1/4" in capsys.readouterr().err


def test_answers_are_matched_without_case_and_outer_spaces(make_job: MakeJob) -> None:
    # "red" to every question (the tokenizer's word 3), "no" to one, then the end.
    questions = easy_vqa.questions()
    asked = [questions.question(n) for n in sample(questions.pictures, 12, 0)]
    texts = [question.turns[0].text for question in asked]
    answers = {texts[0]: [2, 0], **{text: [3, 0] for text in texts[1:]}}
    record = run_job(make_job({"answers": answers}, task="easy-vqa", limit=12), 60, ENVIRONMENT)
    assert record.reason is None
    items = {item.id: item for item in record.outcome.items}
    assert list(items) == [question.id for question in asked]
    for question, text in zip(asked, texts, strict=True):
        said = "no" if answers[text] == [2, 0] else "red"
        item = items[question.id]
        assert (item.answer, item.gold) == (said, question.turns[0].gold.answers)
        assert item.correct == (item.gold == (said,))
    evaluation = record.outcome.evaluation
    assert evaluation is not None
    assert (evaluation.scorer, evaluation.scorer_version) == ("exact", SCORERS["exact"].version)
    assert (evaluation.max_tokens, evaluation.asked, evaluation.bad) == (8, 12, ())
    assert evaluation.source.startswith("easy-vqa ")


def test_an_interrupted_evaluation_resumes(make_job: MakeJob, tmp_path: Path) -> None:
    path = tmp_path / "items"
    job = replace(make_job(task="easy-vqa", limit=8), journal=str(path))
    whole = run_job(job, 60, ENVIRONMENT)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(whole.outcome.items) == 8
    # Five items were written whole, the sixth not; the second is marked, to see that it is kept.
    second = json.loads(lines[1]) | {"answer": "kept"}
    kept = [lines[0], json.dumps(second).encode() + b"\n", *lines[2:5], lines[5][:10]]
    path.write_bytes(b"".join(kept))
    rest = run_job(job, 60, ENVIRONMENT)
    assert rest.outcome.evaluation is not None
    assert rest.outcome.evaluation.asked == 3
    assert [item.id for item in rest.outcome.items] == [item.id for item in whole.outcome.items]
    assert [item.answer for item in rest.outcome.items].count("kept") == 1


def test_a_journal_also_keeps_bad_items(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "items")
    journal.add(Item("1", "a", True, 0.5, "part", ("a", "b")))
    journal.add(BadItem("2", "no image"))
    journal.close()
    again = Journal(tmp_path / "items")
    again.close()
    assert (again.items, again.bad, again.known) == (journal.items, journal.bad, {"1", "2"})


def test_unusable_questions_are_kept_with_their_reason(make_job: MakeJob) -> None:
    questions = easy_vqa.questions()
    text = questions.question(sample(questions.pictures, 6, 0)[2]).turns[0].text
    job = make_job({"refuses": [text]}, task="easy-vqa", limit=6)
    record = run_job(job, 60, ENVIRONMENT)
    assert record.outcome.evaluation is not None
    bad = record.outcome.evaluation.bad
    assert len(bad) >= 1
    assert len(record.outcome.items) + len(bad) == 6
    assert all("refused" in item.reason for item in bad)


def test_a_batch_gives_the_same_items_and_only_the_bad_one_is_bad(
    make_job: MakeJob,
) -> None:
    questions = easy_vqa.questions()
    texts = [questions.question(n).turns[0].text for n in sample(questions.pictures, 6, 0)]
    script = {"refuses": [texts[2]], "answers": {texts[0]: [2, 0], texts[4]: [3, 0]}}
    job = make_job(script, task="easy-vqa", limit=6)
    options = replace(job.case.options, batch=4)
    alone = run_job(job, 60, ENVIRONMENT).outcome
    batched = run_job(
        replace(job, case=replace(job.case, options=options)), 60, ENVIRONMENT
    ).outcome
    assert batched.items == alone.items
    assert len({item.answer for item in alone.items}) > 1
    assert alone.evaluation is not None
    assert batched.evaluation is not None
    assert batched.evaluation.bad == alone.evaluation.bad != ()


@pytest.mark.parametrize("name", generated.GENERATED_TASKS)
def test_generated_tasks_ask_the_questions_of_their_scenes(name: str) -> None:
    if unavailable(TASKS[name]):
        pytest.skip(unavailable(TASKS[name]))
    questions = generated.questions(name, seed=5)
    scorer = SCORERS[generated.GENERATED_TASKS[name].scorer]
    for place in sample(questions.pictures, 8, 0):
        question = questions.question(place)
        turn = question.turns[0]
        assert scorer.score(turn.gold.answers[0], turn.gold) > 0.9  # places in whole percents
        assert scorer.score("nothing like it", turn.gold) == 0
        assert question.pictures[0].open().size[0] in (64, 448)
    assert f"version {GENERATORS[name].version}, seed 5" in questions.source


@pytest.mark.parametrize(("name", "model_task"), [("boxes", "detect"), ("points", "point")])
def test_models_that_find_regions_are_asked_by_their_own_task(
    name: str, model_task: str, make_artifact: MakeArtifact
) -> None:
    questions = generated.questions(name)
    asked = [questions.question(n) for n in sample(questions.pictures, 3, 0)]
    boxes = {question.subject: question.turns[0].gold.regions[0] for question in asked}
    assert len(boxes) == 3
    wrong = asked[0].subject
    boxes[wrong] = (0.0, 0.0, 0.001, 0.001)
    places = boxes
    if name == "points":
        places = {k: ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for k, b in boxes.items()}
    task = ModelTask((0,), "", "{question}", (0,), name, 1, ("image", "question"))  # type: ignore[arg-type]
    prompt = Templates((0,), IMAGE_TOKEN_ID, 4, {model_task: task})
    folder = make_artifact(script={"places": {k: [p] for k, p in places.items()}}, prompt=prompt)
    case = Case(candidate(str(folder)).subject, "fake", "cpu", 1, name, Options(limit=3), 0)
    record = run_job(Job(case, str(folder), None), 60, ENVIRONMENT)
    assert record.reason is None
    for item, question in zip(record.outcome.items, asked, strict=True):
        assert item.correct == (question.subject != wrong), question.subject
        expected = 1.0 if item.correct else 0.0
        assert item.value == pytest.approx(expected, abs=0.03)


def test_every_generated_task_has_a_generator() -> None:
    assert (
        set(generated.GENERATED_TASKS)
        == set(GENERATORS)
        == {name for name, task in TASKS.items() if task.module == "bench.tasks.generated"}
    )


def test_a_session_agrees_with_itself() -> None:
    requests = [Request(question, arrays=True) for question in ("a", "b")]
    session = FakeSession({"answers": {"a": (1, 2, 0), "b": (3, 0)}})
    found = compare("model", session, session, requests)
    assert (found.items, found.equal_answers, len(found.token_kld)) == (2, 2, 5)
    assert found.fidelity is not None
    assert (found.fidelity.mean_kld, found.fidelity.top1) == (0.0, 1.0)
    assert found.perplexity == found.reference_perplexity
    assert found.first_differences == (None, None)


def test_different_answers_are_counted_by_item_and_by_token() -> None:
    requests = [Request(question, arrays=True) for question in ("a", "b")]
    reference = FakeSession({"answers": {"a": (1, 2, 0), "b": (3, 0)}})
    subject = FakeSession({"answers": {"a": (1, 4, 0), "b": (3, 0)}})
    found = compare("model", reference, subject, requests)
    assert (found.items, found.equal_answers) == (2, 1)
    assert found.fidelity is not None
    assert found.fidelity.top1 == pytest.approx(4 / 5)
    assert [kld > 1 for kld in found.token_kld] == [False, True, False, False, False]
    assert found.first_differences == (1, None)
    assert found.perplexity is not None
    assert found.reference_perplexity is not None
    assert found.perplexity > found.reference_perplexity


def test_arbitrary_ids_are_reproducible_and_without_images() -> None:
    numbers = replace(VLM, text=replace(VLM.text, vocab=4 * IMAGE_TOKEN_ID))
    found = ids(numbers, 200)
    assert found == ids(numbers, 200)
    assert IMAGE_TOKEN_ID not in found
    assert max(found) < 2 * IMAGE_TOKEN_ID


def test_the_image_is_reproducible() -> None:
    assert image().tobytes() == image().tobytes()
    assert image().size == (640, 480)


def test_every_task_has_a_module() -> None:
    for task in TASKS.values():
        assert callable(importlib.import_module(task.module).run)


def test_fidelity_refuses_a_task_without_questions() -> None:
    with pytest.raises(UserError, match="unknown task with questions 'latency'"):
        questions_of(FidelityOptions(prompts="latency"))
