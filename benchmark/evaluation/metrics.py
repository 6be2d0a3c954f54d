"""Retrieval metrics: average precision by any common definition, and precision-recall curves.

Average precision at k has several definitions in use that differ widely on the same scores:

- ``map@K``, ``map@all``: sum of the precision at the relevant ranks up to k, divided by the number of
  relevant items *found within k*; 0 if there is none (DRCL, eq. 9, and its public ``cal_utils.py``).
- ``map_min@K``: the same sum divided by min(k, number of relevant items in the database).

Both agree for ``all``. The mean is taken over all queries, those without a relevant item included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from benchmark.errors import BenchmarkError
from benchmark.evaluation.ranking import BUDGET, Comparison, Ranks, compare
from benchmark.evaluation.similarity import Similarity

METRIC_VERSION: int = 1
TIE_LIMIT = 0.01
RECALL_LEVELS = 101
"""Levels of recall, evenly spaced from 0 to 1, of a direction's precision curve."""

Empty = Literal["zero", "skip"]


@dataclass(frozen=True)
class Metric:
    """A parsed metric name; ``k`` is ``None`` for the whole database."""

    name: str
    k: int | None
    of_all_relevant: bool

    def __call__(self, ranks: Tensor, relevant: Tensor, database: int) -> Tensor:
        """Per-query AP ``(q,)`` float64 from ranks ``(q, r)`` and numbers of relevant items ``(q,)``."""
        k = database if self.k is None else min(self.k, database)
        found = ranks <= k
        hits = torch.arange(1, ranks.shape[1] + 1, dtype=torch.float64, device=ranks.device)
        total = (hits / ranks * found).sum(1)
        count = relevant.clamp(max=k) if self.of_all_relevant else found.sum(1)
        return total / count.clamp(min=1)


def parse_metric(name: str) -> Metric:
    """Read ``map@all``, ``map@K`` or ``map_min@K``.

    Raises:
        BenchmarkError: Any other name.
    """
    match = re.fullmatch(r"(map|map_min)@(all|[1-9][0-9]*)", name)
    if match is None:
        raise BenchmarkError(
            f"unknown metric {name!r}: use map@all, map@K or map_min@K with a whole number K, as in map@50"
        )
    return Metric(name, None if match[2] == "all" else int(match[2]), match[1] == "map_min")


@dataclass(frozen=True)
class DirectionScores:
    """How well one modality retrieves from another.

    Attributes:
        ap: Metric name -> ``(n_q,)`` float32 on the CPU, average precision of every query.
        ties: Share of queries with a relevant item whose score another item has too.
        queries: Number of queries.
        database: Number of database items.
        chance: Expectation of map@all under a random ranking.
        first: ``(n_q, top)`` int32 on the CPU, database rows in the order of their ranks; -1 where there are
            no more.
        first_scores: ``(n_q, top)`` float32 on the CPU, their scores; NaN where there is no row.
        precision: ``(RECALL_LEVELS,)`` float64 on the CPU, interpolated precision at evenly spaced levels of
            recall from 0 to 1, mean over the queries.
    """

    ap: dict[str, Tensor]
    ties: float
    queries: int
    database: int
    chance: float
    first: Tensor
    first_scores: Tensor
    precision: Tensor

    def mean(self, metric: str, empty: Empty = "zero") -> float:
        """Mean over the queries.

        Args:
            metric: One of the metrics that were computed.
            empty: ``zero``: a query that finds no relevant item within k counts 0. ``skip``: it does not
                count (the multi-label evaluation of the public DRCL code; that code also cuts its "all" at
                the number of *queries*, which is ``map@K`` with that K).
        """
        values = self.ap[metric].double()
        if _check_empty(empty) == "skip":
            values = values[values > 0]
        return float(values.mean()) if len(values) else 0.0

    def warning(self) -> str:
        """One line if so many queries have ties that the order of equal scores matters, else empty."""
        if self.ties <= TIE_LIMIT:
            return ""
        return (
            f"{self.ties:.1%} of {self.queries} queries have a tie at a relevant item; "
            "equal scores are ranked by a fixed permutation of the database"
        )


def evaluate(
    a: Tensor | None,
    labels_a: Tensor,
    b: Tensor | None,
    labels_b: Tensor,
    *,
    metrics: Sequence[str] = ("map@all", "map@50"),
    similarity: Similarity | None = None,
    exclude: Tensor | None = None,
    top: int = 0,
    budget: int = BUDGET,
    device: torch.device | str | None = None,
) -> tuple[DirectionScores, DirectionScores]:
    """Score a -> b and b -> a from one similarity.

    Args:
        a: ``(n_a, d)`` embeddings, compared by cosine in float32. Not looked at (``None`` will do) if
            ``similarity`` is given.
        labels_a: ``(n_a,)`` int64 class numbers, or ``(n_a, C)`` multi-hot rows.
        b: ``(n_b, d)`` embeddings.
        labels_b: ``(n_b,)`` or ``(n_b, C)``, as ``labels_a``.
        metrics: Metric names.
        similarity: ``(n_a, n_b)`` scores, or a function from a slice of rows of ``a`` to their ``(len, n_b)``
            scores; higher is more similar.
        exclude: ``(n_a,)`` int64, per row of ``a`` the row of ``b`` that is left out of the database, in both
            directions; -1 for none.
        top: How many of the first ranks to list.
        budget: Bytes to use above the inputs, roughly.
        device: Where to compute; by default where the embeddings are.

    Raises:
        BenchmarkError: An unknown metric, shapes that do not fit together, or values that are not finite.
    """
    parsed = [parse_metric(name) for name in metrics]
    pair = compare(
        a, labels_a, b, labels_b, similarity=similarity, exclude=exclude, budget=budget, device=device
    )
    return _score(pair, 0, parsed, top), _score(pair, 1, parsed, top)


def evaluate_one(
    query: Tensor | None,
    query_labels: Tensor,
    database: Tensor | None,
    database_labels: Tensor,
    *,
    metrics: Sequence[str] = ("map@all", "map@50"),
    top: int = 0,
    **options: Any,
) -> DirectionScores:
    """Score one direction only, for methods whose similarity is not symmetric; options as in ``evaluate``."""
    parsed = [parse_metric(name) for name in metrics]
    return _score(compare(query, query_labels, database, database_labels, **options), 0, parsed, top)


def _score(pair: Comparison, side: int, metrics: Sequence[Metric], top: int) -> DirectionScores:
    database = pair.size(1 - side)
    first: list[tuple[Tensor, Tensor]] = []
    parts: dict[str, list[Tensor]] = {metric.name: [] for metric in metrics}
    ties, chance = 0, 0.0
    precision = torch.zeros(RECALL_LEVELS, dtype=torch.float64, device=pair.device)
    for block in pair.ranks(side, top):
        precision += _precision_at_recall(block, RECALL_LEVELS)
        first.append((block.first.to("cpu", torch.int32), block.first_scores.cpu()))
        ties += int(block.tied.sum())
        chance += float(expected_random_ap(block.relevant, block.database).sum())
        for metric in metrics:
            parts[metric.name].append(metric(block.ranks, block.relevant, database).float().cpu())
    queries = pair.size(side)
    ap = {name: torch.cat(values) for name, values in parts.items()}
    rows, scores = (torch.cat(part) for part in zip(*first, strict=True))
    shares = ties / queries, queries, database, chance / queries
    return DirectionScores(ap, *shares, rows, scores, (precision / queries).cpu())


def expected_random_ap(relevant: Tensor, database: Tensor | int) -> Tensor:
    """Expectation of AP over all database under a uniformly random ranking.

    With R relevant items of N and H_N the N-th harmonic number, (H_N + (R-1)(N-H_N)/(N-1)) / N: the item at
    rank j is relevant with probability R/N, and then each of the j-1 ranks before it with (R-1)/(N-1).

    Args:
        relevant: ``(q,)`` number of relevant items per query; 0 gives 0.
        database: Number of database items, one for all or ``(q,)``.

    Returns:
        ``(q,)`` float64.
    """
    r = relevant.double()
    n = torch.as_tensor(database, dtype=torch.float64, device=r.device)
    harmonic = torch.special.digamma(n + 1) + 0.5772156649015329
    # with one item r - 1 is 0 or the query has no relevant item: any positive divisor will do
    expected = (harmonic + (r - 1) * (n - harmonic) / (n - 1).clamp(min=1)) / n.clamp(min=1)
    return torch.where(r > 0, expected, 0)


def precision_recall(
    query: Tensor | None,
    query_labels: Tensor,
    database: Tensor | None,
    database_labels: Tensor,
    *,
    empty: Empty = "zero",
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Precision and recall at every rank, averaged over the queries (the curves of DRCL, Fig. 2).

    Args:
        query: ``(n_q, d)`` embeddings.
        query_labels: ``(n_q,)`` class numbers or ``(n_q, C)`` multi-hot rows.
        database: ``(n_d, d)`` embeddings.
        database_labels: ``(n_d,)`` or ``(n_d, C)``, as ``query_labels``.
        empty: Whether a query without a relevant item counts 0 (``zero``) or not at all (``skip``).
        options: ``similarity``, ``exclude``, ``budget``, ``device`` as in ``evaluate``.

    Returns:
        Mean precision and mean recall, each ``(n_d,)`` float64 on the CPU.
    """
    _check_empty(empty)
    pair = compare(query, query_labels, database, database_labels, **options)
    items = pair.size(1)
    hits = torch.zeros(items + 2, dtype=torch.float64, device=pair.device)
    shares, counted = torch.zeros_like(hits), 0
    for block in pair.ranks(0):
        share = (1 / block.relevant.double().clamp(min=1))[:, None].expand(block.ranks.shape)
        ranks = block.ranks.flatten()
        hits += torch.bincount(ranks, minlength=items + 2)
        shares += torch.bincount(ranks, share.flatten(), minlength=items + 2)
        counted += _counted(block.relevant, empty)
    # entry 0 is no rank and the last one holds the filling
    precision = hits.cumsum(0)[1:-1] / torch.arange(1, items + 1, device=pair.device)
    recall = shares.cumsum(0)[1:-1]
    return (precision / max(counted, 1)).cpu(), (recall / max(counted, 1)).cpu()


def interpolated_precision(
    query: Tensor | None,
    query_labels: Tensor,
    database: Tensor | None,
    database_labels: Tensor,
    *,
    levels: int = 11,
    empty: Empty = "zero",
    **options: Any,
) -> Tensor:
    """Interpolated precision at evenly spaced levels of recall from 0 to 1, averaged over the queries.

    The interpolated precision of a query at a level is its largest precision at any recall of at least that
    level. Arguments as in ``precision_recall``.

    Returns:
        ``(levels,)`` float64 on the CPU.
    """
    _check_empty(empty)
    if levels < 2:
        raise BenchmarkError(f"interpolated precision needs at least 2 levels of recall, got {levels}")
    pair = compare(query, query_labels, database, database_labels, **options)
    total, counted = torch.zeros(levels, dtype=torch.float64, device=pair.device), 0
    for block in pair.ranks(0):
        total += _precision_at_recall(block, levels)
        counted += _counted(block.relevant, empty)
    return (total / max(counted, 1)).cpu()


def _precision_at_recall(block: Ranks, levels: int) -> Tensor:
    """Interpolated precision at evenly spaced levels of recall, summed over queries: ``(levels,)``."""
    if not block.ranks.shape[1]:  # nothing is relevant to any query
        return torch.zeros(levels, dtype=torch.float64, device=block.ranks.device)
    steps = torch.arange(levels, device=block.ranks.device)
    hits = torch.arange(1, block.ranks.shape[1] + 1, dtype=torch.float64, device=block.ranks.device)
    precision = (hits / block.ranks) * (hits <= block.relevant[:, None])
    best = precision.flip(1).cummax(1).values.flip(1)
    # the first hit with hit / relevant >= step / (levels - 1), in integers so that no level is missed
    first = (steps * block.relevant[:, None] + levels - 2) // (levels - 1) - 1
    return best.gather(1, first.clamp_(min=0)).sum(0)


def _counted(relevant: Tensor, empty: Empty) -> int:
    return len(relevant) if empty == "zero" else int((relevant > 0).sum())


def _check_empty(empty: Empty) -> Empty:
    if empty not in {"zero", "skip"}:
        raise BenchmarkError(f"empty must be 'zero' or 'skip', got {empty!r}")
    return empty
