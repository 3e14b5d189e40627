"""Chooses what XNNPACK runs, as the library's partitioner does, in a third of its time."""

from typing import Any

from torch.export import ExportedProgram

from export.executorch.tracing import compile_spec_schema, partitioner, xnnpack_partitioner

BACKEND = "XnnpackBackend"
LINEAR_PASS_ALONE = "dqlinear_partitioner"
"""A compile spec that reduces the 17 passes over each delegated graph to the one that restores
linear layers (backends/xnnpack/xnnpack_preprocess.py). The others change nothing in our graphs,
which have no convolutions, batch norms or dimension orders; the result is the same bit by bit."""


class Partitioner(xnnpack_partitioner.XnnpackPartitioner):  # type: ignore[misc] # has no annotations
    """Chooses all that XNNPACK can run, with fewer passes over the graphs.

    Operators that XNNPACK knows are kept whole everywhere, not only where it takes them: asking for
    each of them costs one more trace of the program.
    """

    delegation_spec: Any

    def __init__(self) -> None:
        super().__init__()
        spec = compile_spec_schema.CompileSpec(LINEAR_PASS_ALONE, b"")
        self.delegation_spec = partitioner.DelegationSpec(BACKEND, [spec])

    def ops_to_not_decompose(self, ep: ExportedProgram) -> tuple[list[Any], None]:
        """Returns the operators to keep; None: they are kept in every place."""
        return super().ops_to_not_decompose(ep)[0], None
