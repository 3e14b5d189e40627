"""How a step of fixed shapes is run: plainly, captured as a CUDA graph, or compiled and captured.

Networks this small spend most of a plain step on launches. NOT aware of what a step computes.
"""

from collections.abc import Callable
from typing import Any

import torch

WARM_UP = 3
Step = Callable[[], None]


def _plain(step: Step) -> Step:
    return step


def _captured(step: Step) -> Step:
    """Replays what one call launched; the calls before it set lasting memory up."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        step()
    return graph.replay


def _as_is(module: Any) -> Any:
    return module


def _compiled(module: Any) -> Any:
    return torch.compile(module, dynamic=False)


PACES: dict[str, tuple[Callable[[Any], Any], Callable[[Step], Step]]] = {
    "plain": (_as_is, _plain),
    "captured": (_as_is, _captured),
    "compiled": (_compiled, _captured),
    "compiled-plain": (_compiled, _plain),
}
"""What is done to the loss's module, and to the whole step."""
