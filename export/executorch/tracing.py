"""Imports what tracing for ExecuTorch needs; importing it defines the operators that are traced.

It keeps the notes that the library writes when it is imported.
"""

import warnings

import torch

from export.library_log import kept

with kept(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torchao's and torch's, about each other's old names
    from executorch import exir
    from executorch.backends.xnnpack.partition import xnnpack_partitioner
    from executorch.exir.backend import compile_spec_schema, partitioner
    from executorch.exir.passes import _quant_patterns_and_replacements as embedding_operators
    from executorch.exir.passes import memory_planning_pass
    from executorch.extension.llm.custom_ops import custom_ops

OPERATORS = torch.ops.llama
"""The operators of custom_ops.py: attention over a key-value cache, and its update."""
QUANTIZED = torch.ops.quantized_decomposed
"""Operators on codes with scales; torch defines those of matrices."""
__all__ = [
    "OPERATORS",
    "QUANTIZED",
    "compile_spec_schema",
    "custom_ops",
    "embedding_operators",
    "exir",
    "memory_planning_pass",
    "partitioner",
    "xnnpack_partitioner",
]
