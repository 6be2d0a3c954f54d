"""Settings of the optimisers the training loop steps.

All are elementwise, so one optimiser serves stacked replicas; ``fused`` kernels are used. Weight decay is
coupled: it is added to the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Factor = Callable[[int, int], float]
"""``factor(epoch, update)``: what a learning rate is multiplied by; both 0-based, updates over all epochs."""


@dataclass(frozen=True)
class Adam:
    """Adam's settings."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def build(self, params: Sequence[Tensor]) -> torch.optim.Optimizer:
        """The optimiser over these leaves."""
        return torch.optim.Adam(
            params, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True
        )


@dataclass(frozen=True)
class SGD:
    """Settings of gradient descent, with heavy-ball momentum if any."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def build(self, params: Sequence[Tensor]) -> torch.optim.Optimizer:
        """The optimiser over these leaves."""
        return torch.optim.SGD(
            params, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True
        )


@dataclass(frozen=True)
class Group:
    """Parameters that are moved by settings of their own.

    Attributes:
        params: Prefixes of their names.
        optimizer: The settings.
        factor: Schedule of the learning rate; constant if not given.
    """

    params: tuple[str, ...]
    optimizer: Adam | SGD
    factor: Factor | None = None


class Stepper:
    """The optimisers of one objective: one per group, and one for the parameters in no group.

    Args:
        named: Leaves this objective moves.
        groups: The first whose prefixes fit a name takes the parameter; the last takes all others.
    """

    def __init__(self, named: dict[str, Tensor], groups: Sequence[Group]) -> None:
        self.leaves = list(named.values())
        self.parts: list[tuple[Group, torch.optim.Optimizer]] = []
        rest = dict(named)
        for group in groups:
            mine = {n: p for n, p in rest.items() if not group.params or n.startswith(group.params)}
            rest = {n: p for n, p in rest.items() if n not in mine}
            if mine:
                self.parts.append((group, group.optimizer.build(list(mine.values()))))

    def step(self, gradients: Sequence[Tensor], epoch: int, update: int) -> None:
        """Move every leaf along its gradient."""
        for leaf, gradient in zip(self.leaves, gradients, strict=True):
            leaf.grad = gradient.contiguous()  # the fused step reads it in the parameter's memory order
        for group, optimizer in self.parts:
            if group.factor is not None:
                for each in optimizer.param_groups:
                    each["lr"] = group.optimizer.lr * group.factor(epoch, update)
            optimizer.step()
