"""What every view is made of: the console, tables, matrices of directions, trees."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import IO, Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from benchmark.cli.text import printable
from benchmark.runs.reporter import STANDIN_WARNING

DEEPEST = 32
"""Levels of a tree; further ones stand in one line."""
SOURCES = {"official": "official data", "standin": "STAND-IN data", "user": "your own data"}


class Plain(Console):
    """A console on which text is text: nothing in it is markup, an emoji's name, or obeyed by the terminal.

    Args:
        file: Where to.
    """

    def __init__(self, file: IO[str]) -> None:
        super().__init__(file=file, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is printed, drawn or measured comes through here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def console() -> Console:
    """Standard output."""
    return Plain(sys.stdout)


def spread(values: Sequence[float]) -> str:
    """``0.562 ±0.003``: mean and sample standard deviation; the mean alone for one value."""
    mean = f"{fmean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ±{stdev(values):.3f}"


def standin_warning(out: Console) -> None:
    """What must not be missed under numbers from generated data."""
    out.print(Panel(Text(STANDIN_WARNING), title="warning", border_style="bold red", width=80))


def matrix(names: Sequence[str], cell: Callable[[str], str]) -> Table:
    """Queries x databases; ``cell`` gets ``query->database``. Fits 80 columns with five modalities."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for query in names:
        cells = ["-" if query == name else cell(f"{query}->{name}") for name in names]
        table.add_row(query, *cells)
    return table


def rows(headers: Sequence[str], lines: Iterable[Sequence[Any]], title: str = "", *, whole: str = "") -> None:
    """A plain table; long cells are folded, never cut, except in the column ``whole``, which is kept."""
    out = console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title or None, title_justify="left")
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header == whole)
    for line in lines:
        table.add_row(*(Text(str(each)) for each in line))
    out.print(table)


def tree(document: Any, indent: int = 0) -> None:
    """Any JSON document as indented ``name: value`` lines."""
    out, space = console(), "  " * indent
    entries = document.items() if isinstance(document, Mapping) else ((None, each) for each in document)
    for name, value in entries:
        label = "-" if name is None else f"{name}:"
        if (
            indent < DEEPEST
            and value
            and (isinstance(value, Mapping) or (isinstance(value, list) and not _flat(value)))
        ):
            out.print(f"{space}{label}", soft_wrap=True)
            tree(value, indent + 1)
        else:
            text = ", ".join(map(_short, value)) if isinstance(value, list | Mapping) else _short(value)
            out.print(f"{space}{label} {text or 'none'}", soft_wrap=True)


def _flat(values: list[Any]) -> bool:
    return not any(isinstance(each, Mapping | list) for each in values)


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
