"""Two runs on the same queries: is one better, query by query?

Average precision varies far more between queries than between methods. Taking the difference per query
removes what makes a query easy or hard for both. A query's value is its mean over the run's seeds; intervals
and p values say how the mean difference varies with the queries, for the models that were trained, not what
other seeds would give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from benchmark.errors import BenchmarkError
from benchmark.stats.intervals import holm

RESAMPLES = 10_000
CELLS = 1 << 21
"""Resampled queries drawn at once: bounds the memory to some 50 MB."""


@dataclass(frozen=True)
class Paired:
    """Run ``a`` minus run ``b`` over the same queries.

    Attributes:
        a, b: Names of the runs.
        difference: Mean over queries.
        low, high: Bootstrap interval of the mean difference (percentiles).
        p: Wilcoxon signed-rank test, two-sided; 1 if no query differs.
        p_holm: ``p`` corrected for its family; ``None`` until :func:`correct` was called.
        queries: How many.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float | None
    queries: int


def compare_pairs(
    runs: Mapping[str, ArrayLike],
    pairs: Sequence[tuple[str, str]] | None = None,
) -> list[Paired]:
    """Compare runs on the same queries, two by two.

    All pairs see the same resampled queries, which are drawn once: many pairs cost little more than one.

    Args:
        runs: Per run ``(seeds, queries)`` average precision, as stored under ``ap/``. The numbers of seeds
            may differ, the queries must be the same in the same order (:mod:`benchmark.records.comparable`).
        pairs: Names of the runs to compare; every two if not given.

    Raises:
        BenchmarkError: Different numbers of queries.
        ValueError: An array of another shape, or values that are not finite.
    """
    pairs = list(combinations(runs, 2)) if pairs is None else list(pairs)
    if not pairs:
        return []
    values = {name: _per_query(name, array) for name, array in runs.items()}
    sizes = {name: len(each) for name, each in values.items()}
    for name, size in sizes.items():
        if size != next(iter(sizes.values())):
            first = next(iter(sizes))
            raise BenchmarkError(
                f"{first} has {sizes[first]} queries, {name} has {size}; they must be the same queries"
            )
    differences = np.stack([values[a] - values[b] for a, b in pairs])
    ends = bootstrap(differences)
    return [
        Paired(a, b, float(row.mean()), float(low), float(high), signed_rank(row), None, differences.shape[1])
        for (a, b), row, (low, high) in zip(pairs, differences, ends, strict=True)
    ]


def correct(family: Sequence[Paired]) -> list[Paired]:
    """The comparisons with ``p_holm``: all that are looked at together belong into one family."""
    return [replace(each, p_holm=p) for each, p in zip(family, holm([f.p for f in family]), strict=True)]


def signed_rank(differences: ArrayLike) -> float:
    """Two-sided p value of Wilcoxon's signed-rank test; zeros are left out, 1 if nothing else is there.

    Args:
        differences: ``(queries,)``.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    return float(stats.wilcoxon(values).pvalue) if len(values) else 1.0


def bootstrap(
    values: NDArray[np.float64], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Percentile bootstrap of row means; columns are resampled together.

    Args:
        values: ``(k, n)`` float64.
        level: Coverage.
        resamples: How many samples of ``n`` columns with replacement.
        seed: Same seed, same interval; it does not depend on how many rows there are.

    Returns:
        ``(k, 2)`` float64, ends of the interval of every row's mean.

    Raises:
        ValueError: No column, no resample, or an impossible level.
    """
    rows, count = values.shape
    if not count or resamples < 1 or not 0 < level < 1:
        raise ValueError(f"cannot resample {count} columns {resamples} times for level {level}")
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, rows))
    at_once = max(1, CELLS // count)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = rng.integers(count, size=(size, count))
        drawn += np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        means[start : start + size] = times.astype(np.float64) @ values.T / count
    tail = (1 - level) / 2
    ends: NDArray[np.float64] = np.quantile(means, [tail, 1 - tail], axis=0).T
    return ends


def _per_query(name: str, array: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(array, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite average precisions (seeds, queries), got {values.shape}")
    mean: NDArray[np.float64] = values.mean(axis=0)
    return mean
