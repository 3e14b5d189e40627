"""Time and memory of repeated requests of one fixed size.

Prompt ids and forced answers are arbitrary, so that their lengths are exact.
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
    """One warm-up with memory by phase, then the timed repeats without any reading of memory."""
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
    """A request that reuses nothing and whose answer is forced, so that its length is fixed."""
    request = Request(answer=ids(numbers, options.decode_tokens), reuse=False)
    if options.prompt == "text":
        return replace(request, ids=ids(numbers, options.prefill_tokens))
    return replace(request, question=QUESTION, images=(image(),))


def request_name(options: LatencyOptions) -> str:
    """A phrase for a latency request: its prompt and the length of its answer."""
    image = f"an image of {IMAGE}" if options.prompt == "image" else None
    if image and options.max_tiles:
        image += f" in at most {options.max_tiles} tile{'s' if options.max_tiles > 1 else ''}"
    return f"{image or f'{options.prefill_tokens} text tokens'} + {options.decode_tokens} tokens"


def ids(numbers: Vlm, length: int) -> tuple[int, ...]:
    """Arbitrary token ids from the vocabulary's lower half, without the image token.

    The upper end can be padding that the tokenizer does not have.
    """
    half = range(numbers.text.vocab // 2)
    usable = [n for n in half if n != numbers.image_token_id]
    spread = np.random.default_rng(0).integers(0, len(usable), length)
    return tuple(usable[n] for n in spread)


def image() -> Image.Image:
    """A fixed image with smooth gradients and hard edges."""
    width, height = IMAGE_SIZE
    y, x = np.mgrid[0:height, 0:width]
    checks = ((x // 40 + y // 40) % 2) * 255
    channels = (x * 255 // width, y * 255 // height, checks)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
