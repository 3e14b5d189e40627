"""The interface of every runtime: a session answers a request with a stream of events.

A session yields each event as soon as its result exists, so that the caller can time it. NOT aware
of clocks, reports or models' names: a runtime neither measures nor prints.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from PIL import Image

from export.arrays import FloatArray
from runtimes.threads import ThreadWatch

Region = tuple[float, ...]
"""A point (x, y) or a box (x_min, y_min, x_max, y_max) in normalized coordinates, which are
fractions of the image's width and height; () means that there is no region."""


@dataclass(frozen=True)
class Request:
    """One question about images, given to `Session.generate`.

    The answer is decoded greedily: each token is the most probable one, unless `answer` prescribes
    the tokens. `ids` and `features` are a prompt and image features to use instead of computing
    them. `arrays` asks for arrays in the events; `reuse` allows to reuse results of the last
    request.
    """

    question: str = ""
    images: tuple[Image.Image, ...] = ()
    ids: tuple[int, ...] | None = None
    """The whole prompt as token ids; None: the session builds the prompt from the question and the
    images."""
    max_tokens: int = 64
    """The answer ends after this many tokens at the latest."""
    answer: tuple[int, ...] | None = None
    """Tokens to decode instead of the model's own choices (teacher forcing). Exactly these are
    decoded: `max_tokens` is ignored, and a stop token among them does not end the answer."""
    arrays: bool = False
    """Whether events contain arrays: the image features, and the logits of each token."""
    reuse: bool = True
    """Whether the session may reuse image features and the cached start of the prompt from its last
    request, where they are the same."""
    images_key: str = ""
    """An identifier of the images: within one session, requests with the same key must have the
    same images. "": the session hashes the pixels of every request instead."""
    features: FloatArray | None = None
    """Image features [image tokens, hidden] to use instead of encoding the images."""
    task: str = ""
    """A task that the model itself defines, such as "detect" or "point"; "": the model's first
    task. Must be "" for models without tasks."""
    region: Region = ()
    """The point or box that the task is about; () for tasks that need none."""


@dataclass(frozen=True)
class Event:
    """One finished step of an answer, yielded by `Session.generate`. `kind` names the step:

    kind     what exists now                          `positions` counts
    prepare  pixel values and prompt ids              tokens of the prompt
    image    features of all images, on the host      image tokens
    prefill  the prompt in the key-value cache        prompt tokens computed, not reused
    token    one more token of the answer             -
    place    one more point or box of the answer      -

    Fields that do not belong to the kind keep their defaults.
    """

    kind: Literal["prepare", "image", "prefill", "token", "place"]
    positions: int = 0
    reused: bool = False
    """Whether all image features were there already (image), or the start of the prompt was reused
    from the last request (prefill)."""
    token: int | None = None
    """The id of the token (token); None for other kinds."""
    logits: FloatArray | None = None
    """[vocab]: the logits that `token` was chosen from (token); None unless Request.arrays."""
    features: FloatArray | None = None
    """[image tokens, hidden] (image); None unless Request.arrays."""
    tiles: int = 0
    """Number of tiles of all images that the vision tower encoded (image). A tile is an image, or a
    part of one that was cut."""
    region: Region = ()
    """The point or box (place)."""
    seconds: float | None = None
    """Seconds of the step as measured where it ran, if that is a browser or another device; None:
    it ran here, and the caller times it."""


class Logits(Protocol):
    """Logits [vocab] on any device: a numpy array, or an array that stays where it was computed."""

    def argmax(self) -> Any:
        """Returns the index of the largest logit, the first one if several are equal."""

    def copy(self) -> FloatArray:
        """Returns the logits as a new array on the host."""


class Session(Protocol):
    """A model that a runtime has loaded, from an artifact or a checkpoint; it answers requests."""

    def generate(self, request: Request) -> Iterator[Event]:
        """Answers one request; yields an Event for each finished step, in order.

        Raises UserError for a request that cannot be answered.
        """

    def close(self) -> None:
        """Frees the runtime's memory; the session cannot be used afterwards."""


class BatchSession(Session, Protocol):
    """A session that can answer several requests at once."""

    def generate_each(self, requests: Sequence[Request]) -> Iterator[tuple[int, Event]]:
        """Answers several requests at once; yields (index of the request, its next event) pairs.

        Raises UserError as `generate` does.
        """


@runtime_checkable
class ChoosingSession(Session, Protocol):
    """A session that chooses by the machine how it computes some parts of the model."""

    @property
    def choices(self) -> Mapping[str, str]:
        """Returns what was chosen, for a record: part of the model -> words for its choice."""


@runtime_checkable
class ThreadedSession(Session, Protocol):
    """A session that can go on with fewer CPU threads."""

    def adapt(self, watch: ThreadWatch) -> None:
        """Gives threads up whenever `watch` says that they had to wait for a CPU."""


@dataclass(frozen=True)
class Browser:
    """The browser that a session ran in, as it describes itself. None: it does not say.

    `cores` and `memory_gib` are what it tells pages of its machine: some round or cap them.
    """

    user_agent: str
    platform: str | None
    cores: int | None
    memory_gib: float | None
    secure_context: bool
    """Whether the page came over https or from this machine; otherwise it has neither threads nor
    WebGPU."""
    cross_origin_isolated: bool
    """Whether the page may use threads and measure its memory."""
    adapter: str | None
    """The GPU that WebGPU offers; None: none."""
    device: Literal["wasm", "webgpu"]
    """What computed: WebAssembly on the CPU, or WebGPU."""
    threads: int
    """Threads of WebAssembly."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Versions of the npm packages that computed, by name."""
    page_bytes: int | None = None
    """Memory of the page after the last answer as the browser counts it, which is less than the
    whole of its process."""


@runtime_checkable
class RemoteSession(Session, Protocol):
    """A session whose work is done by other processes, where its time and memory are measured.

    All its events have `seconds`.
    """

    processes: tuple[int, ...]
    """Ids of the processes on this machine that do the work; () if they are elsewhere, or if each
    answer has its own."""

    @property
    def load_s(self) -> float | None:
        """Seconds that loading the model took there; None: not known."""

    def surroundings(self) -> Browser | None:
        """Returns what it runs in, if that is a browser; call it after the last answer."""
