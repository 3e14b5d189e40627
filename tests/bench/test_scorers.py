"""Scorers agree with examples worked by hand and with the reference implementations."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.scorers import SCORERS, Gold, choice, mmmu, regions, vqa, yes_no
from tests.golden import predictions

SCORES = np.load(Path(__file__).parents[1] / "golden" / "scores.npz")
LETTERS = ("cats", "two dogs", "a bird", "none")


def ten(*counts: tuple[str, int]) -> Gold:
    """Ten people's answers."""
    answers = tuple(answer for answer, count in counts for _ in range(count))
    assert len(answers) == 10
    return Gold(answers)


# By hand: with m of ten equal to the answer, m people see m - 1 others and 10 - m see m of them.
VQA = [
    ("cat", ten(("cat", 10)), 1.0),
    ("cat", ten(("cat", 4), ("dog", 6)), 1.0),  # everyone finds 3 others
    ("cat", ten(("cat", 3), ("dog", 7)), (3 * 2 / 3 + 7 * 1) / 10),  # 0.9
    ("cat", ten(("cat", 2), ("dog", 8)), (2 * 1 / 3 + 8 * 2 / 3) / 10),  # 0.6
    ("cat", ten(("cat", 1), ("dog", 9)), (1 * 0 + 9 * 1 / 3) / 10),  # 0.3
    ("bird", ten(("cat", 1), ("dog", 9)), 0.0),
    # Where all agree nothing is normalised …
    ("The Cat.", ten(("cat", 10)), 0.0),
    (" cat\n", ten(("cat", 10)), 1.0),
    # … and where they do not, articles, case, punctuation, number words and contractions are.
    ("The Cat.", ten(("cat", 9), ("dog", 1)), 1.0),
    ("two", ten(("2", 5), ("3", 5)), 1.0),
    ("none", ten(("0", 5), ("3", 5)), 1.0),
    ("eleven", ten(("11", 5), ("3", 5)), 0.0),
    ("dont", ten(("don't", 5), ("do", 5)), 1.0),
    ("1,000", ten(("1000", 5), ("3", 5)), 1.0),  # digits with a comma lose all marks
    ("coca-cola", ten(("coca cola", 5), ("pepsi", 5)), 1.0),  # a mark within becomes a space
    ("coca - cola", ten(("coca  cola", 5), ("pepsi", 5)), 1.0),  # beside a space it goes
    ("3.5", ten(("3.5", 5), ("35", 5)), 1.0),  # a period before a digit stays
    ("p.m.", ten(("pm", 5), ("am", 5)), 1.0),
    ("caf\u00e9", ten(("cafe", 5), ("bar", 5)), 0.0),  # accents are letters
]
ANLS = [
    ("hello", ("hello",), 1.0),
    ("HELLO ", ("hello",), 5 / 6 + 1 / 6),  # stripped before distances; 0 edits
    ("hallo", ("hello",), 1 - 1 / 5),
    ("hxxxo", ("hello",), 0.0),  # 1 - 3/5 is below one half
    ("hexx", ("help",), 0.5),  # exactly one half still counts
    ("world", ("hello", "word"), 1 - 1 / 5),  # the best of several
    ("", ("",), 1.0),
    ("", ("a",), 0.0),
    ("\ud55c\uad6d\uc5b4", ("\ud55c\uad6d\ub9d0",), 1 - 1 / 3),  # syllables are letters
    ("2019", ("2020",), 0.5),
]
RELAXED = [
    ("105", "100", 1.0),
    ("105.1", "100", 0.0),
    ("95", "100", 1.0),
    ("94.9", "100", 0.0),
    ("-95", "-100", 1.0),
    ("0", "0", 1.0),  # a gold of 0 is a text
    ("0.0", "0", 0.0),
    ("0.001", "0", 0.0),
    ("5%", "0.05", 1.0),
    ("0.05", "5%", 1.0),
    ("5", "5%", 0.0),
    ("1950", "2019", 1.0),  # years are numbers: 3.4 % off
    ("1910", "2019", 0.0),
    ("1,000", "1000", 0.0),  # not a number, and not the same text
    ("Yes ", "yes", 1.0),
    ("yes.", "yes", 0.0),
    ("nan", "5", 0.0),
    ("%", "5", 0.0),
]
OCR = [
    ("The sign says STOP here", "stop", "", 1.0),
    ("st op", "stop", "", 0.0),
    ("exit\nonly", "exit only", "", 1.0),
    ("x ^ 2 + 1", "x^2+1", "HME100k", 1.0),
    ("X^2", "x^2", "HME100k", 0.0),
    ("x ^ 2", "x^2", "", 0.0),
    ("\uff33\uff34\uff2f\uff30", "stop", "", 0.0),  # full-width letters are not folded
]
CHOICE = [
    ("A", "A"),
    ("(B)", "B"),
    ("C.", "C"),
    ("The answer is D, the last", "D"),
    ("A or B", None),
    ("b", None),  # lower case is no letter
    ("it is the two dogs", "B"),
    ("cats and none", None),  # two texts
    ("Z", "Z"),
    ("", None),
    ("A cat sits on the mat and looks", None),  # an article far from the end
    ("The correct answer is **B**, A being far too large for it", "B"),
    ("a bird" * 20, None),  # far longer than the options
]
MMMU = [
    ("(A)", "A"),
    ("B", "B"),
    ("Answer: C.", "C"),
    ("(A) is wrong, so (D)", "D"),  # the last one
    ("A B", "B"),
    ("I am sure that these are two dogs", "B"),
    ("two dogs", None),  # texts count from six words on
    ("", None),
]
OPEN = [
    ("The answer is 42", ("42",), True),
    ("about 1,234", ("1234",), True),
    ("about 1,234.5", ("1234.5",), False),  # with thousands and decimals it is read as two
    ("x = 3.14159", ("3.14",), True),  # rounded to two places
    ("it is a large dog", ("dog",), True),
    ("it is a hot", ("t",), False),  # a single letter needs a space beside it
    ("so it must be -3", ("3",), False),
    ("42%", ("42",), True),
]
YES_NO = [
    ("Yes", True),
    ("No", False),
    ("no, there is none", False),
    ("There is not", False),
    ("NO", True),  # only these spellings: No, not, no
    ("I know", True),
    ("Yes. No dog is there", True),  # the first sentence alone
    ("", True),
]
BOXES = [
    ((0, 0, 1, 1), (0, 0, 1, 1), 1.0),
    ((0, 0, 2, 1), (1, 0, 3, 1), 1 / 3),
    ((0, 0, 4, 4), (1, 1, 3, 3), 4 / 16),
    ((0, 0, 1, 1), (1, 0, 2, 1), 0.0),  # they touch
    ((0, 0, 1, 1), (5, 5, 6, 6), 0.0),
    ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
    ((1, 1, 0, 0), (0, 0, 1, 1), 0.0),  # turned inside out
]


@pytest.mark.parametrize(("answer", "gold", "expected"), VQA)
def test_vqa_accuracy(answer: str, gold: Gold, expected: float) -> None:
    assert SCORERS["vqa"].score(answer, gold) == pytest.approx(expected)


@pytest.mark.parametrize(("answer", "accepted", "expected"), ANLS)
def test_anls(answer: str, accepted: tuple[str, ...], expected: float) -> None:
    assert SCORERS["anls"].score(answer, Gold(accepted)) == pytest.approx(expected)


@pytest.mark.parametrize(("answer", "accepted", "expected"), RELAXED)
def test_relaxed_accuracy(answer: str, accepted: str, expected: float) -> None:
    assert SCORERS["relaxed"].score(answer, Gold((accepted,))) == expected


@pytest.mark.parametrize(("answer", "accepted", "kind", "expected"), OCR)
def test_ocrbench(answer: str, accepted: str, kind: str, expected: float) -> None:
    assert SCORERS["ocrbench"].score(answer, Gold((accepted,), kind=kind)) == expected


@pytest.mark.parametrize(("answer", "expected"), CHOICE)
def test_letters_of_a_choice(answer: str, expected: str | None) -> None:
    assert choice.letter(answer, LETTERS) == expected


@pytest.mark.parametrize(("answer", "expected"), MMMU)
def test_letters_of_mmmu(answer: str, expected: str | None) -> None:
    assert mmmu.letter(answer, LETTERS) == expected


@pytest.mark.parametrize(("answer", "accepted", "expected"), OPEN)
def test_open_answers_of_mmmu(answer: str, accepted: tuple[str, ...], expected: bool) -> None:
    assert SCORERS["mmmu"].score(answer, Gold(accepted)) == expected


@pytest.mark.parametrize(("answer", "expected"), YES_NO)
def test_yes_and_no(answer: str, expected: bool) -> None:
    assert yes_no.says_yes(answer) is expected


@pytest.mark.parametrize(("first", "second", "expected"), BOXES)
def test_overlap_of_boxes(
    first: tuple[float, ...], second: tuple[float, ...], expected: float
) -> None:
    assert regions.iou(first, second) == regions.iou(second, first) == pytest.approx(expected)


def test_points_within_boxes() -> None:
    box = (0.2, 0.3, 0.6, 0.5)
    inside = [(0.2, 0.3), (0.6, 0.5), (0.4, 0.4)]
    outside = [(0.19, 0.4), (0.4, 0.51), (0.9, 0.9)]
    assert [regions.within(point, box) for point in inside + outside] == [True] * 3 + [False] * 3
    gold = Gold(regions=((0.0, 0.0, 0.1, 0.1), box))
    assert SCORERS["point"].score("at 40 and 40.5 percent", gold) == 1.0
    assert SCORERS["point"].score("40", gold) == 0.0
    assert SCORERS["iou"].score("20 30 60 50", gold) == pytest.approx(1.0)
    assert SCORERS["iou"].score("none", gold) == 0.0


def test_exact_answers_ignore_case_and_white_space() -> None:
    gold = Gold(("new  York",))
    assert [SCORERS["exact"].score(said, gold) for said in (" New york\n", "new york.")] == [1, 0]


def test_short_answers_are_letters_only_if_the_right_answer_is_one() -> None:
    score = SCORERS["short"].score
    assert (score("B.", Gold(("B",))), score("Both", Gold(("B",)))) == (1.0, 0.0)
    assert (score("AB", Gold(("AB",))), score("A", Gold(("AB",)))) == (1.0, 0.0)
    assert (score("Downhill.", Gold(("downhill",))), score("2", Gold(("3",)))) == (1.0, 0.0)


def test_rotated_options_keep_their_answer() -> None:
    for turns in range(4):
        options, answer = choice.shuffled(LETTERS, "C", turns)
        assert options["ABCD".index(answer)] == "a bird"
        assert sorted(options) == sorted(LETTERS)


def test_random_letters_depend_only_on_the_question() -> None:
    drawn = [SCORERS["mmmu"].score("", Gold(("A",), LETTERS, key=f"q{n}")) for n in range(400)]
    assert drawn == [
        SCORERS["mmmu"].score("", Gold(("A",), LETTERS, key=f"q{n}")) for n in range(400)
    ]
    assert 60 < sum(drawn) < 140  # one in four


def test_figures_of_yes_and_no() -> None:
    # 3 hits, 1 false alarm, 2 misses, 4 right refusals
    pairs = [(True, True)] * 3 + [(True, False)] + [(False, True)] * 2 + [(False, False)] * 4
    found = yes_no.figures(pairs)
    assert found == yes_no.Figures(10, 0.7, 3 / 4, 3 / 5, pytest.approx(2 / 3), 0.4)
    assert yes_no.figures([(False, False)]) == yes_no.Figures(1, 1.0, None, None, None, 0.0)
    assert yes_no.figures([]) is None


def scored(metric: str, scorer: str) -> list[float]:
    cases = [(a, Gold(g, o, k)) for a, g, o, k in predictions.cases(metric)]
    return [SCORERS[scorer].score(answer, gold) for answer, gold in cases]


@pytest.mark.parametrize(
    ("metric", "scorer"),
    [
        *(("vqa", "vqa"), ("anls", "anls"), ("relaxed", "relaxed"), ("ocrbench", "ocrbench")),
        ("mmmu_open", "mmmu"),
    ],
)
def test_scores_equal_the_reference_implementations(metric: str, scorer: str) -> None:
    found, expected = np.array(scored(metric, scorer)), SCORES[metric]
    assert len(found) == len(expected) >= 2000
    differ = np.flatnonzero(np.abs(found - expected) > 1e-9)
    cases = predictions.cases(metric)
    assert [(cases[n], found[n], expected[n]) for n in differ[:3]] == []


@pytest.mark.parametrize(("metric", "read"), [("choice", choice.letter), ("mmmu", mmmu.letter)])
def test_letters_equal_the_reference_implementations(
    metric: str, read: Callable[[str, tuple[str, ...]], str | None]
) -> None:
    cases: Sequence[predictions.Case] = predictions.cases(metric)
    found = [read(answer, options) or "" for answer, _, options, _ in cases]
    assert len(found) == len(SCORES[metric]) >= 2000
    differ = [n for n, letter in enumerate(found) if letter != SCORES[metric][n]]
    assert [(cases[n], found[n], SCORES[metric][n]) for n in differ[:3]] == []


def test_figures_equal_the_reference_implementations() -> None:
    said = [yes_no.says_yes(answer) for answer, *_ in predictions.cases("yes_no")]
    assert said == list(SCORES["yes_no"].astype(bool))
    true = [accepted[0] == "yes" for _, accepted, *_ in predictions.cases("yes_no")]
    found = yes_no.figures(zip(said, true, strict=True))
    assert found is not None
    figures = (found.accuracy, found.precision, found.recall, found.f1, found.yes_ratio)
    np.testing.assert_allclose(figures, SCORES["yes_no_figures"], rtol=1e-12)


def test_overlaps_equal_the_reference_implementations() -> None:
    found = [regions.iou(*pair) for pair in predictions.box_pairs()]
    np.testing.assert_allclose(found, SCORES["iou"], atol=1e-12)


def test_the_contractions_are_the_official_list() -> None:
    # 120 entries, of which four have capitals, which lower-cased words never match, two map to
    # themselves.
    assert len({key for key, word in vqa.CONTRACTIONS.items() if key != word}) == 114
    assert vqa.CONTRACTIONS["y'alld've"] == vqa.CONTRACTIONS["yall'd've"] == "y'all'd've"
    assert vqa.CONTRACTIONS["somebody'd"] == "somebodyd"
    assert vqa.CONTRACTIONS["twas"] == "'twas"
