"""Layers several methods share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

NORM_FLOOR = 1e-12


def unit_rows(x: Tensor) -> Tensor:
    """Rows divided by their L2 norm, ``(..., d)``.

    A row without length (at most 1e-12) becomes zero and passes no gradient, where a clamped norm would
    pass one multiplied by 1e12.
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(norm > NORM_FLOOR, norm, torch.inf)


def random_orthogonal(d: int, columns: int, seed: int) -> Tensor:
    """First columns of a random orthogonal ``d x d`` matrix, float32.

    Drawn as ``torch.nn.init.orthogonal_`` does after ``torch.manual_seed(seed)``, so that it equals the
    matrix public codes start from.

    Raises:
        ValueError: More columns than rows.
    """
    if columns > d:
        raise ValueError(
            f"{columns} orthogonal columns need an embedding width of at least {columns}, got {d}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.init.orthogonal_(torch.empty(d, d))[:, :columns].contiguous()


class UnitMLP(nn.Module):
    """Linear-ReLU stack, a last linear layer without bias, rows of unit length.

    Args:
        width: Input width D.
        hidden: Widths of the hidden layers.
        d: Output width.

    The last layer starts uniform in +-1/sqrt(D) with the *raw input* width D, as the public DRCL and MARS
    codes do; the others start as ``nn.Linear`` does.
    """

    def __init__(self, width: int, hidden: Sequence[int], d: int) -> None:
        super().__init__()
        sizes = [width, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.last = nn.Linear(sizes[-1], d, bias=False)
        bound = 1 / math.sqrt(width)
        nn.init.uniform_(self.last.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` features to ``(..., d)`` unit rows."""
        for layer in self.hidden:
            x = layer(x).relu()
        return unit_rows(self.last(x))


class MLP(nn.Module):
    """Linear-ReLU stack and a last linear layer, all with bias and started as ``nn.Linear`` does.

    Args:
        width: Input width.
        hidden: Widths of the hidden layers.
        out: Output width.
        unit: Whether output rows get unit length.
    """

    def __init__(self, width: int, hidden: Sequence[int], out: int, *, unit: bool = False) -> None:
        super().__init__()
        sizes = [width, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.last = nn.Linear(sizes[-1], out)
        self.unit = unit

    def forward(self, x: Tensor) -> Tensor:
        """``(..., width)`` to ``(..., out)``."""
        for layer in self.hidden:
            x = layer(x).relu()
        x = self.last(x)
        return unit_rows(x) if self.unit else x


def part_of(params: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The parameters whose names start with the prefix, under the rest of their names."""
    return {name.removeprefix(prefix): p for name, p in params.items() if name.startswith(prefix)}
