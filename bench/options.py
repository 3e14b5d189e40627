"""Options of the tasks that `bench run` measures: a class for each kind of task.

The command line fills one object with all of them (`Options`), which records store; a task gets
only the options of its kind (`part`).
"""

from dataclasses import dataclass, fields
from typing import Literal, TypeVar

T = TypeVar("T", bound="TaskOptions")


@dataclass(frozen=True)
class TaskOptions:
    """Options that every kind of task has; the base of the classes for each kind."""

    max_tiles: int | None = None
    """Most tiles that an image is cut into, the overview included; None: the model's own limit."""


@dataclass(frozen=True)
class LatencyOptions(TaskOptions):
    """Options of the latency task, which times one request several times.

    `prompt`: whether it asks about an image or has only text. `prefill_tokens`: length of a text
    prompt. `decode_tokens`: length of the answer. `repeats`: timed requests per process.
    """

    prompt: Literal["image", "text"] = "image"
    prefill_tokens: int = 128
    """Number of tokens in a text prompt; how many an image takes depends on the model."""
    decode_tokens: int = 32
    repeats: int = 5
    contended: bool = False
    """Whether another process keeps one CPU busy during the job (bench/jobs/neighbour.py)."""


@dataclass(frozen=True)
class SampleOptions(TaskOptions):
    """Which questions a task takes from its data set: `limit` of them, sampled with `seed`."""

    limit: int | None = None
    """Number of questions; None: all of them (in the fidelity task: 100)."""
    seed: int = 0
    data: str | None = None
    """Folder with the files of a public data set; None: it is read from the Hugging Face hub."""


@dataclass(frozen=True)
class QuestionOptions(SampleOptions):
    """Options of tasks that ask a model questions and score its answers."""

    shard: str | None = None
    """`i/n`: ask only the i-th of n parts of the questions, from 1; a report merges the parts."""
    reuse: bool = True
    """Whether questions about one image reuse its features and the start of their prompts."""
    batch: int = 1
    """Number of questions answered at once. 1: those about one image are, if `reuse` is set and
    the runtime can; otherwise one at a time."""


@dataclass(frozen=True)
class FidelityOptions(SampleOptions):
    """Options of the fidelity task, which compares an artifact with its reference model."""

    prompts: str = "easy-vqa"
    """Name of the task whose questions are the prompts of the comparison."""


@dataclass(frozen=True)
class Options(LatencyOptions, QuestionOptions, FidelityOptions):
    """The options of all kinds of tasks in one object, from the command line; records store it."""


def part(kind: type[T], options: Options) -> T:
    """Return the options that the class `kind` has, copied from `options`."""
    return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})
