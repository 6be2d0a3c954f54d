"""Methods by their average rank over blocks (dataset and direction), after Demšar (JMLR 7, 2006).

The tests take blocks as independent. Directions of one dataset share items and trained models, so with
several of them per dataset the tests are too ready to see differences; a report should say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from benchmark.errors import BenchmarkError


@dataclass(frozen=True)
class Ranking:
    """Average ranks and what differs.

    Attributes:
        methods: Names, best average rank first; ties in the order given.
        average: Their average ranks, 1 is best.
        blocks: Over how many blocks.
        statistic: Friedman's chi square with ``len(methods) - 1`` degrees of freedom, corrected for ties.
        p: Its p value: small says that not all methods are equal.
        critical_difference: Nemenyi: average ranks this far apart or farther differ.
        alpha: Level of the critical difference.
        groups: Methods that do not differ significantly, largest groups only, each in the order of
            ``methods``; what a critical-difference diagram joins with a bar.
    """

    methods: tuple[str, ...]
    average: tuple[float, ...]
    blocks: int
    statistic: float
    p: float
    critical_difference: float
    alpha: float
    groups: tuple[tuple[str, ...], ...]


def rank_methods(methods: Sequence[str], scores: ArrayLike, *, alpha: float = 0.05) -> Ranking:
    """Rank methods in every block and compare their average ranks.

    Args:
        methods: ``m`` names.
        scores: ``(blocks, m)``, higher is better.
        alpha: Level of the critical difference.

    Raises:
        BenchmarkError: Fewer than two methods or blocks, or a method without a score in some block.
        ValueError: Shapes that do not fit together, or an impossible level.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(methods) or not 0 < alpha < 1:
        raise ValueError(f"scores {table.shape} for {len(methods)} methods, alpha {alpha}")
    if min(table.shape) < 2:
        raise BenchmarkError(
            f"average ranks need two methods and two blocks, got {len(methods)} and {len(table)}"
        )
    for name, column in zip(methods, table.T, strict=True):
        if missing := int((~np.isfinite(column)).sum()):
            raise BenchmarkError(f"{name} has no score in {missing} of {len(table)} blocks; leave one out")
    ranks = block_ranks(table)
    average = ranks.mean(axis=0)
    order = np.argsort(average, kind="stable")
    names, places = [methods[i] for i in order], average[order]
    statistic, p = friedman(ranks)
    difference = critical_difference(len(methods), len(table), alpha)
    groups = tuple(tuple(names[first : last + 1]) for first, last in joined(places, difference))
    found = tuple(float(place) for place in places)
    return Ranking(tuple(names), found, len(table), statistic, p, difference, alpha, groups)


def block_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks ``(blocks, m)`` inside every block: 1 for the highest score, equal scores share the mean."""
    ranks: NDArray[np.float64] = stats.rankdata(-scores, axis=1)
    return ranks


def friedman(ranks: NDArray[np.float64]) -> tuple[float, float]:
    """Friedman's test, corrected for ties: chi square and p value; 0 and 1 if all is tied.

    Args:
        ranks: ``(blocks, m)``.
    """
    blocks, count = ranks.shape
    middle = (count + 1) / 2
    spread = float(((ranks - middle) ** 2).sum())
    if spread == 0:
        return 0.0, 1.0
    statistic = (count - 1) * blocks**2 * float(((ranks.mean(axis=0) - middle) ** 2).sum()) / spread
    return statistic, float(stats.chi2.sf(statistic, count - 1))


def critical_difference(methods: int, blocks: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of average ranks."""
    quantile = float(stats.studentized_range.ppf(1 - alpha, methods, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * blocks))


def joined(places: NDArray[np.float64], difference: float) -> list[tuple[int, int]]:
    """First and last position of the largest groups within less than ``difference``.

    Args:
        places: ``(m,)`` average ranks in ascending order.
        difference: Critical difference.
    """
    found: list[tuple[int, int]] = []
    for first, place in enumerate(places):
        last = int((places - place < difference).sum()) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
