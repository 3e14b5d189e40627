"""Opens a model in a runtime that supports it, and asks it one question."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from export.artifact import MANIFEST, Artifact, load_artifact
from export.checkpoint.registry import open_model
from export.errors import UserError, unknown
from export.model import Model
from runtimes import RUNTIMES, Runtime
from runtimes.base import Event, Region, Request, Session
from runtimes.devices import usable_cpus
from runtimes.prepare.image import load_image
from runtimes.prepare.request import preparer_of

Openable = Artifact | Model | str | Path
"""An artifact or a checkpoint, or the name or folder of one."""


@dataclass(frozen=True)
class Answer:
    """A model's answer: text, or the regions of tasks that return points or boxes."""

    text: str
    """Without special tokens and surrounding white space; "" if the answer is regions."""
    token_ids: tuple[int, ...]
    regions: tuple[Region, ...] = ()


def ask(
    subject: Openable,
    image: str | Path | Image.Image | None = None,
    question: str = "",
    *,
    task: str = "",
    max_tokens: int = 64,
    runtime: str | None = None,
    threads: int | None = None,
) -> Answer:
    """The greedy answer to one question about one image, or without an image if it is None.

    `task` is one of the model's own, such as Moondream's "detect"; `question` then names the
    object. `runtime` and `threads` are those of `open_session`. The model is loaded and freed
    again: to ask several questions, keep a session from `open_session` and call its `generate`.
    Raises UserError.
    """
    opened = loaded(subject)
    images = () if image is None else (_image(image),)
    request = Request(question, images, max_tokens=max_tokens, task=task)
    session = open_session(opened, runtime=runtime, threads=threads)
    try:
        return collected(session.generate(request), opened)
    finally:
        session.close()


def open_session(
    subject: Openable,
    *,
    runtime: str | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> Session:
    """An artifact or a checkpoint, loaded and ready for requests. Raises UserError.

    `runtime` is a name in RUNTIMES (default: the first that opens it and is installed), `threads`
    a number of CPU threads (default: all usable CPUs), `device` "cpu", "cuda" or "cuda:N".
    """
    opened = loaded(subject)
    row = runtime_for(opened, runtime, device)
    row.preload(_layout(opened))
    return row.open_session(opened, threads=threads or usable_cpus(), device=device)


def loaded(subject: Openable) -> Artifact | Model:
    """The artifact in a folder, or the model of a name or checkpoint folder. Raises UserError."""
    if isinstance(subject, Artifact | Model):
        return subject
    if (Path(subject) / MANIFEST).exists():
        return load_artifact(Path(subject))
    return open_model(str(subject))


def runtime_for(opened: Artifact | Model, name: str | None = None, device: str = "cpu") -> Runtime:
    """The runtime of a name, else the first one that opens the subject and is available.

    Raises UserError for a runtime that does not open it, and where none is available.
    """
    target = opened.manifest.target if isinstance(opened, Artifact) else None
    able = [key for key, row in RUNTIMES.items() if row.opens(target) and not row.hidden]
    if name is None:
        fitting = [RUNTIMES[key] for key in able if RUNTIMES[key].runs_on(device)]
    elif name in RUNTIMES:
        fitting = [RUNTIMES[name]] if RUNTIMES[name].opens(target) else []
    else:
        raise unknown("runtime", name, RUNTIMES)
    what = target or "a checkpoint"
    if not fitting:
        raise UserError(f"{name or 'no runtime'} does not open {what}; choose {' or '.join(able)}")
    reasons = [row.unavailable(_layout(opened), device) for row in fitting]
    if all(reasons):
        raise UserError(f"no runtime for {what}: {'; '.join(str(reason) for reason in reasons)}")
    return fitting[reasons.index(None)]


def collected(events: Iterable[Event], opened: Artifact | Model) -> Answer:
    """The answer in a session's events."""
    tokens: list[int] = []
    regions: list[Region] = []
    for event in events:
        if event.token is not None:
            tokens.append(event.token)
        if event.kind == "place":
            regions.append(event.region)
    return Answer(preparer_of(opened).text(tokens).strip(), tuple(tokens), tuple(regions))


def _layout(opened: Artifact | Model) -> str | None:
    return opened.manifest.layout if isinstance(opened, Artifact) else None


def _image(image: str | Path | Image.Image) -> Image.Image:
    return image if isinstance(image, Image.Image) else load_image(image)
