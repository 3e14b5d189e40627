"""Counts which operators and weights of a lowered program XNNPACK runs, and lists the others."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram

from export.manifest import Delegation

CALL = "executorch_call_delegate"
MUTATES = "auto_functionalized_v2"
"""What torch puts around an operator that writes to one of its inputs."""


def delegation(program: ExportedProgram) -> Delegation:
    """Returns what of a method XNNPACK runs, from its program after lowering."""
    outside = Counter(_operators(program))
    inside: Counter[str] = Counter()
    calls, weights = 0, 0
    for lowered in _lowered(program):
        calls += 1
        inside.update(_operators(lowered))
        weights += _weight_bytes(lowered)
    return Delegation(
        calls=calls,
        operators=inside.total() + outside.total(),
        delegated_operators=inside.total(),
        weight_bytes=weights + _weight_bytes(program),
        delegated_weight_bytes=weights,
        outside=dict(outside.most_common()),
    )


def _lowered(program: ExportedProgram) -> Iterator[ExportedProgram]:
    for node in program.graph.nodes:
        if node.op == "call_function" and CALL in str(node.target):
            module = getattr(program.graph_module, node.args[0].target)
            yield module.original_module


def _operators(program: ExportedProgram) -> Iterator[str]:
    """Yields the name of each operator on tensors in a method's own graph, such as aten.mul."""
    for node in program.graph.nodes:
        values = node.meta.get("val")
        if node.op == "call_function" and isinstance(values, Tensor | tuple | list):
            name = _name(node.args[0] if MUTATES in str(node.target) else node.target)
            if name != "getitem" and CALL not in name:
                yield name


def _name(target: Any) -> str:
    """Returns the name of what a node calls: an operator of torch, or of the edge dialect."""
    operator = target if isinstance(target, OpOverload) else getattr(target, "_op", target)
    if isinstance(operator, OpOverload):
        return operator._schema.name.replace("::", ".")
    return getattr(operator, "__name__", "") or str(operator)


def _weight_bytes(program: ExportedProgram) -> int:
    """Returns the bytes of the weights that a method's own graph reads, without caches."""
    signature = program.graph_signature
    mutated = set(signature.buffers_to_mutate.values())
    names: Mapping[str, str] = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    tensors: Mapping[str, Any] = {**program.constants, **program.state_dict}
    found = {name: tensors[name] for node, name in names.items() if node in used - mutated}
    return sum(
        tensor.numel() * tensor.element_size()
        for name, tensor in found.items()
        if name not in mutated
    )
