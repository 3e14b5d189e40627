"""Two small rows of each public data set in the columns that the hub's files have.

Columns as the harness lmms-eval reads them from these data sets; values are made up.
"""

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

Row = dict[str, Any]


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 8), colour).save(file, "PNG")
    return file.getvalue()


def picture(colour: str) -> Row:
    """An image as parquet files have it."""
    return {"bytes": png(colour), "path": None}


def _people(*answers: str) -> list[Row]:
    return [
        {"answer": answer, "answer_confidence": "yes", "answer_id": n}
        for n, answer in enumerate(answers, start=1)
    ]


def _mmbench(question: str, **more: Any) -> Row:
    options = {"A": "a cat", "B": "a dog", "C": "a cow", "D": "nan"}
    return {
        **{"index": 1, "question": question, "hint": "nan", "answer": "B", **options},
        **{"category": "identity", "image": picture("red"), "source": "made"},
        **{"L2-category": "perception", "comment": "nan", "split": "dev", **more},
    }


def _mmstar(question: str) -> Row:
    asked = f"{question}\nOptions: A: one, B: two, C: three, D: four"
    return {
        **{"index": 7, "question": asked, "image": picture("red"), "answer": "C"},
        **{"category": "math", "l2_category": "geometry", "meta_info": {"source": "made"}},
    }


def _mmmu(**changes: Any) -> Row:
    images = {f"image_{n}": None for n in range(1, 8)} | {"image_1": picture("red")}
    return {
        **{"id": "validation_Art_1", "question": "Who painted <image 1>?", "explanation": ""},
        **{
            "options": "['Ann', 'Bo', 'Cy', 'Di']",
            "answer": "B",
            **images,
            "img_type": "['Photo']",
        },
        **{"topic_difficulty": "Easy", "question_type": "multiple-choice", "subfield": "Painting"},
        **changes,
    }


ROWS: Mapping[str, list[Row]] = {
    "textvqa": [
        {
            **{"image_id": "003a8ae2ef43b901", "question_id": 34602, "question": "what brand?"},
            **{"question_tokens": ["what", "brand"], "image": picture("red"), "image_width": 12},
            **{"answers": ["dakota"] * 9 + ["dakota digital"], "image_classes": ["Cassette deck"]},
            **{"set_name": "val", "ocr_tokens": ["DAKOTA"]},
        }
    ],
    "vqav2": [
        {
            **{"question_type": "what", "multiple_choice_answer": "red", "image_id": 5},
            **{"answers": _people(*["red"] * 8, "pink", "dark red"), "answer_type": "other"},
            **{"question_id": 5001, "question": "What colour is it?", "image": picture("red")},
        }
    ],
    "docvqa": [
        {
            **{"questionId": "49153", "question": "What is the date?", "question_types": ["form"]},
            **{"image": picture("white"), "docId": "14465", "ucsf_document_id": "x"},
            **{"answers": ["1/8/93", "Jan 8, 93"], "data_split": "val"},
        }
    ],
    "infovqa": [
        {
            **{"questionId": "98313", "question": "Which one?", "answers": ["Facebook"]},
            **{"answer_type": ["single span"], "image": picture("white"), "image_url": "made"},
            **{"operation/reasoning": [], "ocr": "{}", "data_split": "val"},
        }
    ],
    "chartqa": [
        {"type": "human_test", "question": "How many?", "answer": "14", "image": picture("red")},
        {"type": "augmented_test", "question": "Most?", "answer": "Yes", "image": picture("blue")},
    ],
    "ocrbench": [
        {
            **{"dataset": "IIIT5K", "question": "what is written?", "answer": ["CENTRE"]},
            **{"question_type": "Regular Text Recognition", "image": picture("red")},
        },
        {
            **{"dataset": "HME100k", "question": "Write the formula.", "answer": ["x ^ 2"]},
            **{"question_type": "Handwritten Mathematical Expression Recognition"},
            **{"image": picture("blue")},
        },
    ],
    "ai2d": [
        {
            **{"question": "which is the larva?", "options": ["1", "2", "3", "4"], "answer": "2"},
            **{"image": picture("red")},
        }
    ],
    "scienceqa": [
        {
            **{"image": picture("red"), "question": "Which is solid?", "choices": ["ice", "air"]},
            **{"answer": 0, "hint": "Look at it.", "task": "closed choice", "grade": "grade4"},
            **{"subject": "natural science", "topic": "matter", "skill": "states", "lecture": ""},
            **{"category": "Matter", "solution": "Ice is solid."},
        }
    ],
    "mmstar": [_mmstar("Which angle?")],
    "mmmu": [
        _mmmu(),
        _mmmu(id="validation_Math_2", options="[]", answer="12", question_type="open"),
    ],
    "mmbench": [_mmbench("What is it?")],
    "realworldqa": [
        {
            **{
                "question": "Where?\n\nA. Left\nB. Right\nPlease answer with the letter.",
                "answer": "B",
            },
            **{"image": picture("red")},
        },
        {"question": "How many cars?", "answer": "3", "image": picture("blue")},
    ],
    "pope": [
        {
            **{
                "id": str(n),
                "question_id": str(n),
                "question": "Is there a dog?",
                "answer": answer,
            },
            **{"image_source": "COCO_val2014_1", "image": picture("red"), "category": part},
        }
        for n, (answer, part) in enumerate((("yes", "random"), ("no", "adversarial")))
    ],
    "k-mmbench": [_mmbench("무엇입니까?")],
    "k-mmstar": [_mmstar("몇 도입니까?")],
    "k-dtcbench": [
        {
            **{"index": "doc_1", "question": "제목은?", "choice_a": "가", "choice_b": "나"},
            **{"choice_c": "다", "choice_d": "라", "answer": "D", "category": "document"},
            **{"image": picture("red")},
        }
    ],
}
