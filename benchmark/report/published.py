"""The publication's numbers, and a run beside them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.disk import published_folder
from benchmark.records.comparable import why_not_comparable
from benchmark.records.record import AVERAGE, RunRecord

TABLES = ("table2_map_all.csv", "table3_map_all.csv")
METRIC = "map@all"


@dataclass(frozen=True)
class Comparison:
    """Our numbers beside the published ones, or the reason why there is nothing to compare.

    Attributes:
        reason: Why not; empty if there is a comparison.
        published: MAP@all per direction and ``avg``, as printed (three decimals).
        difference: Ours (mean over seeds) minus published.
    """

    reason: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    difference: Mapping[str, float] = field(default_factory=dict)


def published_numbers(dataset: str, method: str, folder: Path | None = None) -> dict[str, float]:
    """Printed MAP@all per direction and ``avg``; empty if the publication has none for this pair."""
    folder = folder or published_folder()
    numbers: dict[str, float] = {}
    if folder is None:
        return numbers
    for table in TABLES:
        with (folder / table).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if (row["dataset"], row["method"]) == (dataset, method):
                    numbers[row["direction"]] = float(row["map_all"])
    return numbers


def compare(record: RunRecord, folder: Path | None = None) -> Comparison:
    """A run beside the publication's numbers.

    Args:
        record: Of the run.
        folder: Where the published tables are; the suite's own if not given.
    """
    if reason := why_not_comparable(record):
        return Comparison(reason)
    dataset, method = record.dataset.id, record.method.id
    printed = published_numbers(dataset, method, folder)
    common = [name for name in (*record.directions, AVERAGE) if name in printed]
    if not common:
        return Comparison(f"the publication has no numbers for {method} on {dataset}")
    return Comparison(
        published={name: printed[name] for name in common},
        difference={name: record.mean(METRIC, name) - printed[name] for name in common},
    )
