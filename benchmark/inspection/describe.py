"""What is inside a dataset, in numbers: shapes, classes, value ranges, sparsity, copies and problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import Modality, MultimodalData, Split

BLOCK = 2048
"""Rows looked at together, so that the float64 statistics of a large matrix need little memory."""


def describe(data: MultimodalData) -> dict[str, Any]:
    """Describe a dataset.

    Args:
        data: Any dataset.

    Returns:
        JSON-ready: ``name``, ``source``, ``version``, ``label_form``, ``classes``, ``class_names``,
        ``modalities``, ``notes``, ``splits`` (per split and modality: see ``_modality``) and ``problems``,
        one line each. Problems do not keep data from being used; what does is refused when loading.
    """
    splits = {split.name: {m.name: _modality(m, split) for m in split} for split in data.splits}
    return {
        "name": data.name,
        "source": data.source,
        "version": data.version,
        "label_form": data.label_form,
        "classes": data.classes,
        "class_names": list(data.class_names),
        "modalities": list(data.modalities),
        "notes": list(data.notes),
        "splits": splits,
        "problems": _problems(data, splits),
    }


def _modality(m: Modality, split: Split) -> dict[str, Any]:
    """Facts of one modality in one split.

    Returns:
        ``rows``, ``columns``, ``paired`` (rows with a pair id), ``class_counts``, ``min``, ``max``, ``mean``,
        ``std``, ``zeros`` (fraction), ``row_norm`` (mean), ``constant_columns``, ``copies`` (rows equal to an
        earlier one) and ``copies_other_label`` (those whose label differs from the earlier row's).
    """
    copies, disagreeing = _copies(m)
    counts = m.labels.sum(axis=0) if m.labels.ndim == 2 else np.bincount(m.labels, minlength=split.classes)
    return {
        "rows": len(m),
        "columns": m.dim,
        "paired": 0 if m.pair_ids is None else len(m.pair_ids),
        "class_counts": [int(count) for count in counts],
        **_values(m.features),
        "copies": copies,
        "copies_other_label": disagreeing,
    }


def _blocks(x: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
    return (x[start : start + BLOCK].astype(np.float64) for start in range(0, len(x), BLOCK))


def _values(x: NDArray[np.float32]) -> dict[str, Any]:
    """Range, moments, sparsity, norm and constant columns of a matrix."""
    mean = float(x.mean(dtype=np.float64))
    squares, norms = 0.0, 0.0
    for block in _blocks(x):
        squares += float(((block - mean) ** 2).sum())
        norms += float(np.sqrt((block**2).sum(axis=1)).sum())
    return {
        "min": float(x.min()),
        "max": float(x.max()),
        "mean": mean,
        "std": (squares / x.size) ** 0.5,
        "zeros": 1 - float(np.count_nonzero(x)) / x.size,
        "row_norm": norms / len(x),
        "constant_columns": int((x.max(axis=0) == x.min(axis=0)).sum()),
    }


def _keys(x: NDArray[np.float32]) -> NDArray[np.void]:
    """One comparable item per row, equal for rows of equal bytes."""
    rows = np.ascontiguousarray(x)
    keys: NDArray[np.void] = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    return keys


def _copies(m: Modality) -> tuple[int, int]:
    """Rows equal to an earlier row, and how many of them have another label than the first of their kind."""
    _, first, group = np.unique(_keys(m.features), return_index=True, return_inverse=True)
    earlier = first[group.ravel()]
    copy = earlier != np.arange(len(m))
    other = m.labels != m.labels[earlier]
    return int(copy.sum()), int((copy & (other.any(axis=1) if other.ndim == 2 else other)).sum())


def _problems(data: MultimodalData, splits: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    found = []
    for split, modalities in splits.items():
        for m, facts in modalities.items():
            where = f"{split}/{m}"
            if absent := facts["class_counts"].count(0):
                found.append(f"{where}: {absent} of {data.classes} classes have no row")
            if facts["copies"]:
                other = facts["copies_other_label"]
                labels = f", {other} of them with another label" if other else ""
                found.append(f"{where}: {facts['copies']} rows are exact copies of earlier rows{labels}")
            if split == "train" and facts["constant_columns"]:
                found.append(f"{where}: {facts['constant_columns']} columns are constant")
    for m in data.modalities:
        known = np.unique(_keys(data.train[m].features))
        for later in (data.val, data.test):
            if shared := int(np.isin(_keys(later[m].features), known).sum()):
                found.append(f"{later.name}/{m}: {shared} rows are exact copies of training rows")
    return found + _scales(splits["train"])


def _scales(train: dict[str, dict[str, Any]]) -> list[str]:
    """Modalities whose values are on another scale than the rest."""
    spread = {m: facts["std"] for m, facts in train.items() if facts["std"] > 0}
    if spread and max(spread.values()) > 1000 * min(spread.values()):
        low, high = min(spread, key=spread.__getitem__), max(spread, key=spread.__getitem__)
        return [
            f"{low} varies {spread[high] / spread[low]:.0f} times less than {high}; consider standardizing"
        ]
    return []
