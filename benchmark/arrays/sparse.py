"""Sparse matrices to dense ones. scipy does that in compiled code that believes every index."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 1 << 31
"""Values of a dense matrix; the dimensions of a sparse one cost nothing in a file."""


def entries(where: NDArray[Any], starts: NDArray[Any], rows: int, columns: int) -> int:
    """How many entries a matrix has whose columns begin at ``starts`` in the row numbers ``where``.

    Raises:
        ValueError: An index is outside of the matrix, or the dense matrix outside of what can be read.
    """
    if min(rows, columns) < 0 or rows * columns > MOST:
        raise ValueError(f"a sparse matrix of {rows} x {columns} values")
    used = int(starts[-1]) if len(starts) == columns + 1 else -1
    if used < 0 or starts[0] != 0 or (starts[1:] < starts[:-1]).any() or used > len(where):
        raise ValueError("the columns of a sparse matrix are not where it says")
    if used and not 0 <= where[:used].min() <= where[:used].max() < rows:
        raise ValueError("a sparse matrix has entries in rows that it does not have")
    return used


def dense(data: NDArray[Any], where: NDArray[Any], starts: NDArray[Any], rows: int) -> NDArray[Any]:
    """The dense matrix.

    Raises:
        ValueError: As :func:`entries`, or the values are fewer.
    """
    from scipy.sparse import csc_array

    used = entries(where, starts, rows, len(starts) - 1)
    if not data.ndim == where.ndim == starts.ndim == 1 or len(data) < used:
        raise ValueError(f"{data.size} values of a sparse matrix of {used}")
    return np.asarray(csc_array((data, where, starts), (rows, len(starts) - 1)).toarray())
