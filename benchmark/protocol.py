"""How training samples are served.

A sampler draws row numbers on the CPU, one epoch and one replica at a time, and turns the row numbers of a
step into a batch on the device by indexing features that live there already. Drawing on the CPU from one
generator per replica makes a replica's data independent of the device and of its company.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

Batch = dict[str, Tensor]


class Sampler(Protocol):
    """Serves the batches of one phase."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch size of every step of an epoch; the same in every epoch."""

    def draw(self, generator: torch.Generator) -> Batch:
        """One epoch of one replica: named int64 CPU tensors of length ``sum(sizes)``, step after step."""

    def gather(self, drawn: Batch) -> Batch:
        """The batch for one step's drawn numbers, ``(B,)`` or ``(R, B)`` on the device."""


def take(table: Tensor, rows: Tensor) -> Tensor:
    """Rows of an ``(n, ...)`` table for row numbers of any shape: ``(*rows.shape, ...)``."""
    return table.index_select(0, rows.reshape(-1)).reshape(*rows.shape, *table.shape[1:])


def batch_sizes(rows: int, batch: int, keep_remainder: bool = False) -> tuple[int, ...]:
    """Sizes of the batches of an epoch over ``rows`` rows.

    A modality smaller than the batch is served whole, so there is always at least one step. The remainder
    of a larger one is dropped, as public codes do, unless ``keep_remainder``.

    Raises:
        ValueError: ``rows`` or ``batch`` is not positive.
    """
    if rows < 1 or batch < 1:
        raise ValueError(
            f"need at least one row and a positive batch size, got {rows} rows and batch {batch}"
        )
    size = min(batch, rows)
    whole, rest = divmod(rows, size)
    return (size,) * whole + ((rest,) if rest and keep_remainder else ())


class RowSampler:
    """Paired-free: one modality alone, a fresh permutation of its rows every epoch.

    Batches hold ``x`` ``(B, D)``, ``y`` ``(B, C)``, and one int64 permutation of ``0..B-1`` per name in
    ``shuffles`` (for losses that mix or pair rows inside the batch). For every name in ``labels`` they also
    hold as many label rows ``(B, C)``, served by a permutation of the modality's rows of their own.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        batch: int,
        *,
        keep_remainder: bool = False,
        shuffles: tuple[str, ...] = (),
        labels: tuple[str, ...] = (),
    ) -> None:
        self.x, self.y, self.shuffles, self.labels = x, y, shuffles, labels
        self._sizes = batch_sizes(len(x), batch, keep_remainder)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch size of every step."""
        return self._sizes

    def draw(self, generator: torch.Generator) -> Batch:
        """Row numbers and in-batch permutations of one epoch."""
        drawn = {"rows": torch.randperm(len(self.x), generator=generator)[: sum(self._sizes)]}
        for name in self.shuffles:
            drawn[name] = torch.cat([torch.randperm(size, generator=generator) for size in self._sizes])
        for name in self.labels:
            drawn[name] = torch.randperm(len(self.x), generator=generator)[: sum(self._sizes)]
        return drawn

    def gather(self, drawn: Batch) -> Batch:
        """Features, labels, permutations and further label rows of one step."""
        rows = drawn["rows"]
        extra = {name: drawn[name] for name in self.shuffles}
        extra |= {name: take(self.y, drawn[name]) for name in self.labels}
        return {"x": take(self.x, rows), "y": take(self.y, rows), **extra}
