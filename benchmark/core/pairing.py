"""Row alignment: which rows of several modalities stand side by side.

Only some modalities of a dataset are paired by nature (an image and its caption share a pair id). A method
that needs tuples gets an index table ``{modality: (n,) int64 rows}``: joint row ``t`` is row ``table[m][t]``
of every modality ``m``. Pairs are found by their ids, never by position. Rows of a paired modality whose
partner is absent belong to no item and appear in no table.

Plain numpy; all randomness comes from the seeds handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import Modality, Split
from benchmark.errors import DataError, UnsupportedError

Rows = dict[str, NDArray[np.int64]]
SeedOf = Callable[[str], int]


@dataclass(frozen=True)
class Unit:
    """Modalities whose rows belong together: position ``i`` of every entry of ``rows`` is one item.

    Attributes:
        rows: ``{modality: (size,) int64}``; one entry for an unpaired modality.
    """

    rows: Rows

    @property
    def size(self) -> int:
        """Number of items."""
        return len(next(iter(self.rows.values())))

    @property
    def paired(self) -> bool:
        """Whether several modalities show the same items."""
        return len(self.rows) > 1

    @property
    def name(self) -> str:
        """Modality name, or the names joined by ``+``."""
        return "+".join(self.rows)

    def take(self, items: NDArray[np.int64]) -> Rows:
        """Rows of the given items, in the given order."""
        return {name: rows[items] for name, rows in self.rows.items()}


def partners(first: Modality, second: Modality) -> NDArray[np.int64]:
    """Per row of ``first`` the row of ``second`` that shows the same item, -1 for none: ``(len(first),)``."""
    rows = np.full(len(first), -1, np.int64)
    if first.pair_ids is not None and second.pair_ids is not None:
        _, here, there = np.intersect1d(first.pair_ids, second.pair_ids, return_indices=True)
        rows[here] = there
    return rows


def units(split: Split) -> tuple[Unit, ...]:
    """The paired groups and the unpaired modalities of a split, in canonical order.

    A modality joins the first group with which it shares a pair id; a group's items are the ids that all
    its members have, in the row order of its first member.
    """
    groups: list[tuple[list[str], NDArray[np.int64] | None]] = []
    for modality in split:
        ids = modality.pair_ids
        for at, (names, common) in enumerate(groups):
            if ids is not None and common is not None and (shared := np.isin(common, ids)).any():
                groups[at] = ([*names, modality.name], common[shared])
                break
        else:
            groups.append(([modality.name], ids))
    return tuple(_unit(split, names, common) for names, common in groups)


def _unit(split: Split, names: list[str], common: NDArray[np.int64] | None) -> Unit:
    if len(names) == 1 or common is None:
        return Unit({name: np.arange(len(split[name])) for name in names})
    rows: Rows = {}
    for name in names:
        ids = np.asarray(split[name].pair_ids)
        order = np.argsort(ids)
        rows[name] = order[np.searchsorted(ids, common, sorter=order)]
    return Unit(rows)


def left_out(split: Split) -> dict[str, int]:
    """Rows per modality that appear in no table because their partner is absent; only where there are any."""
    missing = {m: len(split[m]) - len(rows) for unit in units(split) for m, rows in unit.rows.items()}
    return {name: count for name, count in missing.items() if count}


def cycle_rows(split: Split, seed_of: SeedOf) -> Rows:
    """As many joint rows as the largest modality has; smaller ones start over, regardless of class.

    Paired groups keep their order. Every unpaired modality is permuted first, because files are often
    stored in class order, and matching such files by position would pair the classes.

    Args:
        split: The data.
        seed_of: Seed of the permutation of the modality of this name.
    """
    parts = units(split)
    position = np.arange(max(unit.size for unit in parts))
    table: Rows = {}
    for unit in parts:
        order = np.arange(unit.size) if unit.paired else _order(unit, seed_of)
        table |= unit.take(order[position % unit.size])
    return _canonical(split, table)


def class_rows(split: Split, seed: int) -> Rows:
    """Joint rows of equal class, by repeated sampling: one epoch of a method that needs tuples.

    Every item of the largest unit (paired group or modality) appears once and in its order; every other
    unit contributes items of the same class, each used equally often up to one. Native pairs stay together.
    Classes that some modality lacks are left out. Data that are paired throughout are returned as they are.

    Args:
        split: Single-label data.
        seed: Another seed gives another matching; use one per epoch for fresh tuples.

    Raises:
        UnsupportedError: Rows would have to be matched by class, but they have several labels.
        DataError: No class occurs in all modalities.
    """
    parts = units(split)
    largest = max(parts, key=lambda unit: unit.size)
    if len(parts) == 1:
        return _canonical(split, largest.rows)
    if split.label_form == "multi":
        raise UnsupportedError(
            "pairing by class needs one label per item; these items have several and are not all paired"
        )
    labels = {unit.name: _item_labels(split, unit) for unit in parts}
    counts = np.stack([np.bincount(y, minlength=split.classes) for y in labels.values()])
    shared = counts.min(axis=0) > 0
    if not shared.any():
        raise DataError(
            f"{split.name}: no class occurs in all of {', '.join(split.names)}; cannot pair by class"
        )
    anchors = np.flatnonzero(shared[labels[largest.name]])
    wanted = labels[largest.name][anchors]
    generator = np.random.default_rng(seed)
    table = largest.take(anchors)
    for unit in parts:
        if unit is not largest:
            table |= unit.take(_draw_by_class(labels[unit.name], wanted, generator))
    return _canonical(split, table)


def _draw_by_class(
    labels: NDArray[np.int64], wanted: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """For every wanted class one position with that label; shuffled rounds over the class's positions."""
    drawn = np.empty(len(wanted), np.int64)
    for number in np.unique(wanted):
        items, places = np.flatnonzero(labels == number), np.flatnonzero(wanted == number)
        rounds = -(-len(places) // len(items))
        drawn[places] = generator.permuted(np.tile(items, (rounds, 1)), axis=1).ravel()[: len(places)]
    return drawn


def _item_labels(split: Split, unit: Unit) -> NDArray[np.int64]:
    name, rows = next(iter(unit.rows.items()))
    return np.asarray(split[name].labels[rows], np.int64)


def _order(unit: Unit, seed_of: SeedOf) -> NDArray[np.int64]:
    return np.random.default_rng(seed_of(unit.name)).permutation(unit.size)


def _canonical(split: Split, table: Rows) -> Rows:
    return {name: table[name] for name in split.names}
