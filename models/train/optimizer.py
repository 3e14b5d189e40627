"""Muon for the matrices inside the network, AdamW for everything else, on one step-counted rate.

Muon: Keller Jordan, https://kellerjordan.github.io/posts/muon/ . NOT aware of models.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

MUON_RATE = 0.02
MOMENTUM = 0.95
ADAM_RATE = 2e-3
BETAS = (0.9, 0.98)
# Quintic Newton-Schulz coefficients of the post: singular values go to about 1 in five steps.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised; matrices of one shape are handled together."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float | Tensor) -> None:
        of_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            of_shape[parameter.shape].append(parameter)
        super().__init__([{"params": group} for group in of_shape.values()], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = torch.stack([p.grad for p in parameters])
            momenta = torch.stack(
                [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in parameters]
            )
            momenta = torch.lerp(gradients, momenta, MOMENTUM)
            updates = orthogonalised(torch.lerp(gradients, momenta, MOMENTUM))  # Nesterov
            rows, columns = parameters[0].shape
            scale = group["lr"] * max(1.0, rows / columns) ** 0.5
            for parameter, momentum, update in zip(parameters, momenta, updates, strict=True):
                self.state[parameter]["momentum"].copy_(momentum)
                if isinstance(scale, Tensor):  # alpha is a plain number
                    parameter.sub_(update * scale)
                else:
                    parameter.sub_(update, alpha=scale)


def orthogonalised(matrices: Tensor) -> Tensor:
    """(n, rows, columns) to about the nearest orthogonal matrices."""
    a, b, c = COEFFICIENTS
    x: Tensor = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x


def split(
    named: Iterable[tuple[str, nn.Parameter]],
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices inside the network, and the other parameters."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in named:
        is_outer = any(part in name for part in ("embed", "embd", "head"))
        is_inner = parameter.ndim == 2 and not is_outer and parameter.requires_grad
        (matrices if is_inner else others).append(parameter)
    return matrices, others


class Optimizer:
    """Both optimizers at a rate that is a tensor on the device, so that a step can be captured.

    Nothing is allocated or decided by value after the first step.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], device: str) -> None:
        matrices, others = split(named)
        self._parameters = [p for p in matrices + others if p.requires_grad]
        self._initial = [p.detach().clone() for p in self._parameters]
        self._rates = [torch.zeros((), device=device) for _ in range(2)]
        muon_rate, adam_rate = self._rates
        adam = torch.optim.AdamW(
            others,
            lr=adam_rate,
            betas=BETAS,
            weight_decay=0.0,
            fused=True,
            capturable=device != "cpu",
        )
        self._optimizers: list[torch.optim.Optimizer] = [Muon(matrices, lr=muon_rate), adam]

    def step(self, loss: Tensor, rate: Tensor) -> None:
        """`rate` () is the share of both optimizers' own."""
        for own, peak in zip(self._rates, (MUON_RATE, ADAM_RATE), strict=True):
            own.copy_(peak * rate)
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimizer in self._optimizers:
            optimizer.step()

    @torch.no_grad()
    def reset(self) -> None:
        """Parameters as they began, and no memory of steps."""
        for parameter, value in zip(self._parameters, self._initial, strict=True):
            parameter.copy_(value)
        for optimizer in self._optimizers:
            for state in optimizer.state.values():
                for value in state.values():
                    value.zero_()
