"""The limits that the figures of a proof must keep, for every recipe."""

from collections.abc import Mapping
from dataclasses import dataclass

PIXEL_TOLERANCE = 1e-5
"""Largest difference of a pixel value from transformers'.

Both compute (x / 255 - mean) / std in float32, but may round in another order.
"""
MAX_ERROR = 5e-5
"""Largest error of a logit, as a fraction of the prompt's largest absolute logit.

Measured in float32 at equal settings: 5e-7 to 1.2e-6 on the bundled models, 8e-7 and 1.1e-6 with
random weights in the sizes of Gemma 3 270M and SmolVLM-256M. One misread setting moves it by more:
5 % of the rotary base by 1.2e-4 (Gemma 3) to .02, GELU for its tanh approximation by 9e-5 to .1,
another scale, window or kind of layer by over 1e-3. The mean KL divergence is quadratic in this
error and hides small ones: 4e-8 for Gemma 3's activation.
"""
PLACE_TOLERANCE = 1e-6
"""Largest difference of a coordinate, as a fraction of the image's edge, where regions must be
equal: both sides must choose the same bins, which are 1/1024 wide."""


@dataclass(frozen=True)
class Bounds:
    """Limits that an artifact's results on the probes must keep, for one quantization recipe.

    They hold for every runtime: XNNPACK's float32 differs from torch's as little as ONNX Runtime's
    (docs/reference/executorch.md). They are wide: a wrong graph misses them by far. `cosine` and
    `top1` are lower bounds, `mean_kld` is an upper bound. `exact`: whether they also hold for
    random weights.
    """

    cosine: float
    """Smallest mean cosine similarity of image features with the reference's."""
    mean_kld: float
    """Largest mean KL divergence of next-token distributions from the reference's, in nats."""
    top1: float
    """Smallest fraction of tokens whose most probable token is the reference's. 1.0 also requires
    equal greedy tokens and regions."""
    exact: bool
    """Whether the limits hold for random weights too, as rounding is too small to matter."""


_BITS = {
    "fp32": Bounds(cosine=0.99999, mean_kld=1e-4, top1=1.0, exact=True),
    "fp16": Bounds(cosine=0.9999, mean_kld=1e-3, top1=0.98, exact=True),
    "int8": Bounds(cosine=0.99, mean_kld=0.05, top1=0.9, exact=False),
    "int4": Bounds(cosine=0.9, mean_kld=0.5, top1=0.7, exact=False),
}
BOUNDS: Mapping[str, Bounds] = {
    **_BITS,
    **{name: _BITS["int4"] for name in ("q4_k_m", "q5_k_m", "iq4_nl")},
    "q6_k": _BITS["int8"],
}
"""RecipeUsed.base -> the limits of artifacts of that recipe."""
