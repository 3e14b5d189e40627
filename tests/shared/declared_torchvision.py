"""Makes PyPI's torchvision importable beside a CPU build of torch.

Its compiled operators do not load there. Declared without a kernel they are enough for an import,
for transforms and so for transformers' torchvision image and video processors.
"""

import subprocess
import sys
from pathlib import Path

from real_tokenizers import from_pip

PACKAGE = "torchvision==0.29.1"  # the one for torch 2.13
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
"""Those that torchvision/_meta_registrations.py names even if none was loaded."""


def fetched(cache: Path) -> Path:
    """A folder for sys.path with torchvision alone, fetched by pip once and kept in `cache`."""
    folder = cache / "torchvision-site"
    if not (folder / "torchvision").exists():
        wheel = from_pip(PACKAGE, cache)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
        subprocess.run([*command, "--target", str(folder)], check=True)
    return folder


def declare() -> None:
    """Declares the operators; to be called before torchvision is imported."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    torch.torchvision_operators = library  # kept: they vanish with the object
