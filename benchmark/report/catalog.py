"""Which reports there are: read from ``results/published/reports.toml``, beside the published tables."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from benchmark.core.registry import METHODS
from benchmark.core.toml import read_toml
from benchmark.disk import published_folder
from benchmark.errors import BenchmarkError, UnknownNameError
from benchmark.report.published import TABLES

Kind = Literal["methods", "study", "curves", "study-figure"]


@dataclass(frozen=True)
class Item:
    """One table or figure.

    Attributes:
        name: On the command line, and of the files.
        kind: How it is made.
        title: As in the caption.
        datasets: Dataset ids, in order.
        metric: ``map@all`` or ``map@50``.
        studies: Names of studies; empty for methods.
        directions: ``query->database`` of curves.
        notes: Remarks on the published numbers, a sentence each.
        own: Made of its own datasets only.
    """

    name: str
    kind: Kind
    title: str
    datasets: tuple[str, ...]
    metric: str = "map@all"
    studies: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    own: bool = False


def items(folder: Path | None = None) -> dict[str, Item]:
    """Every item by its name, in the order of the file.

    Args:
        folder: Where the published tables are; the suite's own if not given.

    Raises:
        BenchmarkError: There are none, or the file is wrong.
    """
    file = _folder(folder) / "reports.toml"
    try:
        document = read_toml(file)
        return {name: _item(name, entry) for name, entry in document.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise BenchmarkError(f"{file}: {error}") from None


def item(name: str) -> Item:
    """One item; ``UnknownNameError`` with the valid names if there is none of that name."""
    known = items()
    if name not in known:
        raise UnknownNameError("report", name, list(known))
    return known[name]


def methods_of(dataset: str, folder: Path | None = None) -> list[str]:
    """Ids of the methods in the rows of a dataset's table.

    Those the publication has for it, in its order; for other datasets every registered method, those of the
    publication first. A method of somebody else's package follows in either case.
    """
    folder = _folder(folder)
    with (folder / "methods.csv").open(newline="", encoding="utf-8") as file:
        order = [row["id"] for row in csv.DictReader(file)]
    printed = set()
    for table in TABLES:
        with (folder / table).open(newline="", encoding="utf-8") as file:
            printed |= {row["method"] for row in csv.DictReader(file) if row["dataset"] == dataset}
    known = METHODS.entries()
    others = [name for name, entry in known.items() if name not in order and not entry.problem]
    if printed:
        return [name for name in order if name in printed] + [n for n in others if known[n].external]
    return [name for name in order if name in known] + others


def _item(name: str, entry: dict[str, Any]) -> Item:
    if entry["kind"] not in get_args(Kind):
        raise ValueError(f"{name}: kind is one of {', '.join(get_args(Kind))}, not {entry['kind']!r}")
    studies = tuple(entry.get("studies", ())) or tuple(filter(None, [entry.get("study", "")]))
    return Item(
        name=name,
        kind=entry["kind"],
        title=entry["title"],
        datasets=tuple(entry["datasets"]),
        metric=entry.get("metric", "map@all"),
        studies=studies,
        directions=tuple(entry.get("directions", ())),
        notes=tuple(entry.get("notes", ())),
        own=bool(entry.get("own", False)),
    )


def _folder(folder: Path | None) -> Path:
    found = folder or published_folder()
    if found is None:
        raise BenchmarkError(
            "the published tables (results/published) are missing; they come with a checkout and with a wheel"
        )
    return found
