"""Public data sets in their own schemas become questions; bad data is named by file and row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from public_rows import ROWS, Row, png

from bench.analysis.rows import rows
from bench.cli import main, parser
from bench.commands.run import choices
from bench.options import Options
from bench.record import BadItem, read
from bench.reporting.accuracy import images
from bench.reporting.document import Bullets
from bench.scorers import SCORERS
from bench.tasks import DATA_SETS, TASKS
from bench.tasks.journal import Journal
from bench.tasks.public import public_tasks, questions
from bench.tasks.public_rows import DatasetLocation, DatasetRows
from bench.tasks.questions import QuestionSet, UnusableQuestion
from export.errors import UserError
from tests.bench.made import MakeArtifact

Write = Callable[..., Path]


@pytest.fixture
def parquet(tmp_path: Path) -> Write:
    """A folder of one parquet file, named as the hub names it."""

    def write(rows: list[Row], images: tuple[str, ...] = ("image",), split: str = "test") -> Path:
        from datasets import Dataset, Image

        folder = tmp_path / "rows"
        (folder / "data").mkdir(parents=True, exist_ok=True)
        found = Dataset.from_list(rows)
        for column in images:
            if column in found.column_names and rows and rows[0].get(column) is not None:
                found = found.cast_column(column, Image())
        found.to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))
        return folder

    return write


@pytest.fixture
def jsonl(tmp_path: Path) -> Write:
    """A folder of one jsonl file whose rows name image files beside it."""

    def write(rows: list[Any], name: str = "rows.jsonl") -> Path:
        folder = tmp_path / "lines"
        folder.mkdir(exist_ok=True)
        (folder / "red.png").write_bytes(png("red"))
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        text = "\n".join(lines) + "\n"
        (folder / name).write_bytes(text.encode(errors="surrogateescape"))
        return folder

    return write


def opened(name: str, folder: Path) -> QuestionSet:
    return questions(name, Options(data=str(folder)))


def row(**changes: Any) -> Row:
    """Of chartqa, naming an image file."""
    return {
        **{"type": "human_test", "question": "How many?", "answer": "14", "image": "red.png"},
        **changes,
    }


def test_every_public_task_is_a_file_with_a_scorer() -> None:
    assert list(public_tasks()) == DATA_SETS == sorted(ROWS)
    for name, task in public_tasks().items():
        assert task.scorer in SCORERS, name
        assert "{question}" in task.prompt, name
        assert TASKS[name].summary, name


@pytest.mark.parametrize("name", DATA_SETS)
def test_rows_in_the_hubs_schema_become_questions(name: str, parquet: Write) -> None:
    task, images = public_tasks()[name], public_tasks()[name].columns.images
    found = opened(name, parquet(ROWS[name], images, task.split))
    assert len(found.pictures) == len(ROWS[name])
    score = SCORERS[task.scorer].score
    for place in range(len(ROWS[name])):
        question = found.question(place)
        assert question.pictures[0].open().size == (12, 8)
        for turn in question.turns:
            assert ROWS[name][place]["question"].strip().splitlines()[0] in turn.text
            said = turn.gold.answers[0]
            assert score(said, turn.gold) == pytest.approx(1.0, abs=0.11)  # VQA: 9 of 10 people
            assert score("zebra", turn.gold) < 1 or name == "pope"


def test_options_are_lettered_and_rotated(parquet: Write) -> None:
    question = opened("mmbench", parquet(ROWS["mmbench"], split="dev")).question(0)
    assert [turn.gold.answers for turn in question.turns] == [("B",), ("A",), ("C",)]
    assert [turn.gold.options[0] for turn in question.turns] == ["a cat", "a dog", "a cow"]
    assert "A. a dog\nB. a cow\nC. a cat" in question.turns[1].text
    assert "D." not in question.turns[0].text


def test_hints_and_places_as_answers(parquet: Write) -> None:
    question = opened("scienceqa", parquet(ROWS["scienceqa"])).question(0)
    assert question.turns[0].text.startswith("Look at it.\nWhich is solid?\nA. ice\nB. air\n")
    assert (question.turns[0].gold.answers, question.part) == (("A",), "natural science")


def test_open_questions_have_their_own_prompt(parquet: Write) -> None:
    images = public_tasks()["mmmu"].columns.images
    found = opened("mmmu", parquet(ROWS["mmmu"], images, "validation"))
    chosen, free = found.question(0).turns[0], found.question(1).turns[0]
    assert "A. Ann\nB. Bo" in chosen.text
    assert free.text.endswith("Answer the question using a single word or phrase.")
    assert (free.gold.options, free.gold.answers) == ((), ("12",))


def test_only_files_of_the_split_are_read(parquet: Write) -> None:
    parquet(ROWS["chartqa"], split="train")
    folder = parquet(ROWS["chartqa"][:1], split="test")
    assert len(opened("chartqa", folder).pictures) == 1


def test_a_folder_of_the_tasks_name_comes_first(jsonl: Write) -> None:
    folder = jsonl([row(), row()])
    (folder / "chartqa").mkdir()
    (folder / "chartqa" / "own.jsonl").write_text(json.dumps(row()) + "\n", encoding="utf-8")
    assert len(opened("chartqa", folder).pictures) == 1


def test_missing_columns_name_the_file_and_its_columns(jsonl: Write, parquet: Write) -> None:
    changed = row()
    changed["reply"] = changed.pop("answer")
    columns = r"\(columns: image, question, reply, type\)"
    expected = rf"there is no column 'answer'; rename the right one {columns}"
    with pytest.raises(UserError, match=rf"rows\.jsonl: {expected}"):
        opened("chartqa", jsonl([changed]))
    with pytest.raises(UserError, match=rf"test-00000-of-00001\.parquet: {expected}"):
        opened("chartqa", parquet([{**changed, "image": {"bytes": png("red"), "path": None}}]))


def test_folders_without_rows_are_refused(tmp_path: Path, jsonl: Write) -> None:
    with pytest.raises(UserError, match="not a folder"):
        opened("chartqa", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"there are no \.parquet or \.jsonl files"):
        opened("chartqa", tmp_path)
    with pytest.raises(UserError, match="no rows"):
        opened("chartqa", jsonl([""]))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "test-0.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"test-0\.parquet: not a readable parquet file"):
        opened("chartqa", broken)


def test_the_hub_is_not_reached_when_offline() -> None:
    with pytest.raises(UserError, match=r"cannot be fetched.*--data DIR"):
        questions("chartqa", Options())


BAD: dict[str, tuple[Any, str]] = {
    "no JSON": ('{"question": ', r"row 2: not a JSON object"),
    "no object": ("[1]", r"row 2: not a JSON object"),
    "no question": (
        row(question=None),
        r"row 2, column 'question': expected a string, found nothing",
    ),
    "an empty question": (row(question=" "), r"row 2, column 'question': expected a string"),
    "a number as answer": (row(answer=14), r"row 2, column 'answer': expected a string.*found 14"),
    "no answers": (row(answer=[]), r"row 2, column 'answer': expected a string.*found \[\]"),
    "a lost answer": ({"question": "?", "type": "x", "image": "red.png"}, r"column 'answer'"),
    "not UTF-8": ('{"question": "caf\udce9"}', r"row 2: not a JSON object"),
    "nested without end": ("[" * 100_000, r"row 2: not a JSON object"),
    "an empty object": ({}, r"row 2, column '(answer|question)': expected a string.* nothing"),
    "mixed answers": (row(answer=["a", 1]), r"row 2, column 'answer': .*found \['a', 1\]"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_row_is_named_and_the_others_stay_usable(what: str, jsonl: Write) -> None:
    bad, expected = BAD[what]
    found = opened("chartqa", jsonl([row(), bad, row()]))
    with pytest.raises(UnusableQuestion, match=expected):
        found.question(1)
    assert [found.question(n).turns[0].gold.answers for n in (0, 2)] == [("14",)] * 2


def test_rows_are_lines_with_any_character_in_a_question(jsonl: Write) -> None:
    odd = json.dumps(row(question="How\u2028many\x85?"), ensure_ascii=False)
    found = opened("chartqa", jsonl(["", odd, "", row(answer=14)]))
    assert len(found.pictures) == 2
    assert "How\u2028many" in found.question(0).turns[0].text
    with pytest.raises(UnusableQuestion, match="row 4, column 'answer'"):
        found.question(1)


def test_brackets_are_text_and_only_yes_and_no_are_accepted(parquet: Write, jsonl: Write) -> None:
    found = opened("chartqa", jsonl([row(answer="[0.57, 0.62]")]))
    assert found.question(0).turns[0].gold.answers == ("[0.57, 0.62]",)
    (pope, *_) = ROWS["pope"]
    column = public_tasks()["pope"].columns.answers
    found = opened("pope", parquet([{**pope, column: said} for said in ("Yes", "maybe")]))
    assert found.question(0).turns[0].gold.answers == ("yes",)
    with pytest.raises(UnusableQuestion, match="expected yes or no, found 'maybe'"):
        found.question(1)


def test_an_option_missing_before_others_is_refused(parquet: Write) -> None:
    (bench, *_) = ROWS["mmbench"]
    found = opened("mmbench", parquet([{**bench, "B": "nan", "answer": "C"}], split="dev"))
    with pytest.raises(UnusableQuestion, match="column 'B': expected an option"):
        found.question(0)


CHOICES: dict[str, tuple[Row, str]] = {
    "more options than letters": (
        {"options": [str(n) for n in range(27)]},
        "'options': expected at most 26 options, found 27",
    ),
    "options nested without end": ({"options": f"[{'-' * 100_000}1]"}, "a list of strings"),
    "options that Python cannot hold": ({"options": "[{[]: 1}]"}, "a list of strings"),
    "an index of 5,000 digits": ({"answer": "9" * 5000}, "'answer': expected a letter up to"),
}


@pytest.mark.parametrize("what", CHOICES)
def test_a_choice_that_cannot_be_read_is_named(what: str, jsonl: Write) -> None:
    changes, expected = CHOICES[what]
    found = opened("ai2d", jsonl([{**ROWS["ai2d"][0], "image": "red.png", **changes}]))
    with pytest.raises(UnusableQuestion, match=expected):
        found.question(0)


def test_an_id_may_hold_half_a_surrogate_pair(jsonl: Write, tmp_path: Path) -> None:
    mmmu = {**ROWS["mmmu"][0], "image_1": "red.png", "id": "a\ud800"}
    question = opened("mmmu", jsonl([mmmu])).question(0)
    assert question.id == "a?"
    journal = Journal(tmp_path / "items")
    journal.add(BadItem("b\ud800", "said \ud800"))  # from another task
    journal.close()
    again = Journal(tmp_path / "items")
    again.close()
    assert again.known == {"b\ud800"}


IMAGES = {
    "a lost file": ("gone.png", "no such file"),
    "no image": ("rows.jsonl", "not an image"),
    "a file elsewhere": ("../../etc/passwd", "is outside of"),
    "nothing": (None, "expected one or a file's name, found nothing"),
    "a number": (3, "found 3"),
    "a name with a NUL": ("a\0.png", "cannot be a file"),
    "half a surrogate pair": ("a\ud800.png", "cannot be a file"),
}


@pytest.mark.parametrize("what", IMAGES)
def test_an_unreadable_image_is_named(what: str, jsonl: Write) -> None:
    value, expected = IMAGES[what]
    found = opened("chartqa", jsonl([row(), row(image=value)]))
    with pytest.raises(UserError, match=rf"rows\.jsonl, row 2, column 'image': .*{expected}"):
        found.question(1).pictures[0].open()


def test_a_row_without_its_image_is_named(jsonl: Write) -> None:
    lost = {key: value for key, value in row().items() if key != "image"}
    found = opened("chartqa", jsonl([row(), lost, row()]))
    with pytest.raises(UserError, match=r"row 2, column 'image': .*found nothing"):
        found.question(1).pictures[0].open()
    assert found.question(2).pictures[0].open().size == (12, 8)


def test_damaged_bytes_in_parquet_are_named(parquet: Write) -> None:
    rows = [dict(ROWS["chartqa"][0]), dict(ROWS["chartqa"][1])]
    rows[1]["image"] = {"bytes": png("red")[:40], "path": None}
    found = opened("chartqa", parquet(rows))
    assert found.question(0).pictures[0].open().size == (12, 8)
    with pytest.raises(UserError, match=r"parquet, row 2, column 'image': the image: "):
        found.question(1).pictures[0].open()


def test_letters_beyond_the_options_are_refused(parquet: Write) -> None:
    rows = [{**ROWS["ai2d"][0], "answer": "4"}]
    with pytest.raises(UnusableQuestion, match=r"column 'answer': expected a letter up to D"):
        opened("ai2d", parquet(rows)).question(0)


def test_an_answer_of_several_letters_is_refused(parquet: Write) -> None:
    rows = [{**ROWS["ai2d"][0], "answer": "AB"}]
    with pytest.raises(UnusableQuestion, match=r"expected a letter up to D.*found 'AB'"):
        opened("ai2d", parquet(rows)).question(0)


def test_a_choice_without_options_is_refused(parquet: Write) -> None:
    rows = [{**ROWS["mmbench"][0], "A": "nan", "B": "nan", "C": "nan"}]
    with pytest.raises(UnusableQuestion, match=r"column 'A': expected an option, found 'nan'"):
        opened("mmbench", parquet(rows, split="dev")).question(0)


def test_rows_with_one_id_stay_two_items(parquet: Write) -> None:
    found = opened("pope", parquet([ROWS["pope"][0], ROWS["pope"][0]]))
    assert [found.question(n).id for n in (0, 1)] == ["0#0", "0#1"]


def test_rows_without_an_image_key_share_no_image(parquet: Write) -> None:
    rows = [{**row, "image_source": None} for row in ROWS["pope"]]
    assert opened("pope", parquet([*rows, ROWS["pope"][0]])).pictures == [
        "0",
        "1",
        "COCO_val2014_1",
    ]


def test_row_numbers_continue_over_several_files(jsonl: Write) -> None:
    jsonl([row(), row()], "a.jsonl")
    folder = jsonl([row(question="last?")], "b.jsonl")
    table = DatasetRows(DatasetLocation("d", None, "test", None, folder), ("question",))
    assert (len(table), table.column("question")[2]) == (3, "last?")
    assert table.where(2, "question").endswith("b.jsonl, row 1, column 'question'")


def test_bad_items_are_recorded_and_bad_columns_stop_the_run(
    make_artifact: MakeArtifact, jsonl: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = ["run", str(make_artifact()), "--runtime", "fake", "--task", "chartqa", "--data"]
    output = tmp_path / "run.jsonl"
    folder = jsonl([row(), row(image="gone.png"), row(answer=3), row()])
    assert main([*run, str(folder), "-o", str(output)]) == 0
    (record,), _ = read([output])
    evaluation = record.outcome.evaluation
    assert evaluation is not None
    assert [item.id for item in record.outcome.items] == ["0", "3"]
    assert [item.id for item in evaluation.bad] == ["1", "2"]
    assert "row 2, column 'image'" in evaluation.bad[0].reason
    assert list(tmp_path.glob("*.items")) == []
    changed = row()
    del changed["answer"]
    assert main([*run, str(jsonl([changed])), "-o", str(output)]) == 2
    assert "there is no column 'answer'" in capsys.readouterr().err
    assert main([*run, str(jsonl([row(answer=3)])), "-o", str(output)]) == 1
    assert "none of 1 items can be used; the first: " in capsys.readouterr().err


def test_grey_values_that_are_cut_are_in_the_record_and_the_report(
    make_artifact: MakeArtifact, jsonl: Write, tmp_path: Path
) -> None:
    folder, output = jsonl([row(), row(image="grey.png")]), tmp_path / "run.jsonl"
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(folder / "grey.png")
    words = ["run", str(make_artifact()), "--runtime", "fake", "--task", "chartqa", "--data"]
    assert main([*words, str(folder), "-o", str(output)]) == 0
    (record,), _ = read([output])
    (note,) = record.outcome.evaluation.notes
    assert note.startswith(f"1 with a loss, the first: {folder / 'grey.png'}: grey values from 0 ")
    assert images(rows([record])) == [Bullets([f"chartqa: {note}"])]


def test_an_unknown_task_suggests_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x", "--task", "chartqq"]) == 2
    assert "unknown task 'chartqq'; did you mean chartqa" in capsys.readouterr().err


def test_public_tasks_are_not_among_the_default_ones() -> None:
    chosen = choices(parser().parse_args(["run", "tiny-smolvlm"]))
    assert list(chosen.tasks) == ["latency", "easy-vqa", "fidelity"]
