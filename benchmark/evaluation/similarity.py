"""Scores of all pairs of two sets of items, readable by blocks of rows of either side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isqrt

import numpy as np
import torch
from torch import Tensor

from benchmark.errors import DataError

Similarity = Tensor | Callable[[slice], Tensor]
Source = Callable[[int, slice], Tensor]  # (side, rows) -> scores of these rows of a (0) or of b (1)


def cosine(x: Tensor, y: Tensor, room: int) -> Source:
    """Cosine of unit rows ``(n_a, d)`` and ``(n_b, d)``: stored if ``room`` bytes suffice, else per block."""
    if x.shape[1] != y.shape[1]:
        raise DataError(f"embeddings of {x.shape[1]} and of {y.shape[1]} columns cannot be compared")
    if 4 * len(x) * len(y) <= room:
        return stored(product(x, y))
    return lambda side, rows: product(x[rows], y) if side == 0 else product(y[rows], x)


def stored(matrix: Tensor) -> Source:
    """Blocks of a matrix of all scores ``(n_a, n_b)``."""
    return lambda side, rows: matrix[rows] if side == 0 else matrix[:, rows].T


def collect(
    similarity: Callable[[slice], Tensor], shape: tuple[int, int], room: int, place: torch.device
) -> Tensor:
    """All scores of a function, in memory or, where they do not fit, in a file that vanishes with them."""
    if 4 * shape[0] * shape[1] <= room:
        matrix = torch.empty(shape, device=place)
    else:
        with tempfile.TemporaryFile() as file:
            matrix = torch.from_numpy(np.memmap(file, np.float32, "w+", shape=shape))
    step = max(1, room // (8 * shape[1]))
    for start in range(0, shape[0], step):
        rows = slice(start, min(start + step, shape[0]))
        block = similarity(rows).detach()
        if block.shape != matrix[rows].shape:
            expected = tuple(matrix[rows].shape)
            raise DataError(
                f"the similarity of rows {start}..{rows.stop - 1} is {tuple(block.shape)}, not {expected}"
            )
        matrix[rows] = block.to(matrix.device, torch.float32)
    return matrix


def score_in_chunks(
    score: Callable[[Tensor, Tensor], Tensor], queries: Tensor, items: Tensor, pairs: int = 65536
) -> Tensor:
    """Scores of all pairs by a function of two blocks of rows, for models that look at every pair.

    Blocks are as square as the numbers of rows allow, so that what the function computes per row is repeated
    least often. At any moment one block is worked on: memory is that of the result and of one call.

    Args:
        score: From ``(a, ...)`` queries and ``(b, ...)`` items to their ``(a, b)`` scores; a pair's score
            must not depend on the others of its block.
        queries: ``(n_q, ...)`` rows of features, or of anything computed from them.
        items: ``(n_d, ...)`` rows.
        pairs: Most pairs a * b of one call; at least 1.

    Returns:
        ``(n_q, n_d)`` float32 where the queries are, without gradient.

    Raises:
        DataError: A block of another shape.
    """
    whole = torch.empty(len(queries), len(items), device=queries.device)
    side = max(1, min(len(queries), isqrt(pairs)))
    across = max(1, min(len(items), pairs // side))
    side = max(1, pairs // across)
    with torch.no_grad():
        for top in range(0, len(queries), side):
            rows = queries[top : top + side]
            for left in range(0, len(items), across):
                columns = items[left : left + across]
                block = score(rows, columns)
                if block.shape != (len(rows), len(columns)):
                    raise DataError(
                        f"the scores of {len(rows)} queries and {len(columns)} items have shape "
                        f"{tuple(block.shape)}"
                    )
                whole[top : top + side, left : left + across] = block
    return whole


def unit_rows(x: Tensor, rows: int, place: torch.device) -> Tensor:
    """Rows of length 1 in float32, zero rows left as they are."""
    if x.ndim != 2 or len(x) != rows or not x.shape[1]:
        raise DataError(
            f"embeddings of shape {tuple(x.shape)} do not fit {rows} labels; expected ({rows}, d)"
        )
    x = x.detach().to(place)
    x = x if x.dtype == torch.float64 else x.float()
    largest = torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True)
    if not torch.isfinite(largest).all():
        row = int((~torch.isfinite(largest[:, 0])).nonzero()[0])
        raise DataError(f"an embedding is not finite (row {row}); check the model or file it comes from")
    # dividing by the largest entry first keeps squares of very small and very large entries in range
    x = (x / torch.where(largest > 0, largest, 1)).float()
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x.div_(torch.where(length > 0, length, 1))


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """No shortcuts in matrix products, whatever training has allowed (tf32, bf16, autocast)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def product(x: Tensor, y: Tensor) -> Tensor:
    """``x @ y.T`` in true float32."""
    with _full_precision(x.device):
        return x @ y.T


def check_finite(scores: Tensor) -> None:
    """Raise ``DataError`` if a score is NaN or infinite."""
    low, high = scores.aminmax()
    if not (torch.isfinite(low) & torch.isfinite(high)):
        raise DataError("a similarity is not finite; every pair needs a number to be ranked by")
