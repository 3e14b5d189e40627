"""Measures time and memory of repeated requests of one fixed size.

Token ids of text prompts and of the answers, which are forced, are arbitrary: so their lengths are
exact.
"""

from dataclasses import replace

import numpy as np
from PIL import Image

from bench.measure import Stopwatch, measure
from bench.options import LatencyOptions
from bench.record import Outcome
from bench.subjects import vlm
from bench.tasks import Context
from export.modeling.vlm import Vlm
from runtimes.base import Request

IMAGE_SIZE = (640, 480)  # a small photo; each family resizes it
IMAGE = f"{IMAGE_SIZE[0]} × {IMAGE_SIZE[1]} pixels"
QUESTION = "What is in this image?"


def run(context: Context, options: LatencyOptions) -> Outcome:
    """Answers one request to warm up, reading memory by phase, then times `options.repeats` more.

    Memory is not read during the timed ones.
    """
    request = request_of(vlm(context.loaded), options)
    context.notify("warming up")
    warmup = Stopwatch()
    for event in warmup.watch(context.session.generate(request)):
        if event.kind in ("image", "prefill"):
            context.phases.end(event.kind)
    context.phases.end("decode")
    context.notify("measuring")
    repeats = range(options.repeats)
    timings = tuple(measure(context.session.generate(request)) for _ in repeats)
    return Outcome(warmups=(warmup.timing(),), timings=timings)


def request_of(numbers: Vlm, options: LatencyOptions) -> Request:
    """Makes the request to time: an image with a question, or a text of `options.prefill_tokens`.

    Its answer is forced to `options.decode_tokens`, and nothing of earlier requests is reused.
    `numbers` describe the model.
    """
    request = Request(answer=ids(numbers, options.decode_tokens), reuse=False)
    if options.prompt == "text":
        return replace(request, ids=ids(numbers, options.prefill_tokens))
    return replace(request, question=QUESTION, images=(image(),))


def request_name(options: LatencyOptions) -> str:
    """Describes a request as prompt + answer, for example `128 text tokens + 32 tokens`."""
    image = f"an image of {IMAGE}" if options.prompt == "image" else None
    if image and options.max_tiles:
        image += f" in at most {options.max_tiles} tile{'s' if options.max_tiles > 1 else ''}"
    beside = " beside a busy process" if options.contended else ""
    prompt = image or f"{options.prefill_tokens} text tokens"
    return f"{prompt} + {options.decode_tokens} tokens{beside}"


def ids(numbers: Vlm, length: int) -> tuple[int, ...]:
    """Returns `length` arbitrary but fixed token ids, without the image token.

    They are from the vocabulary's lower half, because its upper end can be padding that the
    tokenizer does not have.
    """
    half = range(numbers.text.vocab // 2)
    usable = [n for n in half if n != numbers.image_token_id]
    spread = np.random.default_rng(0).integers(0, len(usable), length)
    return tuple(usable[n] for n in spread)


def image() -> Image.Image:
    """Makes the image of a latency request, with smooth gradients and hard edges."""
    width, height = IMAGE_SIZE
    y, x = np.mgrid[0:height, 0:width]
    checks = ((x // 40 + y // 40) % 2) * 255
    channels = (x * 255 // width, y * 255 // height, checks)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
