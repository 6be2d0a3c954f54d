"""What is asked of a report, and what it consists of once made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmark.records.store import Store, StoredRun
from benchmark.report.catalog import Item
from benchmark.report.significance import AgainstBest, against_best, ranking
from benchmark.report.tables import Table
from benchmark.runs.spec import RunSpec
from benchmark.stats.ranks import Ranking
from benchmark.studies.batch import Attempt


def caption_of(runs: Mapping[str, StoredRun]) -> list[str]:
    """Short facts of the runs behind a figure."""
    records = [run.record for run in runs.values()]
    if not records:
        return []
    seeds = sorted({len(record.seeds) for record in records})
    of_seeds = "one seed" if seeds == [1] else f"{' or '.join(map(str, seeds))} seeds"
    sources = sorted({record.dataset.source.replace("standin", "STAND-IN") for record in records})
    profiles = sorted({record.profile for record in records})
    date = max(record.started for record in records)[:10]
    return [
        f"{' and '.join(sources)} data, {' and '.join(profiles)} profile, {of_seeds}, computed until {date}."
    ]


@dataclass(frozen=True)
class Options:
    """How a report is made.

    Attributes:
        spec: Everything of the runs but method and dataset.
        store: Where runs are kept.
        folder: Where files go.
        datasets: In place of the item's; empty for the item's own.
        methods: Only these; empty for all.
        stored_only: Compute nothing.
        force: Compute even what is stored.
        margin: Of the equivalence test.
        published: Folder of the published tables; the suite's own if not given.
    """

    spec: RunSpec
    store: Store
    folder: Path
    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    stored_only: bool = False
    force: bool = False
    margin: float = 0.01
    published: Path | None = None


@dataclass
class Made:
    """What came of an item.

    Attributes:
        item: The item.
        tables: Worked out.
        panels: Figures, by the name of their file.
        runs: Every run it is made of, by key.
        files: Written.
        problems: Why something could not be drawn, a line each.
    """

    item: Item
    tables: list[Table] = field(default_factory=list)
    panels: dict[str, list[Panel]] = field(default_factory=dict)
    runs: dict[str, StoredRun] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, attempt: Attempt) -> None:
        """Note a run it is made of, if there is one."""
        if attempt.run is not None:
            self.runs[attempt.run.record.key] = attempt.run

    @cached_property
    def comparisons(self) -> list[AgainstBest]:
        """The best of every table against the others; of the tables as they are when first asked for."""
        return [each for table in self.tables if (each := against_best(table, self.runs))]

    @cached_property
    def order(self) -> Ranking | None:
        """Average ranks of methods over all tables; ``None`` for studies, or with too little to rank."""
        return ranking(self.tables) if self.item.kind == "methods" else None


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        label: In the legend.
        x: ``(n,)``.
        y: ``(seeds, n)``; the mean is drawn, with the range over seeds behind it.
    """

    label: str
    x: NDArray[Any]
    y: NDArray[Any]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: Above it.
        x, y: Axis labels.
        curves: Lines in order.
        level: A horizontal line for the random ranking, if any.
        categories: Evenly spaced tick labels of ``x`` (then positions 0, 1, ...); empty for a number axis.
        bars: Whether to draw one bar per category and curve in place of lines.
    """

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    level: float | None = None
    categories: tuple[str, ...] = ()
    bars: bool = False
