"""Defines the ExecuTorch target: one program (.pte) for apps on phones, lowered to XNNPACK."""

from export.executorch.memory import EXECUTORCH as EXECUTORCH_MEMORY
from export.target import Target, late

EXECUTORCH = Target(
    layouts=("native",),
    write=late("export.executorch.write:write"),
    sizes=late("export.executorch.sizes:sizes"),
    size_error={"native": 0.02},
    memory=EXECUTORCH_MEMORY,
    recipes=("fp32", "int8", "int4"),
    extra="executorch",
    imports=("executorch",),
    tools={"executorch": "executorch", "torchao": "torchao", "torch": "torch"},
)
