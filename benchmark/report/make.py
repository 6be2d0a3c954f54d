"""From an item of the catalog to files: collect the runs, work out tables and figures, write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark.disk import write_text
from benchmark.errors import BenchmarkError
from benchmark.report.catalog import Item
from benchmark.report.formats import csv as csvs
from benchmark.report.formats import latex, markdown
from benchmark.report.formats.figures import critical_difference, draw
from benchmark.report.kinds import curves, methods, study_figure, study_tables
from benchmark.report.made import Made, Options, caption_of
from benchmark.runs.reporter import Reporter, Silent
from benchmark.stats.intervals import ROUNDING

KINDS = {"methods": methods, "study": study_tables, "curves": curves, "study-figure": study_figure}


def make(item: Item, options: Options, reporter: Reporter | None = None) -> Made:
    """Compute what is missing, then work out and write one item.

    Raises:
        BenchmarkError: A name that does not exist, or runs that cannot stand in one table.
    """
    reporter = reporter or Silent()
    datasets = options.datasets or item.datasets
    if not options.margin > ROUNDING:
        raise BenchmarkError(f"--margin {options.margin:g}: must be greater than the rounding, {ROUNDING:g}")
    if not datasets:
        raise BenchmarkError(f"report {item.name} needs --dataset")
    made = Made(item)
    for dataset in datasets:
        KINDS[item.kind](made, dataset, options, reporter)
    return made


def write(made: Made, folder: Path) -> list[Path]:
    """Write the files of an item: ``<name>.md``, ``.tex`` and ``.csv``, and figures.

    Every file is replaced in one step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = made.item.name
    if made.tables:
        tables = "\n".join(markdown.render(table) for table in made.tables)
        order, title = made.order, markdown.plain(made.item.title)
        texts = {
            ".md": f"# {title}\n\n{tables}\n{markdown.significance(made.comparisons, order)}",
            ".tex": latex.render(made.tables),
            ".csv": join_csv([csvs.render(table) for table in made.tables]),
        }
        for suffix, text in texts.items():
            made.files.append(write_text(folder / f"{name}{suffix}", text))
        if order is not None:
            note = f"{made.item.title}: average rank over {order.blocks} directions, 1 is best."
            ranks = dict(zip(order.methods, order.average, strict=True))
            place = folder / f"{name}-ranks"
            made.files += critical_difference(ranks, order.groups, order.critical_difference, place, note)
    for figure, panels in made.panels.items():
        note = " ".join(caption_of(made.runs))
        made.files += draw(panels, folder / figure, note, columns=3 if len(panels) == 3 else 2)
    return made.files


def join_csv(parts: Sequence[str]) -> str:
    """Several tables in one file with one heading."""
    first, *others = parts
    return first + "".join(part.partition("\n")[2] for part in others)
