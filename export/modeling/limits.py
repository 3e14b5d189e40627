"""Allowed ranges of hyperparameters, far beyond the values of any small model."""

from collections.abc import Iterator, Mapping

SIZES: Mapping[str, tuple[int, int]] = {
    "layers": (1, 1 << 10),
    "hidden": (1, 1 << 20),
    "intermediate": (1, 1 << 20),
    "heads": (1, 1 << 12),
    "kv_heads": (1, 1 << 12),
    "head_dim": (2, 1 << 12),
    "vocab": (2, 1 << 24),
    "context": (1, 1 << 24),
    "image_size": (1, 1 << 14),
    "patch_size": (1, 1 << 12),
    "channels": (1, 1 << 4),
    "scale": (1, 1 << 6),
    "spatial_merge_size": (1, 1 << 6),
    "temporal_patch_size": (1, 1 << 4),
    "inner": (1, 1 << 20),
}
"""Field of a part -> smallest and largest value."""


def size_problems(part: object, called: str) -> Iterator[str]:
    """Yields a message for each field of `part` that is out of its range in SIZES.

    The message calls the part `called`, for example "vision".
    """
    for name, value in vars(part).items():
        if name in SIZES:
            low, high = SIZES[name]
            if not low <= value <= high:
                yield f"{called} {name} is {value}, expected {low} to {high}"
