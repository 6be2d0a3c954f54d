"""Ranks of the relevant items: the part every retrieval metric shares.

A metric needs no ordered list of items, only the ranks at which relevant items stand. Those follow from a
sort of score *values* and a binary search of the relevant scores in it, which costs a fraction of an argsort.

Scores are compared in float32. Equal scores are ordered by the database position after a permutation that
depends on the database size only, so that files sorted by class gain nothing from it. Queries with a tie at
a relevant item are ranked a second time by integer keys that hold score and position together; the result is
that of a stable argsort of the permuted database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.errors import DataError
from benchmark.evaluation.similarity import (
    Similarity,
    Source,
    check_finite,
    collect,
    cosine,
    product,
    stored,
    unit_rows,
)

BUDGET = 160 * 2**20
TIE_SEED = 20250109  # part of the metric's definition: raise METRIC_VERSION when it changes

Relevant = Callable[[slice], tuple[Tensor, Tensor]]  # query rows -> columns (q, r), which of them count


@dataclass(frozen=True)
class Ranks:
    """Where the relevant items of a block of queries stand, and which items come first.

    Attributes:
        rows: The queries.
        ranks: ``(q, r)`` int64, ascending from 1; rows with fewer relevant items are filled up with ranks
            beyond the database.
        relevant: ``(q,)`` int64, number of relevant items.
        database: ``(q,)`` int64, number of items ranked (excluded ones do not count).
        tied: ``(q,)`` bool, whether a relevant item shares its score with another item.
        first: ``(q, top)`` int64, the rows at ranks 1, 2, ...; -1 where the database has no more.
        first_scores: ``(q, top)`` float32, their scores; NaN where there is no row.
    """

    rows: slice
    ranks: Tensor
    relevant: Tensor
    database: Tensor
    tied: Tensor
    first: Tensor
    first_scores: Tensor


@dataclass(frozen=True)
class Comparison:
    """Two sets of items to be ranked against each other, in either direction; made by ``compare``."""

    source: Source
    labels: tuple[Tensor, Tensor]
    excluded: tuple[Tensor, Tensor]
    workspace: int
    device: torch.device

    def size(self, side: int) -> int:
        """Number of rows of a (0) or b (1)."""
        return len(self.labels[side])

    def ranks(self, side: int, top: int = 0) -> Iterator[Ranks]:
        """Rank the other side for every row of a (0) or b (1), block by block; list the ``top`` first."""
        queries, items = self.size(side), self.size(1 - side)
        relevant, most = _relevance(self.labels[side], self.labels[1 - side])
        step = max(1, self.workspace // (24 * items + 56 * most))  # bytes held per query, at most
        low = items - 1 - _tie_positions(items).to(self.device)
        mine, others = self.excluded[side], self.excluded[1 - side]
        for start in range(0, queries, step):
            rows = slice(start, min(start + step, queries))
            scores = self.source(side, rows).to(self.device, torch.float32)
            check_finite(scores)
            here = (mine >= rows.start) & (mine < rows.stop)
            if here.any():
                scores = scores.clone()
                scores[mine[here] - rows.start, others[here]] = -torch.inf
            gone = torch.bincount(mine[here] - rows.start, minlength=len(scores))
            scores = scores.contiguous()
            ranks, counts, tied, table = _rank(scores, *relevant(rows), low)
            yield Ranks(rows, ranks, counts, items - gone, tied, *_first(scores, table, low, top))


def compare(
    a: Tensor | None,
    labels_a: Tensor,
    b: Tensor | None,
    labels_b: Tensor,
    *,
    similarity: Similarity | None = None,
    exclude: Tensor | None = None,
    budget: int = BUDGET,
    device: torch.device | str | None = None,
) -> Comparison:
    """Check two sets of items and say where their scores come from.

    The similarity of all pairs is computed once and serves both directions if it fits into three quarters of
    ``budget``. Beyond that the cosine of a block is computed when it is needed, once per direction, and a
    ``similarity`` function is called once per block of rows and its result kept in a temporary file.

    Args:
        a: ``(n_a, d)`` embeddings, compared by cosine; a zero row has cosine 0 with everything. Not looked at
            if ``similarity`` is given.
        labels_a: ``(n_a,)`` class numbers, or ``(n_a, C)`` multi-hot rows (relevant: the product of the rows
            is positive).
        b: ``(n_b, d)`` embeddings.
        labels_b: ``(n_b,)`` or ``(n_b, C)``, as ``labels_a``.
        similarity: ``(n_a, n_b)`` scores, or a function from a slice of rows of ``a`` to their scores.
        exclude: ``(n_a,)`` int64, the row of ``b`` that is no candidate for that row of ``a``, and the other
            way round; -1 for none.
        budget: Bytes to use above the inputs, roughly.
        device: Where to compute; by default where the embeddings are.

    Raises:
        DataError: Shapes that do not fit together, no rows, or values that are not finite.
    """
    if device is None:
        first = similarity if isinstance(similarity, Tensor) else a
        device = labels_a.device if first is None else first.device
    place = torch.device(device)
    labels = labels_a.to(place), labels_b.to(place)
    _check_labels(*labels)
    shape = len(labels_a), len(labels_b)
    room = budget - budget // 4
    if similarity is None:
        if a is None or b is None:
            raise DataError("nothing to compare: give the embeddings of both sides, or a similarity")
        source = cosine(unit_rows(a, shape[0], place), unit_rows(b, shape[1], place), room)
    elif isinstance(similarity, Tensor):
        if similarity.shape != shape:
            raise DataError(f"the similarity has shape {tuple(similarity.shape)}, the labels say {shape}")
        source = stored(similarity.detach())
    else:
        source = stored(collect(similarity, shape, room, place))
    return Comparison(source, labels, _exclusions(exclude, shape, place), max(1, budget // 4), place)


def _check_labels(first: Tensor, second: Tensor) -> None:
    shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
    if not len(first) or not len(second):
        raise DataError(f"nothing to rank: labels of shape {shapes}")
    if first.ndim != second.ndim or first.ndim not in {1, 2} or first.shape[1:] != second.shape[1:]:
        raise DataError(f"labels of shape {shapes} cannot be compared; expected (n,) twice or (n, C) twice")


def _exclusions(exclude: Tensor | None, shape: tuple[int, int], place: torch.device) -> tuple[Tensor, Tensor]:
    """The excluded pairs as rows of a and rows of b."""
    if exclude is None:
        none = torch.zeros(0, dtype=torch.int64, device=place)
        return none, none
    exclude = exclude.to(place, torch.int64)
    if exclude.shape != shape[:1] or exclude.min() < -1 or exclude.max() >= shape[1]:
        raise DataError(f"exclude must hold {shape[0]} rows of 0..{shape[1] - 1}, or -1 for none")
    rows = (exclude >= 0).nonzero()[:, 0]
    return rows, exclude[rows]


def _relevance(queries: Tensor, items: Tensor) -> tuple[Relevant, int]:
    """How to list the relevant columns of query rows, and the largest number of them that may occur."""
    return _same_class(queries, items) if queries.ndim == 1 else _common_label(queries, items)


def _same_class(queries: Tensor, items: Tensor) -> tuple[Relevant, int]:
    numbers = torch.unique(torch.cat([queries, items]), return_inverse=True)[1]
    query_class, item_class = numbers[: len(queries)], numbers[len(queries) :]
    counts = torch.bincount(item_class, minlength=int(numbers.max()) + 1)
    starts = counts.cumsum(0) - counts
    by_class = torch.argsort(item_class, stable=True)

    def columns(rows: slice) -> tuple[Tensor, Tensor]:
        mine = query_class[rows]
        slots = torch.arange(max(1, int(counts[mine].max())), device=items.device)
        at = (starts[mine][:, None] + slots).clamp_(max=len(items) - 1)
        return by_class[at], slots < counts[mine][:, None]

    return columns, int(counts.max())


def _common_label(queries: Tensor, items: Tensor) -> tuple[Relevant, int]:
    items = items.float()

    def columns(rows: slice) -> tuple[Tensor, Tensor]:
        relevant = product(queries[rows].float(), items) > 0
        counts = relevant.sum(1)
        slots = torch.arange(max(1, int(counts.max())), device=items.device)
        query, column = relevant.nonzero(as_tuple=True)
        slot = torch.arange(len(query), device=items.device) - (counts.cumsum(0) - counts)[query]
        found = torch.zeros(len(counts), len(slots), dtype=torch.int64, device=items.device)
        found[query, slot] = column
        return found, slots < counts[:, None]

    return columns, len(items)


def _tie_positions(items: int) -> Tensor:
    """Place of every database row in the fixed permutation.

    Only the raw stream of a numpy bit generator is promised never to change, so the permutation is made
    from that.
    """
    draws = np.random.PCG64(TIE_SEED).random_raw(items)
    places = np.empty(items, np.int64)
    places[np.argsort(draws, kind="stable")] = np.arange(items)
    return torch.from_numpy(places)


def _sorted_rows(x: Tensor) -> Tensor:
    """Rows in ascending order. On a CPU numpy sorts values several times faster than torch."""
    if x.device.type == "cpu":
        return torch.from_numpy(np.sort(x.numpy(), axis=1))
    return x.sort(dim=1).values


def _true_entries(mask: Tensor) -> Tensor:
    """Places of the true entries in the flattened mask. On a CPU numpy finds them faster than torch."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero()[:, 0]


def _places(values: Tensor, columns: Tensor, valid: Tensor, lowest: float) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted rows, the relevant values in descending order, how many values of the row do not exceed each."""
    table = _sorted_rows(values)
    wanted = _sorted_rows(values.gather(1, columns).masked_fill_(~valid, lowest)).flip(1)
    return table, wanted, torch.searchsorted(table, wanted, right=True)


def _rank(
    scores: Tensor, columns: Tensor, valid: Tensor, low: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ranks, number of relevant items, whether one is tied, and sorted rows, of queries' scores ``(q, n)``.

    Excluded items have score -inf. ``low`` is larger for items that win a tie.
    """
    items = scores.shape[1]
    valid = valid & (scores.gather(1, columns) > -torch.inf)
    relevant = valid.sum(1)
    table, wanted, upto = _places(scores, columns, valid, -torch.inf)
    filled = torch.arange(columns.shape[1], device=scores.device) < relevant[:, None]
    neighbour = table.gather(1, (upto - 2).clamp_(min=0))
    tied = ((neighbour == wanted) & (upto > 1) & filled).any(1)
    for rows in tied.nonzero()[:, 0].chunk(2):  # in two parts: keys take more memory than scores
        keys = _keys(scores[rows], low)
        upto[rows] = _places(keys, columns[rows], valid[rows], torch.iinfo(torch.int64).min)[2]
    ranks = (items + 1 - upto).masked_fill_(~filled, items + 1)
    return ranks, relevant, tied, table


def _first(scores: Tensor, table: Tensor, low: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The rows at the first ``top`` ranks ``(q, top)`` and their scores, from scores and sorted scores.

    The sorted scores tell the score at rank ``top``; only items that reach it are looked at. Where others
    share that score, the items are taken by keys.
    """
    queries, items = scores.shape
    count = min(top, items)
    rows = torch.full((queries, top), -1, dtype=torch.int64, device=scores.device)
    values = torch.full((queries, top), torch.nan, device=scores.device)
    if not count:
        return rows, values
    last = items - count
    open_ = table[:, last] == table[:, last - 1] if last else torch.zeros_like(table[:, 0], dtype=torch.bool)
    found = torch.empty(queries, count, dtype=torch.int64, device=scores.device)
    clear = (~open_).nonzero()[:, 0]
    reach = scores >= table[:, last, None].masked_fill(open_[:, None], torch.inf)
    found[clear] = (_true_entries(reach) % items).view(len(clear), count)
    for part in open_.nonzero()[:, 0].chunk(2):  # in two parts: keys take more memory than scores
        found[part] = _keys(scores[part], low).topk(count, dim=1).indices
    order = _keys(scores.gather(1, found), low[found]).argsort(dim=1, descending=True)
    found = found.gather(1, order)
    values[:, :count] = scores.gather(1, found)
    gone = torch.isinf(values)
    rows[:, :count] = found
    return rows.masked_fill_(gone, -1), values.masked_fill_(gone, torch.nan)


def _keys(scores: Tensor, low: Tensor) -> Tensor:
    """Distinct int64 numbers in the order of the scores, equal scores in the order of ``low``."""
    bits = (scores + 0.0).view(torch.int32).to(torch.int64)  # + 0.0 turns -0 into 0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return ordered.mul_(2**32).add_(low)
