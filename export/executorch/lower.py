"""Lowers traced methods to one ExecuTorch program, whose heavy operators XNNPACK runs."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from export.executorch.delegation import delegation
from export.executorch.methods import Method
from export.executorch.partitioner import Partitioner
from export.executorch.planning import Planning
from export.executorch.tracing import exir
from export.library_log import kept
from export.manifest import Delegation


@dataclass(frozen=True, eq=False)
class Lowered:
    """A program in memory, ready to be written, and what of each method XNNPACK runs."""

    program: exir.ExecutorchProgramManager
    methods: Mapping[str, Delegation]

    def save(self, path: Path) -> None:
        """Writes the program as a .pte file."""
        with path.open("wb") as file:
            self.program.write_to_file(file)


def lower(methods: Mapping[str, Method], constants: Mapping[str, Any]) -> Lowered:
    """Traces and lowers methods by name; `constants` become methods that return a fixed value."""
    with kept(), warnings.catch_warnings():
        # torch's and ExecuTorch's notes about each other's old names
        warnings.simplefilter("ignore")
        traced = {name: _traced(method) for name, method in methods.items()}
        edge = exir.to_edge_transform_and_lower(
            traced,
            partitioner=[Partitioner()],
            constant_methods=dict(constants),
            # The operators of `llama` are not among those that the check knows; no graph changes
            # the order of a tensor's dimensions in memory.
            compile_config=exir.EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
        )
        shares = {name: delegation(edge.exported_program(name)) for name in methods}
        config = exir.ExecutorchBackendConfig(memory_planning_pass=Planning())
        return Lowered(edge.to_executorch(config), shares)


def _traced(method: Method) -> ExportedProgram:
    module = method.module.eval()
    with torch.no_grad():
        module(**method.inputs)  # makes the modules of its weights
        return torch.export.export(
            module, (), dict(method.inputs), dynamic_shapes=dict(method.shapes), strict=False
        )
