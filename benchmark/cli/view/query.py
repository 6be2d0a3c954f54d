"""The answer to one query as text for a terminal of 80 columns."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from io import TextIOWrapper
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from benchmark.cli.view.console import SOURCES, console, standin_warning


def answer(found: Mapping[str, Any]) -> None:
    """The query, its first ranks, its average precision, and what the run was.

    Relevant rows are marked by a tick and by a word, so that they can be told without colour, and where the
    terminal's encoding has no tick.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without emoji shows question marks
    out, query, database, run = console(), found["query"], found["database"], found["run"]
    results = found["results"]
    symbols = any(each["symbol"] for each in results)
    direction = f"{query['modality']} -> {database['modality']}"
    out.print(f"\n{direction}: {name(query)} (row {query['row']}, {query['class']})")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("rank", justify="right", no_wrap=True)
    if symbols:
        table.add_column("", no_wrap=True)
    for header in ("name", "class"):
        table.add_column(header, overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in results:
        mark = ("✓ relevant" if each["relevant"] else "") + (", own item" if each["own_item"] else "")
        cells = [str(each["rank"]), *([each["symbol"]] if symbols else []), each["name"], each["class"]]
        cells += [f"{each['score']:.3f}", mark]
        table.add_row(*map(Text, cells), style="green" if each["relevant"] else "")
    out.print(table)
    out.print(
        f"AP of this query {found['ap']:.3f} (random ranking {found['chance']:.3f}); "
        f"{database['relevant']} of {database['items']} {database['modality']} items are relevant"
    )
    if run["leave_own_out"]:
        out.print("the query's own item is not in the database")
    split = f", split {run['split']}" if run["split"] else ""
    seeds = f"seed {run['seed']} of {','.join(map(str, run['seeds']))}"
    out.print(f"{run['title']}: {SOURCES[run['source']]}{split}, {run['profile']} profile, {seeds}")
    out.print(f"run {run['id']}")
    if run["source"] == "standin":
        standin_warning(out)


def name(item: Mapping[str, Any]) -> str:
    """Character and name of an item."""
    return f"{item['symbol']} {item['name']}".strip()
