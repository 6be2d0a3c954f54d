"""Labels as files hold them, to class numbers 0..C-1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.arrays import Value
from benchmark.errors import DataError

LARGEST = 1 << 62
"""Bound for class numbers."""


def one_per_row(value: Value, rows: int, where: str) -> NDArray[Any]:
    """One label per row from a row, a column, a vector, a cell array of strings, or a one-hot matrix.

    Args:
        value: As read from a file.
        rows: Number of feature rows.
        where: What to name in a message.

    Returns:
        ``(rows,)`` int64 or strings, values as they are in the file.

    Raises:
        DataError: Another number of labels, several labels in a row, or values that are not whole numbers.
    """
    if isinstance(value, list):
        value = np.array(
            [np.asarray(element).ravel()[0] if np.size(element) == 1 else "" for element in value]
        )
    array = np.asarray(value)
    if array.size != rows and array.ndim == 2 and rows in array.shape:
        array = _from_one_hot(array if len(array) == rows else array.T, where)
    if array.size != rows:
        raise DataError(f"{where}: {rows} feature rows but labels of shape {array.shape}")
    array = array.ravel()
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: a label is no UTF-8 text: {error}") from None
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind not in "iufb":
        raise DataError(f"{where}: labels are of type {array.dtype}, expected whole numbers or strings")
    if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.round(array))).all():
        wrong = array[~(np.isfinite(array) & (array == np.round(array)))][0]
        raise DataError(f"{where}: labels must be whole numbers, found {wrong}")
    if array.size and not -LARGEST < array.min() <= array.max() < LARGEST:
        raise DataError(f"{where}: labels from {array.min()} to {array.max()}; no class has such a number")
    return array.astype(np.int64)


def _from_one_hot(matrix: NDArray[Any], where: str) -> NDArray[np.int64]:
    if not np.isin(matrix, (0, 1)).all():
        raise DataError(f"{where}: a label matrix must hold 0 and 1 only, shape {matrix.shape}")
    counts = matrix.sum(axis=1)
    if (counts != 1).any():
        row = int(np.argmax(counts != 1))
        raise DataError(
            f"{where}: row {row} has {int(counts[row])} labels; this dataset needs exactly one per row"
        )
    return np.asarray(matrix.argmax(axis=1), np.int64)


def multi_hot(value: Value, rows: int, where: str) -> NDArray[np.uint8]:
    """``(rows, C)`` uint8 of 0 and 1.

    Raises:
        DataError: Not such a matrix.
    """
    array = np.asarray(value) if not isinstance(value, list) else np.empty(0)
    if array.ndim != 2 or rows not in array.shape:
        raise DataError(f"{where}: multi-label data need {rows} rows of 0 and 1, got shape {array.shape}")
    array = array if len(array) == rows else array.T
    if not np.isin(array, (0, 1)).all():
        raise DataError(f"{where}: multi-label rows must hold 0 and 1 only")
    return array.astype(np.uint8)


def distinct(parts: Iterable[NDArray[Any]], where: str) -> NDArray[Any]:
    """Sorted distinct values of several label vectors.

    Raises:
        DataError: Some are numbers and some strings.
    """
    parts = list(parts)
    if len({part.dtype.kind for part in parts}) != 1:
        raise DataError(f"{where}: some labels are numbers and some are strings")
    return np.unique(np.concatenate(parts))


def encode(labels: NDArray[Any], values: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Position of every label in the sorted distinct training values.

    Raises:
        DataError: A value that is not among them.
    """
    if labels.dtype.kind != values.dtype.kind:
        raise DataError(f"{where}: labels are {labels.dtype}, the training labels {values.dtype}")
    position = np.minimum(np.searchsorted(values, labels), len(values) - 1)
    if (wrong := values[position] != labels).any():
        row = int(np.argmax(wrong))
        span = f"{values[0]}..{values[-1]}, {len(values)} distinct"
        raise DataError(f"{where}: label {labels[row]} (row {row}) does not occur in training ({span})")
    return position.astype(np.int64)
