"""Baseline: the program `llama-mtmd-cli`, which answers one question about images per process."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from export.artifact import Artifact
from export.errors import UserError
from runtimes.base import Browser, Event, Request
from runtimes.peers.llama_programs import decoder_file, output, program, tokens, tower_file
from runtimes.peers.program import length_of

CONTEXT = 4096
TEMPLATE = "vicuna"
"""A chat template that it has built in: of files without one it takes no question."""
CLOCK = r"(\d+)\.(\d\d)\.(\d{3})\.(\d{3}) "
"""Minutes, seconds, milliseconds and microseconds since its start, before each line of its log."""
STARTED = re.compile(
    rf"^{CLOCK}.*(?:add_media: adding \d+ slices|encoding mtmd batch)", re.MULTILINE
)
ENCODED = re.compile(r"mtmd batch encoding done in (\d+) ms")
EVALUATED = re.compile(rf"^{CLOCK}.*: +eval time = +([\d.]+) ms / +(\d+) runs", re.MULTILINE)
PROMPT = re.compile(r"prompt eval time = .*?/ +(\d+) tokens")


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> "MtmdSession":
    """Returns a session that runs llama-mtmd-cli on a GGUF artifact; CPU only.

    Raises UserError for a model that takes no images.
    """
    return MtmdSession(artifact, threads)


class MtmdSession:
    """A RemoteSession that runs llama-mtmd-cli for each answer; times are those of its log.

    The step `prefill` has what is not encoding of images: reading them, and the prompt.
    """

    load_s: float | None = None
    processes: tuple[int, ...] = ()

    def __init__(self, artifact: Artifact, threads: int) -> None:
        tower = tower_file(artifact)
        if tower is None:
            raise UserError(f"{artifact.path}: llama-mtmd-cli needs a model that takes images")
        words = [str(program("llama-mtmd-cli")), "-m", str(decoder_file(artifact))]
        words += ["--mmproj", str(tower), "-t", str(threads), "-c", str(CONTEXT), "--temp", "0"]
        words += ["--ignore-eos", "--no-warmup", "--chat-template", TEMPLATE, "-lv", "5"]
        self._words = words

    def generate(self, request: Request) -> Iterator[Event]:
        """Answers one question about images (Session.generate)."""
        if not request.images or request.task or request.arrays:
            raise UserError("llama_mtmd_cli takes questions about images; ask for --prompt image")
        length = length_of(request)
        with tempfile.TemporaryDirectory() as scratch:
            words = [*self._words, "-p", request.question, "-n", str(length)]
            for number, image in enumerate(request.images):
                image.save(file := Path(scratch) / f"{number}.png")
                words += ["--image", str(file)]
            log = output(words)[1]
        yield from events(log, length)

    def surroundings(self) -> Browser | None:
        """Returns None: it runs in no browser."""
        return None

    def close(self) -> None:
        """Does nothing: no process is left between answers."""


def events(log: str, length: int) -> Iterator[Event]:
    """Yields the events of one answer, from the log of the program.

    Raises UserError if the log does not have the lines that it is read from.
    """
    started, ended = STARTED.search(log), EVALUATED.search(log)
    encoded, prompt = [int(ms) for ms in ENCODED.findall(log)], PROMPT.search(log)
    if not started or not ended or not prompt or not encoded:
        raise UserError(
            "llama-mtmd-cli's log has other lines than expected; is it another version?"
        )
    begin = _seconds(list(started.groups()))
    *clock, evaluation_ms, runs = ended.groups()
    decode_s = float(evaluation_ms) / 1e3
    first_s = _seconds(clock) - begin - decode_s
    image_s = sum(encoded) / 1e3
    yield Event("prepare", int(prompt[1]), seconds=0.0)
    yield Event("image", 0, tiles=len(encoded), seconds=image_s)
    yield Event("prefill", int(prompt[1]), seconds=max(0.0, first_s - image_s))
    for seconds in tokens(length, 0.0, decode_s / max(1, int(runs))):
        yield Event("token", token=0, seconds=seconds)


def _seconds(clock: list[str]) -> float:
    minutes, seconds, milliseconds, microseconds = map(int, clock)
    return 60 * minutes + seconds + milliseconds / 1e3 + microseconds / 1e6
