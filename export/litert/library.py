"""Imports LiteRT's converter from torch; importing it registers the operators that are traced.

It keeps the notes that the libraries write when they are imported.
"""

import warnings

from export.library_log import kept

with kept(1, 2), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's and torchao's, about each other's old names
    import litert_torch
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer import recipe as recipes
    from litert_lm_builder import litertlm_builder as builder
    from litert_lm_builder.runtime.proto import executor_metadata_pb2 as executor_metadata
    from litert_lm_builder.runtime.proto import llm_metadata_pb2 as llm_metadata
    from litert_torch.generative.custom_ops.dynamic_update_slice import dynamic_update_slice

__all__ = [
    "builder",
    "dynamic_update_slice",
    "executor_metadata",
    "litert_torch",
    "llm_metadata",
    "quantizer",
    "recipes",
    "schema",
]
