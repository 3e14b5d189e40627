"""Scores answers that are boxes (by overlap, IoU) or points (by lying within a box).

Boxes are (x_min, y_min, x_max, y_max), points (x, y), from 0 to 1 of the image's width and height.
"""

import re

from bench.scorers.gold import Gold
from runtimes.base import Region

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
PERCENT = 100


def box_score(answer: str, gold: Gold) -> float:
    """Returns the largest overlap (IoU, 0 to 1) of the answer's first box with an accepted box."""
    answered = parsed(answer, 4)
    if not answered:
        return 0.0
    return max((iou(answered, box) for box in gold.regions), default=0.0)


def point_score(answer: str, gold: Gold) -> float:
    """Returns 1 if the answer's first point is within an accepted box, else 0."""
    point = parsed(answer, 2)
    return float(bool(point) and any(within(point, box) for box in gold.regions))


def parsed(answer: str, count: int) -> Region:
    """Reads the first `count` percentages of a text as fractions; () if there are fewer."""
    numbers = NUMBER.findall(answer)[:count]
    return tuple(float(number) / PERCENT for number in numbers) if len(numbers) == count else ()


def written(region: Region) -> str:
    """Writes a region as numbers in percent, the format that `parsed` reads: `12.00 50.00`."""
    return " ".join(f"{PERCENT * share:.2f}" for share in region)


def iou(first: Region, second: Region) -> float:
    """Returns intersection over union of two boxes; 0 if a box has no area or swapped corners."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    union = area(first) + area(second) - shared
    return shared / union if shared else 0.0


def area(box: Region) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def within(point: Region, box: Region) -> bool:
    """Whether a point lies in a box, its edges included."""
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]
