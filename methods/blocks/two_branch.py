"""The network of DSCMR, which RONO uses too: a hidden layer per modality, then a layer they share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class TwoBranch(nn.Module):
    """Per modality Linear-ReLU, then one Linear into the common space, without activation.

    Args:
        widths: Feature width of every modality.
        hidden: Width of the hidden layers.
        d: Width of the common space.
        share_last: Whether the modalities share the last layer, or have one each.
    """

    def __init__(self, widths: Mapping[str, int], hidden: int, d: int, *, share_last: bool = True) -> None:
        super().__init__()
        self.names = tuple(widths)
        self.branches = nn.ModuleList(nn.Linear(width, hidden) for width in widths.values())
        self.common = nn.ModuleList(nn.Linear(hidden, d) for _ in range(1 if share_last else len(widths)))

    def forward(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``(B, D)`` features of some of the modalities to ``(B, d)`` each."""
        hidden = {n: self.branches[self.names.index(n)](x).relu() for n, x in rows.items()}
        if len(self.common) > 1:
            return {n: self.common[self.names.index(n)](h) for n, h in hidden.items()}
        found = self.common[0](torch.cat(list(hidden.values())))  # in one product: the weights are read once
        sizes = [len(h) for h in hidden.values()]
        return dict(zip(hidden, found.split(sizes), strict=True))
