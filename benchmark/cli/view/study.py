"""A study as text for a terminal of 80 columns. Nothing here computes a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from rich import box
from rich.table import Table

from benchmark.cli.view.console import SOURCES, console, rows, spread, standin_warning

WIDEST = 6
"""So many directions have a column each; more are shown as one mean per query modality."""


def study(document: Mapping[str, Any]) -> None:
    """What the rows are, their numbers, and the published orderings."""
    out, data, seeds = console(), document["dataset"], document["seeds"]
    out.print(
        f"\n{document['title']}\n{data['title']}: {SOURCES[data['source']]}, {document['profile']} profile"
    )
    if document["overrides"]:
        out.print(f"every run changed with --set {' '.join(document['overrides'])}")
    lines = [(row["label"], row["description"], row["certainty"]) for row in document["rows"]]
    rows(("row", "change", "certainty"), lines, whole="row")
    of_seeds = f"mean over {len(seeds)} seeds, ± sd" if len(seeds) > 1 else f"one seed ({seeds[0]})"
    directions = list(document["chance"])
    wide = len(directions) <= WIDEST
    out.print(
        f"MAP@all, {of_seeds}; {'query->database' if wide else 'mean per query modality'}, and Avg over all"
    )
    out.print(_table(document, _columns(directions, document["modalities"], wide=wide)))
    if not wide:
        out.print(f"all {len(directions)} directions: --json")
    _orderings(document)
    for line in document["missing"]:
        out.print(f"warning: {line}")
    reasons = {row["not_comparable"]: None for row in document["rows"] if row["not_comparable"]}
    for reason in reasons:
        out.print(f"published numbers not shown, not comparable: {reason}")
    every = {row["key"] for row in document["rows"]}
    computed = {row["key"] for row in document["rows"] if not row["cached"]}
    out.print(
        f"{len(computed)} runs computed, {len(every - computed)} read from the store; "
        f"{document['seconds']:.0f} s"
    )
    if data["source"] == "standin":
        standin_warning(out)


def _columns(directions: Sequence[str], names: Sequence[str], *, wide: bool) -> dict[str, list[str]]:
    """Heading to the directions its cells are the mean of."""
    if wide:
        return {direction.replace("->", "\n->"): [direction] for direction in directions}
    return {
        f"{name}\n->": [direction for direction in directions if direction.startswith(f"{name}->")]
        for name in names
    }


def _table(document: Mapping[str, Any], columns: Mapping[str, Sequence[str]]) -> Table:
    compared = any(row["published"] for row in document["rows"])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in [*columns, "Avg", *(["published\nAvg", "ours -\npublished"] if compared else [])]:
        table.add_column(heading, justify="right", no_wrap=True)

    def cells(mean: Callable[[str], float]) -> list[str]:
        return [
            f"{fmean(mean(direction) for direction in directions):.3f}" for directions in columns.values()
        ]

    for row in document["rows"]:
        results, printed = row["results"], row["published"].get("avg")
        off = ["" if printed is None else f"{printed:.3f}"]
        off += ["" if printed is None else f"{fmean(row['average']) - printed:+.3f}"]
        numbers = cells(lambda direction, results=results: fmean(results[direction]))  # type: ignore[misc]  # bound per row
        table.add_row(row["label"], *numbers, spread(row["average"]), *(off if compared else []))
    chance = document["chance"]
    last = [f"{fmean(chance.values()):.3f}", *(["", ""] if compared else [])]
    table.add_row("random", *cells(lambda direction: chance[direction]), *last)
    return table


def _orderings(document: Mapping[str, Any]) -> None:
    found = document["orderings"]
    if not found:
        return
    out = console()
    out.print("Orderings of the publication by average, and the difference here:")
    wide = max(len(f"{each['better']} > {each['worse']}") for each in found)
    for each in found:
        claim = f"{each['better']} > {each['worse']}"
        deviation = "" if each["deviation"] is None else f" ±{each['deviation']:.3f}"
        theirs = each["published_difference"]
        printed = "" if theirs is None else f" (published {theirs:+.3f})"
        verdict = "holds" if each["holds"] else "does not hold"
        out.print(f"  {claim:<{wide}}  {verdict:<13}  {each['difference']:+.3f}{deviation}{printed}")
    out.print(f"{sum(each['holds'] for each in found)} of {len(found)} hold")
