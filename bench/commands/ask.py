"""`bench ask`: asks a model one question, prints the answer while it is decoded, then timings."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from bench.machine.memory import peak_bytes
from bench.machine.threads import chosen_threads, described
from bench.measure import Stopwatch, Timing, timed
from bench.reporting.fmt import megabytes, milliseconds, significant
from bench.subjects import detokenizer, load, vlm, within_tiles
from export.artifact import Artifact
from export.errors import UserError
from export.model import Model
from runtimes.answer import runtime_for
from runtimes.base import Region, RemoteSession, Request
from runtimes.prepare.image import load_image, note_of
from runtimes.threads import ThreadWatch

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # stands for a character that the next token completes


def run(arguments: argparse.Namespace) -> int:
    """Ask one question and print the answer on stdout; returns 0.

    The timings follow on stderr, or with --json on stdout as a last line (`answer_line`).
    """
    threads = ThreadWatch(chosen_threads(arguments.threads), fixed=arguments.threads is not None)
    loaded, reading_s = timed(lambda: load(arguments.artifact, arguments.offline))
    loaded = within_tiles(loaded, arguments.max_tiles)
    request = _request(arguments, sees=vlm(loaded).vision is not None)
    runtime = runtime_for(loaded, arguments.runtime)
    runtime.preload(loaded.manifest.layout if isinstance(loaded, Artifact) else None)
    session, opening_s = timed(lambda: runtime.open_session(loaded, threads=threads))
    text = detokenizer(loaded)
    unused = loaded.notes if isinstance(loaded, Model) else ()
    for note in (*unused, *filter(None, map(note_of, request.images))):
        sys.stderr.write(f"note: {note}\n")
    watch = Stopwatch()
    printer, regions = _Printer(text), []
    for event in watch.watch(session.generate(request)):
        if event.token is not None:
            printer.add(event.token)
        if event.kind == "place":
            regions.append(event.region)
            sys.stdout.write(_numbers(event.region) + "\n")
    timing, peak = watch.timing(), peak_bytes()
    load_s: float | None = reading_s + opening_s
    if isinstance(session, RemoteSession):
        load_s, peak = session.load_s, peak_bytes(session.processes)
    session.close()
    sys.stdout.write("\n")
    answer = text(timing.tokens).strip() or "\n".join(map(_numbers, regions))
    line = answer_line(answer, timing, load_s, peak, regions)
    sys.stdout.write(line + "\n" if arguments.json else "")
    timings = f"{_timings(timing, load_s, peak)}, {described(threads.threads)}\n"
    sys.stderr.write("" if arguments.json else timings)
    return 0


def _request(arguments: argparse.Namespace, sees: bool) -> Request:
    """Build the request from the command line; `sees`: the model takes images.

    For a text-only model the word in the place of IMAGE is the question. Raises UserError without a
    question, or for a missing or unreadable image.
    """
    image, question = arguments.image, arguments.question
    if not sees and not question:
        image, question = None, image
    if not question and not arguments.task:
        raise UserError("there is no question; give one, or --task with a task of the model")
    if sees and image is None:
        raise UserError("there is no image; name its file before the question")
    return Request(
        question or "",
        () if image is None else (load_image(image),),
        max_tokens=arguments.max_tokens,
        task=arguments.task,
        region=arguments.place,
    )


def answer_line(
    answer: str,
    timing: Timing,
    load_s: float | None,
    peak: int | None,
    regions: Sequence[Region] = (),
) -> str:
    """Return the answer and its measurements as a line of JSON, whose keys other programs rely on.

    `load_s` are the seconds to load the model, `peak` the process's peak memory in bytes. The key
    `places` is present only if the answer has points or boxes (`regions`).
    """
    return json.dumps(
        ({"places": regions} if regions else {})
        | {
            "answer": answer,
            "token_ids": timing.tokens,
            "load_s": load_s,
            "image_s": timing.image_s,
            "prefill_s": timing.prefill_s,
            "first_token_s": timing.first_token_s,
            "decode_tokens_per_s": timing.decode_tokens_per_s,
            "peak_bytes": peak,
        }
    )


def _numbers(region: Region) -> str:
    """Write the coordinates of a point or of a box's two corners with four decimals each."""
    return " ".join(f"{number:.4f}" for number in region)


class _Printer:
    """Prints an answer while it is decoded: for each token, the text that it adds."""

    def __init__(self, text: Callable[[Sequence[int]], str]) -> None:
        self._text = text
        self._tokens: list[int] = []
        self._written = ""

    def add(self, token: int) -> None:
        self._tokens.append(token)
        whole = self._text(self._tokens).lstrip()
        if not whole.endswith(UNFINISHED):
            sys.stdout.write(whole[len(self._written) :])
            sys.stdout.flush()
            self._written = whole


def _timings(timing: Timing, load_s: float | None, peak: int | None) -> str:
    parts = [
        f"load {milliseconds(load_s)}",
        f"image {milliseconds(timing.image_s)}",
        f"prefill {milliseconds(timing.prefill_s)}",
        f"first token {milliseconds(timing.first_token_s)}",
        f"decode {significant(timing.decode_tokens_per_s)} tokens/s",
        f"peak {megabytes(peak)}",
    ]
    return ", ".join(parts)
