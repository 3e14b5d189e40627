"""Seeded answers with what is right about them: what scorers are compared with references on.

tests/golden/scores.npz has what reference implementations gave on exactly these, in this order:

- vqa: github.com/GT-Vision-Lab/VQA a013f004, PythonEvaluationTools/vqaEvaluation/vqaEval.py
- anls: github.com/EvolvingLMMs-Lab/lmms-eval 75571cfe, lmms_eval/api/metrics.py, `anls`
- relaxed: github.com/open-compass/VLMEvalKit e8e78f05, vlmeval/dataset/utils/vqa_eval.py,
  `process_line` with "relaxed_accuracy"
- ocrbench: the same commit, vlmeval/dataset/image_vqa.py, `OCRBench.evaluate`, one row at a time
- choice: the same commit, vlmeval/utils/matching_util.py, `can_infer`; "" where that is False
- mmmu: github.com/MMMU-Benchmark/MMMU bb0b95a9, mmmu/utils/eval_utils.py,
  `parse_multi_choice_response`; "" where it drew. mmmu_open: `parse_open_response`, `eval_open`
- yes_no: github.com/AoiDragon/POPE 08d957b9, evaluate.py; 1 is yes; and its five figures
- iou: pycocotools 2.0.11 of PyPI, `mask.iou` with iscrowd 0

They were run by hand, vqaEval.py (Python 2) with its print statements as calls; only their
results are kept. NOT aware of our scorers.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

Case = tuple[str, tuple[str, ...], tuple[str, ...], str]
"""An answer, the accepted ones, the options of a choice, a kind."""
COUNT = 2500
WORDS = (
    *(
        "cat",
        "Dog",
        "the",
        "a",
        "an",
        "red",
        "Stop",
        "coca-cola",
        "new york",
        "it's",
        "dont",
        "one",
    ),
    *("two", "none", "ten", "zero", "isnt", "couldnt've", "o'clock", "y'allll", "yall'll", "hes"),
    *(
        "caf\u00e9",
        "na\u00efve",
        "stra\u00dfe",
        "\ud55c\uae00",
        "\uc11c\uc6b8",
        "\u65e5\u672c",
        "\u0130stanbul",
        "\u2460",
        "\ufb01sh",
    ),
    *("p.m.", "u.s.a.", "3.14", "1,000", "10%", "$5.00", "#1", "a/b", "x-ray", "(left)", '"yes"'),
    *("somebody'd", "we'd've", "shouldn'tve", "id've", "im", "let's", "ow's'at", "", "not", "No"),
)
MARKS = (*".,!?;:'\"/-()[]{}=+\\_<>@`%", " ", "  ", "\n", "\t")
NUMBERS = (
    *("0", "0.0", "0%", "5", "5%", "0.05", "100", "95", "105", "105.1", "94.9", "2019", "2020"),
    *(
        "1950",
        "1,000",
        "1000",
        "-3",
        "-3.1",
        "1e3",
        "nan",
        "inf",
        "3.5.2",
        "%",
        "12 %",
        " 7 ",
        "\u0663",
    ),
)
OPTIONS = (
    "a red car",
    "two",
    "The dog",
    "none of these",
    "blue",
    "3.5",
    "cat",
    "left",
    "A",
    "b c d",
)
OPEN = ("the final answer is", "so x =", "it could be", "thus", "Therefore the result", "about", "")


def phrase(rng: Random) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randint(0, 4))]
    return rng.choice((" ", " ", " ", "  ", "\n", ", ", "-")).join(words)


def disturbed(rng: Random, text: str) -> str:
    """A text with nothing, or one or two things, done to it."""
    changes: tuple[Callable[[str], str], ...] = (
        str.upper,
        str.title,
        lambda t: f"{t}.",
        lambda t: f" {t} ",
        lambda t: f"the {t}",
        lambda t: t.replace(" ", rng.choice(MARKS)),
        lambda t: t + rng.choice(MARKS) + rng.choice(WORDS),
        lambda t: t[: len(t) // 2],
        lambda t: t[1:],
        lambda t: "".join(rng.choice("xyz") if rng.random() < 0.3 else c for c in t),
        lambda t: "",
    )
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        text = rng.choice(changes)(text)
    return text


def vqa(rng: Random) -> Case:
    said = phrase(rng)
    pool = [disturbed(rng, said), phrase(rng), said, disturbed(rng, said)]
    people = [rng.choice(pool[: rng.randint(1, 4)]) for _ in range(rng.choice((10, 10, 10, 3, 1)))]
    if rng.random() < 0.15:
        people = people[:1] * len(people)
    return disturbed(rng, rng.choice([*people, said])), tuple(people), (), ""


def texts(rng: Random) -> Case:
    accepted = tuple(phrase(rng) for _ in range(rng.randint(1, 3)))
    return disturbed(rng, rng.choice(accepted)), accepted, (), ""


def numbers(rng: Random) -> Case:
    accepted = rng.choice((*NUMBERS, *NUMBERS, *WORDS))
    said = rng.choice((accepted, rng.choice(NUMBERS), disturbed(rng, accepted)))
    try:
        near = f"{float(accepted) * rng.choice((0.949, 0.95, 0.951, 1, 1.049, 1.05, 1.051)):.6g}"
    except ValueError:
        near = said
    return rng.choice((said, near, near + rng.choice(("", "%", " ", ".")))), (accepted,), (), ""


def ocr(rng: Random) -> Case:
    said, accepted, _, _ = texts(rng)
    longer = f"{phrase(rng)} {said} {phrase(rng)}" if rng.random() < 0.5 else said
    return longer, accepted, (), rng.choice(("HME100k", "other", "other"))


def chosen(rng: Random) -> Case:
    options = tuple(rng.sample(OPTIONS, rng.randint(2, 5)))
    letters = "ABCDE"[: len(options)]
    one, other = rng.choice(letters + "Z"), rng.choice(letters)
    forms = (
        *(one, f"({one})", f"{one}.", f"{one}. {options[0]}", f" {one} ", one.lower(), f"{one}:"),
        *(
            f"The answer is {one}",
            f"answer is **{one}** because {phrase(rng)} is {other} a b c d e",
        ),
        *(
            f"{one} or {other}",
            f"({one}) not ({other})",
            f"It is {one} {phrase(rng)} {phrase(rng)}",
        ),
        *(
            rng.choice(options),
            rng.choice(options).upper(),
            f"I think it is {rng.choice(options)}.",
        ),
        *(f"{options[0]} but not really {options[-1]} I would say", phrase(rng), ""),
        *("Cannot determine the answer", f"{phrase(rng)}, so my final choice is {one}!"),
    )
    return rng.choice(forms), (other,), options, ""


def opened(rng: Random) -> Case:
    accepted = tuple(rng.choice((*NUMBERS, *WORDS, "x")) for _ in range(rng.randint(1, 2)))
    said = rng.choice((*accepted, rng.choice(NUMBERS), phrase(rng)))
    lines = [f"{rng.choice(OPEN)} {disturbed(rng, said)}" for _ in range(rng.choice((1, 1, 2)))]
    return "\n".join(lines) + rng.choice(("", ".", "! ")), accepted, (), ""


def yes_no(rng: Random) -> Case:
    word = rng.choice(
        ("yes", "Yes", "no", "No", "NO", "not", "Not", "nope", "", "know", "no,", "No.")
    )
    after = rng.choice(("", ".", ", ", " there is", ". There is no dog", ", there is not", "\nno"))
    before = rng.choice(("", "", "I see ", "It is ", ". "))
    return before + word + after, (rng.choice(("yes", "no")),), (), ""


def boxes(rng: Random) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Two boxes of four corners that often touch, contain or miss each other; some have no area."""

    def box() -> tuple[float, ...]:
        xs = sorted(rng.randint(0, 10) / 10 for _ in range(2))
        ys = sorted(rng.choice((rng.randint(0, 10) / 10, rng.random())) for _ in range(2))
        return xs[0], ys[0], xs[1], ys[1]

    return box(), box()


MAKERS: Mapping[str, Callable[[Random], Case]] = {
    "vqa": vqa,
    "anls": texts,
    "relaxed": numbers,
    "ocrbench": ocr,
    "choice": chosen,
    "mmmu": chosen,
    "mmmu_open": opened,
    "yes_no": yes_no,
}


def cases(metric: str) -> Sequence[Case]:
    """COUNT cases; Random's sequence is the same in every version of Python for str seeds."""
    rng = Random(f"scorer {metric}")
    return [MAKERS[metric](rng) for _ in range(COUNT)]


def box_pairs() -> Sequence[tuple[tuple[float, ...], tuple[float, ...]]]:
    rng = Random("boxes")
    return [boxes(rng) for _ in range(COUNT)]
