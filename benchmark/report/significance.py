"""Which differences between methods are more than chance, from the average precision of every query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.records.comparable import comparable
from benchmark.records.store import StoredRun
from benchmark.report.tables import Table
from benchmark.stats.paired import Paired, compare_pairs, correct
from benchmark.stats.ranks import Ranking, rank_methods


@dataclass(frozen=True)
class AgainstBest:
    """The best method of a table against every other.

    Attributes:
        title: Of the table.
        dataset: Display name.
        comparisons: Best minus other, Holm-corrected over the table.
    """

    title: str
    dataset: str
    comparisons: tuple[Paired, ...]


def against_best(table: Table, runs: Mapping[str, StoredRun]) -> AgainstBest | None:
    """Compare the best average of a table with every other, over the queries of all directions.

    Args:
        table: Worked out.
        runs: The stored run of every row's key.

    Returns:
        ``None`` with fewer than two methods.
    """
    rows = [row.line for row in table.rows if row.line.record is not None]
    found = {line.label: runs[line.record.key] for line in rows if line.record is not None}
    if len(found) < 2:
        return None
    comparable([run.record for run in found.values()])
    scores = {label: queries(run, table.metric) for label, run in found.items()}
    best = max(scores, key=lambda label: float(scores[label].mean()))
    family = compare_pairs(scores, [(best, label) for label in scores if label != best])
    return AgainstBest(table.title, str(table.facts["dataset_title"]), tuple(correct(family)))


def queries(run: StoredRun, metric: str) -> NDArray[np.float64]:
    """Average precision of every query of every direction, ``(seeds, queries)``; every query counts alike."""
    arrays = run.arrays(*(f"ap/{metric}/{direction}" for direction in run.record.directions))
    return np.concatenate(list(arrays.values()), axis=1, dtype=np.float64)


def ranking(tables: Sequence[Table]) -> Ranking | None:
    """Average ranks over every direction of every table; ``None`` with too little to rank.

    Methods that are missing somewhere are left out.
    """
    filled = [table for table in tables if any(row.line.record for row in table.rows)]
    if not filled:
        return None
    labels = [
        label
        for label in dict.fromkeys(row.line.label for table in filled for row in table.rows)
        if all(any(r.line.label == label and r.line.record for r in table.rows) for table in filled)
    ]
    blocks = []
    for table in filled:
        records = {row.line.label: row.line.record for row in table.rows if row.line.record}
        for direction in table.columns[:-1]:
            blocks.append([records[n].mean(table.metric, direction) for n in labels])
    if len(labels) < 3 or len(blocks) < 2:
        return None
    return rank_methods(labels, blocks)
