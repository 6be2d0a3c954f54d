"""How training samples are served.

A sampler draws row numbers on the CPU, one epoch and one replica at a time, and turns the row numbers of a
step into a batch on the device by indexing features that live there already. Drawing on the CPU from one
generator per replica makes a replica's data independent of the device and of its company.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmark.core.data import Split
from benchmark.core.method import RunContext
from benchmark.core.pairing import class_rows

Drawn = dict[str, Tensor]
"""Row numbers and other random numbers by name, of an epoch or of a step."""


class Batch(NamedTuple):
    """What a loss gets in one step.

    Attributes:
        x: Per modality features ``(B, D)``.
        y: Per modality label rows ``(B, C)``.
        row: Per modality row numbers ``(B,)`` in the training split.
        extra: What else was drawn: in-batch permutations, further label rows, ``key``.
        now: Constants of the phase, and the scalars of epoch and step.
    """

    x: dict[str, Tensor]
    y: dict[str, Tensor]
    row: dict[str, Tensor]
    extra: dict[str, Tensor]
    now: dict[str, Tensor] = {}  # noqa: RUF012 - never written to

    @property
    def alone(self) -> tuple[Tensor, Tensor]:
        """Features and label rows of the one modality that is served."""
        [x], [y] = self.x.values(), self.y.values()
        return x, y


class Sampler(Protocol):
    """Serves the batches of one phase."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch size of every step of an epoch; the same in every epoch."""

    def draw(self, generator: torch.Generator) -> Drawn:
        """One epoch of one replica: named int64 CPU tensors of length ``sum(sizes)``, step after step."""

    def gather(self, drawn: Drawn) -> Batch:
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

    A batch's ``extra`` holds one int64 permutation of ``0..B-1`` per name in ``shuffles`` (for losses that
    mix or pair rows inside the batch), and for every name in ``labels`` as many label rows ``(B, C)``, served
    by a permutation of the modality's rows of their own; ``keyed``, also a ``key`` per row like that of
    :class:`TupleSampler`.

    Args:
        x: Features ``(n, D)``.
        y: Label rows ``(n, C)``.
        batch: Batch size; fewer rows are served whole.
        name: Of the modality.
        keep_remainder: Whether the last, smaller batch of an epoch is served.
        shuffles, labels: Names of further entries.
        keyed: Whether a loss derives noise from keys.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        batch: int,
        *,
        name: str = "x",
        keep_remainder: bool = False,
        shuffles: tuple[str, ...] = (),
        labels: tuple[str, ...] = (),
        keyed: bool = False,
    ) -> None:
        self.x, self.y, self.name, self.shuffles, self.labels = x, y, name, shuffles, labels
        self.keys = ("key",) if keyed else ()
        self._sizes = batch_sizes(len(x), batch, keep_remainder)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch size of every step."""
        return self._sizes

    def draw(self, generator: torch.Generator) -> Drawn:
        """Row numbers and in-batch permutations of one epoch."""
        drawn = {"rows": torch.randperm(len(self.x), generator=generator)[: sum(self._sizes)]}
        for name in self.shuffles:
            drawn[name] = torch.cat([torch.randperm(size, generator=generator) for size in self._sizes])
        for name in self.labels:
            drawn[name] = torch.randperm(len(self.x), generator=generator)[: sum(self._sizes)]
        for name in self.keys:
            drawn[name] = torch.randint(2**62, (sum(self._sizes),), generator=generator)
        return drawn

    def gather(self, drawn: Drawn) -> Batch:
        """Features, labels, permutations and further label rows of one step."""
        rows = drawn["rows"]
        extra = {name: drawn[name] for name in (*self.shuffles, *self.keys)}
        extra |= {name: take(self.y, drawn[name]) for name in self.labels}
        return Batch(
            {self.name: take(self.x, rows)}, {self.name: take(self.y, rows)}, {self.name: rows}, extra
        )


class JointSampler:
    """What samplers of all modalities have in common; rows of a modality are drawn as ``row/<name>``."""

    def __init__(self, split: Split, run: RunContext, sizes: tuple[int, ...]) -> None:
        self.features = {m.name: run.tensor(m.features) for m in split}
        self.labels = {m.name: run.tensor(split.label_matrix(m.name)) for m in split}
        self._sizes = sizes

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch size of every step."""
        return self._sizes

    def gather(self, drawn: Drawn) -> Batch:
        """What was drawn for one step, with features and labels."""
        row = {name: drawn[f"row/{name}"] for name in self.features}
        x = {name: take(each, row[name]) for name, each in self.features.items()}
        y = {name: take(each, row[name]) for name, each in self.labels.items()}
        return Batch(x, y, row, {name: each for name, each in drawn.items() if not name.startswith("row/")})


class TupleSampler(JointSampler):
    """Paired: one row of every modality per tuple, all of the same class.

    Rows that are paired by nature stay together. Where modalities are not paired, the smaller ones are
    sampled repeatedly within the class (:func:`~benchmark.core.pairing.class_rows`), anew in every epoch and
    for every replica; an epoch serves every item of the largest paired group or modality once.

    A batch's ``extra`` holds ``key``, a random int64 per tuple and epoch from which a loss derives noise that
    does not depend on the device or on other replicas (``uniform`` of the blocks). Labels of one tuple differ
    only where training labels are noisy.

    Args:
        split: Training data.
        run: Gives device and type.
        batch: Batch size; data with fewer tuples are served whole.
        keep_remainder: Whether the last, smaller batch of an epoch is served (never one of a single tuple,
            which batch statistics cannot be taken of).
        shuffle: Whether tuples are served in a fresh order every epoch, or in the order of the files.

    Raises:
        UnsupportedError: Rows would have to be matched by class, but have several labels.
        DataError: No class occurs in all modalities.
    """

    def __init__(
        self, split: Split, run: RunContext, batch: int, *, keep_remainder: bool = True, shuffle: bool = True
    ) -> None:
        self.split, self.shuffle = split, shuffle
        self.tuples = len(next(iter(class_rows(split, 0).values())))
        sizes = batch_sizes(self.tuples, batch, keep_remainder)
        super().__init__(split, run, sizes[:-1] if len(sizes) > 1 and sizes[-1] == 1 else sizes)

    def draw(self, generator: torch.Generator) -> Drawn:
        """Tuples of one epoch, as row numbers per modality."""
        table = class_rows(self.split, int(torch.randint(2**62, (), generator=generator)))
        key = torch.randint(2**62, (self.tuples,), generator=generator)
        order = torch.arange(self.tuples)
        if self.shuffle:
            order = torch.randperm(self.tuples, generator=generator)
        served = order[: sum(self._sizes)]
        rows = {f"row/{name}": torch.from_numpy(np.ascontiguousarray(r))[served] for name, r in table.items()}
        return {**rows, "key": key[: len(served)]}


class IndependentSampler(JointSampler):
    """Joint but unpaired: every step serves a batch of every modality, drawn from that modality alone.

    An epoch has as many steps as the smallest modality fills; larger ones are cut off for that epoch, at
    another place every time.

    Args:
        split: Training data.
        run: Gives device and type.
        batch: Batch size of every modality.
        keyed: Whether a batch's ``extra`` holds a ``key`` per place in it, like that of ``TupleSampler``; of
            several modalities each takes a stream of its own.
    """

    def __init__(self, split: Split, run: RunContext, batch: int, *, keyed: bool = False) -> None:
        self.keyed = keyed
        super().__init__(split, run, batch_sizes(min(map(len, split)), batch, keep_remainder=True))

    def draw(self, generator: torch.Generator) -> Drawn:
        """Row numbers of one epoch."""
        served = sum(self._sizes)
        drawn = {
            f"row/{name}": torch.randperm(len(x), generator=generator)[:served]
            for name, x in self.features.items()
        }
        if self.keyed:
            drawn["key"] = torch.randint(2**62, (served,), generator=generator)
        return drawn
