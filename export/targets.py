"""The table of targets: the formats an artifact can have. Importing it imports no format's library.

A new format is a package with a Target (export/target.py) and a line here.
"""

from collections.abc import Mapping

from export.executorch.target import EXECUTORCH
from export.gguf.target import GGUF
from export.litert.target import LITERT
from export.onnx.target import ONNX
from export.target import Target

TARGETS: Mapping[str, Target] = {
    "onnx": ONNX,
    "gguf": GGUF,
    "executorch": EXECUTORCH,
    "litert": LITERT,
}

PREDICTABLE: Mapping[str, Target] = {n: row for n, row in TARGETS.items() if row.sizes is not None}
"""Those whose artifacts' sizes are known before an export."""


def folder_name(target: str, recipe: str, layout: str) -> str:
    """Returns the default name of an artifact's folder: <target>-<recipe>[-<layout>].

    The layout "native" is left out.
    """
    return f"{target}-{recipe}" + ("" if layout == "native" else f"-{layout}")
