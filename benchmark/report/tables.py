"""Tables: rows of runs, columns of directions, every number with its spread and the published one.

A table is worked out here and laid out elsewhere (:mod:`benchmark.report.formats`). Runs of one table agree
in data, profile and whatever else numbers depend on; those that do not are refused with the field named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from benchmark.records.comparable import common_words, comparable, why_not_comparable
from benchmark.records.record import AVERAGE, RunRecord
from benchmark.stats.intervals import MARGIN, ROUNDING, Equivalence, Interval, equivalence, interval

DEFINITION = (
    "MAP@k is the mean over all queries of the sum of the precision at the ranks of the relevant items found "
    "within k, divided by their number (0 if there is none)"
)
SOURCES = {"official": "official data", "standin": "STAND-IN data", "user": "the user's own data"}


@dataclass(frozen=True)
class Line:
    """What a row is made of.

    Attributes:
        label: First cell.
        record: Its run; ``None`` if there is none.
        published: Printed numbers per direction and ``avg``; empty if there are none for it.
        note: A few words that belong to the row (protocol, settings).
        reason: Why there is no run.
        command: What computes it.
    """

    label: str
    record: RunRecord | None
    published: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    reason: str = ""
    command: str = ""


@dataclass(frozen=True)
class Cell:
    """One number.

    Attributes:
        ours: Mean, sample deviation and 95 % interval over the seeds; ``None`` if there is no run.
        published: As printed, or ``None``.
        verdict: Of the equivalence test; ``None`` where there is nothing to judge.
        place: 1 for the best of the column, 2 for the second, else 0.
    """

    ours: Interval | None
    published: float | None = None
    verdict: Equivalence | None = None
    place: int = 0

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval; ``None`` with one seed."""
        if self.ours is None or self.ours.high is None or self.ours.low is None:
            return None
        return (self.ours.high - self.ours.low) / 2

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        return None if self.ours is None or self.published is None else self.ours.mean - self.published


@dataclass(frozen=True)
class Row:
    """A row: its cells by column."""

    line: Line
    cells: Mapping[str, Cell]
    place: Mapping[str, int]  # of the published numbers


@dataclass(frozen=True)
class Table:
    """A table, ready to be laid out.

    Attributes:
        name: Of the files.
        title: What is shown.
        metric: ``map@all`` or ``map@50``.
        facts: What all runs have in common, from their records; empty if there is no run.
        modalities: In canonical order.
        columns: Directions ``query->database``, then ``avg``.
        rows: In order.
        chance: Expectation of MAP@all under a random ranking, per column.
        comparable: Why our numbers are not judged against published ones; empty if they are.
        notes: Further remarks, a sentence each.
    """

    name: str
    title: str
    metric: str
    facts: Mapping[str, Any]
    modalities: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    chance: Mapping[str, float]
    comparable: str
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> list[Line]:
        """Rows without a run."""
        return [row.line for row in self.rows if row.line.record is None]


def build(
    name: str,
    title: str,
    lines: Sequence[Line],
    metric: str = "map@all",
    *,
    judge: bool = True,
    margin: float = MARGIN,
    notes: Sequence[str] = (),
    incomparable: Callable[[RunRecord], str] = why_not_comparable,
) -> Table:
    """Work out a table.

    Args:
        name: Of the files.
        title: What is shown.
        lines: The rows.
        metric: ``map@all`` or ``map@50``.
        judge: Whether published numbers of this metric exist.
        margin: Of the equivalence test.
        notes: Remarks to go below.
        incomparable: Why a record may not be compared with the publication; empty if it may.

    Raises:
        IncomparableError: Rows differ in something a table must not mix.
    """
    records = [line.record for line in lines if line.record is not None]
    if records:
        comparable(records)
    first = records[0] if records else None
    printed = dict.fromkeys(column for line in lines for column in line.published)
    directions = list(first.directions) if first else [column for column in printed if column != AVERAGE]
    columns = (*directions, AVERAGE)
    reason = ", ".join(dict.fromkeys(filter(None, map(incomparable, records))))
    if first is not None and not judge:
        reason = reason or f"the publication has no {metric}"
    cells = [_cells(line, columns, metric, margin, judged=not reason) for line in lines]
    for column in columns:
        means = [each[column].ours for each in cells]
        for each, place in zip(cells, places([m.mean if m else None for m in means]), strict=True):
            each[column] = Cell(each[column].ours, each[column].published, each[column].verdict, place)
    theirs = {column: places([line.published.get(column) for line in lines]) for column in columns}
    chance = dict(first.chance) if first else {}
    return Table(
        name=name,
        title=title,
        metric=metric,
        facts=_facts(records),
        modalities=first.modalities if first else _modalities(directions),
        columns=columns,
        rows=tuple(
            Row(line, each, {column: theirs[column][number] for column in columns})
            for number, (line, each) in enumerate(zip(lines, cells, strict=True))
        ),
        chance=chance | ({AVERAGE: first.mean_chance} if first else {}),
        comparable=reason,
        notes=(*notes, *_printed_averages(lines, directions)),
    )


def places(values: Sequence[float | None]) -> list[int]:
    """1 for the best, 2 for the second best, 0 for all others; equal as printed is equal."""
    shown = [None if value is None else round(value, 3) for value in values]
    best = sorted({value for value in shown if value is not None}, reverse=True)[:2]
    if len([value for value in shown if value is not None]) < 2:
        return [0] * len(shown)
    return [best.index(value) + 1 if value in best else 0 for value in shown]


def _cells(
    line: Line, columns: Sequence[str], metric: str, margin: float, *, judged: bool
) -> dict[str, Cell]:
    cells = {}
    for column in columns:
        published = line.published.get(column)
        if line.record is None:
            cells[column] = Cell(None, published)
            continue
        values = line.record.values(metric, column)
        verdict = None
        if judged and published is not None:
            verdict = equivalence(values, published, margin)
        cells[column] = Cell(interval(values), published, verdict)
    return cells


def _facts(records: Sequence[RunRecord]) -> dict[str, Any]:
    if not records:
        return {}
    first = records[0]
    seeds = sorted({record.seeds for record in records})
    return {
        "dataset": first.dataset.id,
        "dataset_title": first.dataset.title,
        "source": first.dataset.source,
        "split": first.split,
        "fingerprint": first.dataset.fingerprint,
        "seeds": seeds,
        "date": max(record.started for record in records)[:10],
        "versions": sorted({record.versions["suite"] for record in records}),
        "torch": sorted({record.versions["torch"] for record in records}),
        "commits": sorted({str(record.versions.get("commit"))[:12] for record in records}),
        "devices": sorted({record.device["type"] for record in records}),
        "words": common_words(records),
        **{name: getattr(first, name) for name in ("profile", "precision", "scaling", "modalities")},
    }


def _modalities(directions: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(direction.split("->")[0] for direction in directions))


def _printed_averages(lines: Sequence[Line], directions: Sequence[str]) -> list[str]:
    """Where a printed average is not the mean of its printed columns, all of which are printed."""
    found = []
    for line in lines:
        columns = [value for name, value in line.published.items() if name != AVERAGE]
        if AVERAGE not in line.published or len(columns) < len(directions):
            continue
        mean, printed = fmean(columns), line.published[AVERAGE]
        if abs(mean - printed) > ROUNDING + 1e-9:
            found.append(
                f"The publication prints an average of {printed:.3f} for {line.label}; "
                f"the mean of its columns is {mean:.5f}."
            )
    return found


def caption(table: Table) -> str:
    """One paragraph that says what the numbers are: metric, seeds, profile, source, date and version."""
    facts = table.facts
    if not facts:
        return f"{table.title}. Published numbers."
    seeds = facts["seeds"]
    of_seeds = f"{len(seeds[0])} seeds" if len(seeds[0]) > 1 else f"one seed ({seeds[0][0]})"
    if len(seeds) > 1:
        of_seeds = "seeds " + " or ".join(",".join(map(str, each)) for each in seeds)
    spread = ", mean and half width of the 95 % interval over seeds" if len(seeds[0]) > 1 else ""
    metric = table.metric.replace("map", "MAP")
    parts = [
        f"{table.title}. {metric}, {SOURCES[facts['source']]}, "
        f"{facts['profile']} profile, {of_seeds}{spread}",
        f"split {facts['split']}" if facts["split"] else "",
        f"modalities {', '.join(facts['modalities'])}",
        f"{facts['scaling']} features, {facts['precision']} on {' and '.join(facts['devices'])}",
        *facts["words"],
        f"computed until {facts['date']} with version {', '.join(facts['versions'])}",
    ]
    return "; ".join(filter(None, parts)) + f". {DEFINITION}."


def short(name: str, names: Sequence[str]) -> str:
    """A modality's symbol as tables print it: first letter, or ``3D``; the whole name if letters clash."""

    def symbol(each: str) -> str:
        return each.upper() if each[:1].isdigit() else each[:1].upper()

    symbols = [symbol(each) for each in names]
    return symbol(name) if len(set(symbols)) == len(symbols) else name


def heading(column: str, names: Sequence[str]) -> str:
    """A column's heading, ``I→T`` or ``Avg``."""
    if column == AVERAGE:
        return "Avg"
    query, _, database = column.partition("->")
    return f"{short(query, names)}→{short(database, names)}"
