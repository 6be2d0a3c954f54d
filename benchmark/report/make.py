"""From an item of the catalog to files: collect the runs, work out tables and figures, write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.errors import BenchmarkError
from benchmark.report import csvs, latex, markdown
from benchmark.report.catalog import Item
from benchmark.report.figures import critical_difference, draw
from benchmark.report.parts import Made, Options, curves, methods, study_figure, study_tables
from benchmark.report.statistics import ROUNDING
from benchmark.runner import Reporter, Silent
from benchmark.store import StoredRun

KINDS = {"methods": methods, "study": study_tables, "curves": curves, "study-figure": study_figure}

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
        order = made.order
        texts = {
            ".md": f"# {made.item.title}\n\n{tables}\n{markdown.significance(made.comparisons, order)}",
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


def write_text(file: Path, text: str) -> Path:
    """Write a text file, whole or not at all."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
    return file


def join_csv(parts: Sequence[str]) -> str:
    """Several tables in one file with one heading."""
    first, *others = parts
    return first + "".join(part.partition("\n")[2] for part in others)


def caption_of(runs: Mapping[str, StoredRun]) -> list[str]:
    """Short facts of the runs behind a figure."""
    records = [run.record for run in runs.values()]
    if not records:
        return []
    seeds = sorted({len(record["seeds"]) for record in records})
    of_seeds = "one seed" if seeds == [1] else f"{' or '.join(map(str, seeds))} seeds"
    sources = sorted({record["dataset"]["source"].replace("standin", "STAND-IN") for record in records})
    profiles = sorted({record["profile"] for record in records})
    date = max(str(record["started"]) for record in records)[:10]
    return [
        f"{' and '.join(sources)} data, {' and '.join(profiles)} profile, {of_seeds}, computed until {date}."
    ]
