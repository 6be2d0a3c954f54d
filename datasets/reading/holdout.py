"""Validation rows out of training rows, for data without a validation part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import Modality, Split
from benchmark.errors import DataError


def hold_out(train: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Divide a training split into training and validation.

    Per class, the share of items (rounded, at least one if there are two) goes to validation. An item is a
    row, or all rows of paired modalities with the same pair id, which stay together.

    Args:
        train: The split to divide; row order is kept.
        share: Between 0 and 1.
        seed: Decides which items.

    Returns:
        The smaller training split and the validation split.

    Raises:
        DataError: Too few rows to hold any out.
    """
    paired = [m for m in train if m.pair_ids is not None]
    chosen: NDArray[np.int64] = np.empty(0, np.int64)
    if paired:
        ids = np.concatenate([m.pair_ids for m in paired if m.pair_ids is not None])
        items, first = np.unique(ids, return_index=True)
        labels = np.concatenate([_strata(m) for m in paired])[first]
        chosen = items[_choose(labels, share, seed)]
    kept, held = {}, {}
    for m in train:
        rows = np.isin(m.pair_ids, chosen) if m.pair_ids is not None else _choose(_strata(m), share, seed)
        if not rows.any() or rows.all():
            raise DataError(f"{m.name}: {len(m)} training rows are too few to hold out a share of {share:g}")
        kept[m.name], held[m.name] = m.take(np.flatnonzero(~rows)), m.take(np.flatnonzero(rows))
    return replace(train, modalities=kept), replace(train, name="val", modalities=held)


def _strata(m: Modality) -> NDArray[np.int64]:
    """One class per row; the first of several."""
    return m.labels.argmax(axis=1) if m.labels.ndim == 2 else m.labels.astype(np.int64)


def _choose(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Mask of the items held out."""
    order = np.lexsort((np.random.default_rng(seed).permutation(len(labels)), labels))
    sizes = np.bincount(labels)
    counts = np.where(sizes > 1, np.clip(np.rint(share * sizes), 1, np.maximum(sizes - 1, 1)), 0)
    turn = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    mask = np.zeros(len(labels), bool)
    mask[order] = turn < counts[labels[order]]
    return mask
