"""Opens a model in a runtime that supports it, and asks it one question."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from export.artifact import Artifact
from export.errors import UserError, unknown
from export.model import Model
from export.opening import open_named
from runtimes import RUNTIMES, Runtime
from runtimes.base import Event, Region, Request, Session
from runtimes.devices import threads_for
from runtimes.prepare.image import load_image
from runtimes.prepare.request import preparer_of
from runtimes.threads import ThreadWatch

Openable = Artifact | Model | str | Path
"""An opened artifact or checkpoint (Model), the folder of either, or the name of a checkpoint."""


@dataclass(frozen=True)
class Answer:
    """A model's complete answer to one request: text, or points and boxes in the image."""

    text: str
    """Without special tokens and surrounding white space; "" if the answer is regions."""
    token_ids: tuple[int, ...]
    """Every token of the answer, including the stop token if there is one; () if it is regions."""
    regions: tuple[Region, ...] = ()
    """Points or boxes in the order in which the model returned them; () if the answer is text."""


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
    """Loads a model, asks it one question about one image, frees it, and returns the greedy answer.

    `image`: a file, an opened image, or None for a question without one. `task`: a task that the
    model itself defines, such as Moondream's "detect"; `question` then names the object. `runtime`
    and `threads`: as for `open_session`. To ask several questions, keep a session from
    `open_session` and call its `generate`. Raises UserError if the model cannot be loaded or the
    question not answered.
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
    """Loads an artifact or a checkpoint and returns a session that answers requests.

    `runtime` is a name in RUNTIMES (default: the first one that can run the model here), `threads`
    a number of CPU threads (maximum: the usable CPUs; default: a number that suits the model and
    how busy the CPUs are, runtimes.threads), `device` "cpu", "cuda" or "cuda:N". Raises UserError
    if no runtime can load the model.
    """
    watch = ThreadWatch(threads_for(threads), fixed=threads is not None)
    opened = loaded(subject)
    row = runtime_for(opened, runtime, device)
    row.preload(_layout(opened))
    return row.open_session(opened, threads=watch, device=device)


def loaded(subject: Openable) -> Artifact | Model:
    """Returns the opened Artifact or Model, without starting a runtime.

    An opened `subject` is returned as it is; a folder with artifact.json is opened as an artifact,
    anything else as the name or folder of a checkpoint; a Path is always a folder. Raises
    UserError.
    """
    if isinstance(subject, Artifact | Model):
        return subject
    return open_named(subject)


def runtime_for(opened: Artifact | Model, name: str | None = None, device: str = "cpu") -> Runtime:
    """Returns the runtime to use for an opened model: the one called `name`, or a default.

    The default is the first of RUNTIMES that opens the model, supports the device, is available and
    need not be named (Runtime.default). Raises UserError if the named one is unknown, unavailable
    or does not open the model, or if there is no default.
    """
    target = opened.manifest.target if isinstance(opened, Artifact) else None
    opening = [key for key, row in RUNTIMES.items() if row.opens(target) and not row.hidden]
    able = [key for key in opening if RUNTIMES[key].runs_layout(_layout(opened))]
    if name is None:
        rows = [RUNTIMES[key] for key in able]
        fitting = [row for row in rows if row.default and row.runs_on(device)]
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
    """Returns the whole Answer from the events of one request; reads them to the end.

    `opened`: the model that answered, whose tokenizer turns tokens into text.
    """
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
