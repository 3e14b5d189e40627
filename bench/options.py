"""Options of tasks: one class for each kind of task, and all of them together.

Records and the command line hold all options flat (`Options`); a task gets those of its own kind.
"""

from dataclasses import dataclass, fields
from typing import Literal, TypeVar

T = TypeVar("T", bound="TaskOptions")


@dataclass(frozen=True)
class TaskOptions:
    """Options of every kind of task."""

    max_tiles: int | None = None
    """Tiles an image is cut into at most, overview included; None follows the model's recipe."""


@dataclass(frozen=True)
class LatencyOptions(TaskOptions):
    """What a timed request consists of, and how often each process repeats it."""

    prompt: Literal["image", "text"] = "image"
    prefill_tokens: int = 128
    """Length of a text prompt; the model determines that of an image."""
    decode_tokens: int = 32
    repeats: int = 5


@dataclass(frozen=True)
class SampleOptions(TaskOptions):
    """Which questions of a data set are taken."""

    limit: int | None = None
    """Number of questions; None takes all of them (the fidelity task: its own default)."""
    seed: int = 0
    data: str | None = None
    """Folder with a public data set's rows; None reads the Hugging Face hub."""


@dataclass(frozen=True)
class QuestionOptions(SampleOptions):
    """Which questions are asked, and how."""

    shard: str | None = None
    """`i/n`: only the i-th of n parts of the questions; a report merges the parts."""
    reuse: bool = True
    """Whether questions about one image share its features and their common prompt prefix."""
    batch: int = 1
    """Questions answered in one batch; 1 batches those about one image, with `reuse`."""


@dataclass(frozen=True)
class FidelityOptions(SampleOptions):
    """Which questions both models are compared on."""

    prompts: str = "easy-vqa"
    """Name of the task whose questions are taken."""


@dataclass(frozen=True)
class Options(LatencyOptions, QuestionOptions, FidelityOptions):
    """The options of all kinds, flat: what the command line takes and a record holds."""


def part(kind: type[T], options: Options) -> T:
    """The options of one kind."""
    return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})
