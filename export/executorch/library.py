"""Imports ExecuTorch and the libraries of operators that a program may use.

Importing this module registers them, for tracing as for running. It keeps the notes that they write
at import.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

from export.library_log import kept


def _operators() -> Path:
    """Returns the file of the operators llama::custom_sdpa and llama::update_cache."""
    spec = find_spec("executorch.extension.llm.custom_ops")
    assert spec is not None
    folders = spec.submodule_search_locations or ()
    return next(path for folder in folders for path in Path(folder).glob("libcustom_ops_aot_lib.*"))


with kept(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # "This API is experimental", and torchao's about torch
    import executorch.extension.pybindings.portable_lib as portable
    from executorch.kernels import quantized

    # What custom_ops.py does at its import, but without torch's compiler, which takes seconds.
    torch.ops.load_library(_operators())  # type: ignore[no-untyped-call]

__all__ = ["portable", "quantized"]
