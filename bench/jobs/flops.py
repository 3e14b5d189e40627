"""Computes the operations and bytes that a request needs at least, from the network's shapes."""

from bench.measure import Timing
from bench.record import Work
from bench.subjects import vlm
from export.artifact import Artifact
from export.count import FLOAT_BYTES, cache_bytes_per_token, decoder_counts, vision_counts
from export.model import Model
from export.modeling.vlm import Vlm, decoder_parameters


def work_of(
    loaded: Artifact | Model,
    timing: Timing,
    cache_value_bytes: int,
    weight_bytes: int = FLOAT_BYTES,
) -> Work:
    """Compute the operations and bytes of one measured request; None for a phase it did not have.

    `cache_value_bytes` are the bytes of one cached key or value, `weight_bytes` those of one weight
    of a checkpoint (the weights of an artifact have the size that it states).
    """
    numbers = vlm(loaded)
    prompt, answered = timing.prompt_positions, len(timing.tokens)
    middle = prompt + answered // 2 if prompt is not None and answered > 1 else None
    weights = decoder_bytes(loaded, weight_bytes)
    return Work(
        image_flops=_image_flops(numbers, timing),
        prefill_flops=_prefill_flops(numbers, timing),
        decode_flops=None if middle is None else decoder_counts(numbers, 1, middle).flops,
        decode_bytes=None
        if middle is None or weights is None
        else weights + middle * cache_bytes_per_token(numbers, cache_value_bytes),
    )


def decoder_bytes(loaded: Artifact | Model, value_bytes: int = FLOAT_BYTES) -> int | None:
    """Return the bytes of the weights that each decoded token reads: layers and output head.

    A head that shares its weights with the embedding is counted once. Each weight of a checkpoint
    takes `value_bytes`: the reference runtime uses float32 on the CPU. None: the artifact does not
    state the size of its decoder.
    """
    text = vlm(loaded).text
    values = decoder_parameters(vlm(loaded))
    values += text.vocab * text.hidden if text.tied else 0
    if isinstance(loaded, Model):
        return values * value_bytes
    parts = loaded.manifest.quantization.components
    if "decoder" not in parts:
        return None
    decoder = parts["decoder"]
    lists_head = decoder.parameters >= values
    return decoder.weight_bytes + (0 if lists_head else parts["embedding"].weight_bytes)


def _image_flops(numbers: Vlm, timing: Timing) -> int | None:
    if timing.image_tiles is None or timing.image_reused:
        return None
    return vision_counts(numbers, timing.image_tiles).flops


def _prefill_flops(numbers: Vlm, timing: Timing) -> int | None:
    if timing.prefill_positions is None or timing.prompt_positions is None:
        return None
    reused = timing.prompt_positions - timing.prefill_positions
    return decoder_counts(numbers, timing.prefill_positions, reused).flops
