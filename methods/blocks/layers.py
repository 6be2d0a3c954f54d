"""Layers several methods share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

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


class Stack(nn.ModuleList):
    """Linear layers started as ``nn.Linear`` does, each followed by an activation.

    Args:
        sizes: Widths from input to output.
        act: The activation; ``None`` for none.
        bare: Whether the last layer goes without.
    """

    def __init__(
        self, sizes: Sequence[int], act: Callable[[Tensor], Tensor] | None = relu, *, bare: bool = False
    ) -> None:
        super().__init__(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.act, self.bare = act, bare

    def forward(self, x: Tensor) -> Tensor:
        """``(..., sizes[0])`` to ``(..., sizes[-1])``."""
        for place, layer in enumerate(self, start=1):
            x = layer(x)
            if self.act and not (self.bare and place == len(self)):
                x = self.act(x)
        return x


def glorot(stack: Stack) -> Stack:
    """The same layers, started uniform as Glorot and Bengio propose, biases 0."""
    for layer in stack:
        assert isinstance(layer, nn.Linear)
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return stack


class UnitMLP(nn.Module):
    """:class:`Stack`, a last linear layer without bias, rows of unit length.

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
        self.hidden = Stack(sizes)
        self.last = nn.Linear(sizes[-1], d, bias=False)
        bound = 1 / math.sqrt(width)
        nn.init.uniform_(self.last.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` features to ``(..., d)`` unit rows."""
        return unit_rows(self.last(self.hidden(x)))


class MLP(nn.Module):
    """:class:`Stack` and a last linear layer, all with bias and started as ``nn.Linear`` does.

    Args:
        width: Input width.
        hidden: Widths of the hidden layers.
        out: Output width.
        unit: Whether output rows get unit length.
    """

    def __init__(self, width: int, hidden: Sequence[int], out: int, *, unit: bool = False) -> None:
        super().__init__()
        sizes = [width, *hidden]
        self.hidden = Stack(sizes)
        self.last = nn.Linear(sizes[-1], out)
        self.unit = unit

    def forward(self, x: Tensor) -> Tensor:
        """``(..., width)`` to ``(..., out)``."""
        x = self.last(self.hidden(x))
        return unit_rows(x) if self.unit else x


def reverse_gradient(x: Tensor, factor: Tensor | float = 1.0) -> Tensor:
    """The same values, through which gradients pass with the opposite sign, times ``factor``."""
    return x.detach() - factor * (x - x.detach())


def part_of(params: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The parameters whose names start with the prefix, under the rest of their names."""
    return {name.removeprefix(prefix): p for name, p in params.items() if name.startswith(prefix)}


def uniform(keys: Tensor, columns: int, stream: int = 0) -> Tensor:
    """Uniform random numbers in [0, 1) that are a function of the keys alone, ``(B, columns)`` float32.

    Dropout and random masks draw from it, so that a replica sees the same noise on every device, alone or
    stacked with others under ``vmap``. Key, column and stream are mixed by two rounds of the finaliser of
    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).

    Args:
        keys: ``(B,)`` int64, random, one per row.
        columns: Numbers per row.
        stream: Another number gives independent values for the same keys.
    """
    places = torch.arange(columns, device=keys.device, dtype=torch.int64) + (stream << 32)
    mixed = _mix(_mix(places) + keys.unsqueeze(-1))
    return _shift(mixed, 40).to(torch.float32) / 2**24


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """Finaliser of SplitMix64, on int64 that wrap around."""
    x = (x ^ _shift(x, 30)) * -4658895280553007687  # 0xbf58476d1ce4e5b9
    x = (x ^ _shift(x, 27)) * -7723592293110705685  # 0x94d049bb133111eb
    return x ^ _shift(x, 31)


def dropout(x: Tensor, share: float, keys: Tensor | None, stream: int) -> Tensor:
    """Entries set to 0 with probability ``share``, the others divided by ``1 - share``.

    Args:
        x: ``(B, d)``.
        share: In [0, 1).
        keys: ``(B,)`` int64, see :func:`uniform`; ``None``: x is left as it is, as in retrieval.
        stream: Another one for every place where the same keys are used.
    """
    if share == 0 or keys is None:
        return x
    kept = uniform(keys, x.shape[-1], stream) >= share
    return torch.where(kept, x / (1 - share), 0.0)


class BatchNorm(nn.Module):
    """Batch normalisation whose running statistics are state, not written in place.

    The statistics of several replicas under ``vmap`` have to be handed back by the loss; ``nn.BatchNorm1d``
    writes its own. Values and defaults are the same: biased variance in the batch, unbiased in the running
    average, momentum 0.1, eps 1e-5.
    """

    momentum, eps = 0.1, 1e-5
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width)`` normalised by the running statistics."""
        return self._scaled(x, self.running_mean, self.running_var)

    def train_rows(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """``(B, width)`` normalised by its own statistics, and the new running statistics by their names."""
        var, mean = torch.var_mean(x, dim=0, correction=0)
        rows = x.shape[0]
        unbiased = var * rows / max(rows - 1, 1)
        running = {
            "running_mean": torch.lerp(self.running_mean, mean.detach(), self.momentum),
            "running_var": torch.lerp(self.running_var, unbiased.detach(), self.momentum),
        }
        return self._scaled(x, mean, var), running

    def _scaled(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return (x - mean) * (var + self.eps).rsqrt() * self.weight + self.bias
