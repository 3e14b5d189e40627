"""Plans the memory of methods, so that a program's methods can share what is not a cache."""

from typing import Any

from export.executorch.tracing import memory_planning_pass


class Planning(memory_planning_pass.MemoryPlanningPass):  # type: ignore[misc] # has no annotations
    """Gives the key-value cache memory of its own, and only in the method that has it.

    ExecuTorch's Python runtime lets all methods of a program share memory, which would overwrite a
    cache; its C++ runners give each method memory of its own. The library's way to keep buffers
    apart, `share_mutable_buffers`, makes every method as large as the one with the cache.
    """

    def __init__(self) -> None:
        super().__init__(share_mutable_buffers=True)

    def run(self, graph_module: Any, graph_signature: Any = None) -> Any:
        """Plans one method. (The library's passes are called so.)"""
        if graph_signature is not None and graph_signature.buffers_to_mutate:
            return super().run(graph_module, graph_signature)
        return memory_planning_pass.MemoryPlanningPass().run(graph_module, graph_signature)
