"""Fewer rows of a split, balanced over classes, pairs kept together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import Modality, Split


def subsample(split: Split, rows: int, seed: int = 0) -> Split:
    """At most ``rows`` rows per modality, balanced over classes as far as they reach; pairs stay together.

    Classes are served in turn (every class keeps at least one row, even if that exceeds ``rows``), the
    order inside a class is a seeded permutation shared by paired modalities. Row order is kept.
    """
    return take_rows(split, kept_rows(split, rows, seed))


def kept_rows(split: Split, rows: int, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    """The rows of every modality that :func:`subsample` keeps, in ascending order."""
    kept: dict[str, NDArray[np.int64]] = {}
    items = np.unique(np.concatenate([_item_ids(m) for m in split]))
    ranks = np.random.default_rng(seed).permutation(len(items))
    for modality in split:
        if len(modality) <= rows:
            kept[modality.name] = np.arange(len(modality))
            continue
        keys = ranks[np.searchsorted(items, _item_ids(modality))]
        labels = modality.labels if modality.labels.ndim == 1 else modality.labels.argmax(axis=1)
        order = np.lexsort((keys, labels))
        starts = np.searchsorted(labels[order], labels[order])  # first position of the row's class
        turn = np.arange(len(order)) - starts
        served = np.lexsort((keys[order], turn))
        count = max(rows, int((turn == 0).sum()))
        kept[modality.name] = np.sort(order[served[:count]])
    return kept


def take_rows(split: Split, rows: Mapping[str, NDArray[np.int64]]) -> Split:
    """The given rows of every modality; one of which all are taken is not copied."""
    whole = {m.name: len(rows[m.name]) == len(m) for m in split}
    return replace(split, modalities={m.name: m if whole[m.name] else m.take(rows[m.name]) for m in split})


def _item_ids(m: Modality) -> NDArray[np.int64]:
    return np.arange(len(m)) if m.pair_ids is None else m.pair_ids
