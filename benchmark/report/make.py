"""From an item of the catalog to files: collect the runs, work out tables and figures, write them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import BenchmarkError
from benchmark.plan import RunSpec
from benchmark.published import MEASURE, published_numbers, why_not_comparable
from benchmark.registry import DATASETS, METHODS
from benchmark.report import csvs, latex, markdown
from benchmark.report.catalog import Item, methods_of
from benchmark.report.comparable import comparable
from benchmark.report.figures import Curve, Panel, critical_difference, draw
from benchmark.report.grid import Entry, collect, command
from benchmark.report.significance import against_best, ranking
from benchmark.report.statistics import ROUNDING
from benchmark.report.tables import AVERAGE, Line, Table, build, heading, values_of
from benchmark.runner import Outcome, Reporter, Silent
from benchmark.store import Store, StoredRun
from benchmark.study import Done, execute_study, open_study, printed, variant_spec
from benchmark.study_file import Study


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
        published: Folder of the published tables; the checkout's if not given.
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
        {"methods": _methods, "study": _study, "curves": _curves, "study-figure": _study_figure}[item.kind](
            made, dataset, options, reporter
        )
    return made


def write(made: Made, folder: Path) -> list[Path]:
    """Write the files of an item: ``<name>.md``, ``.tex`` and ``.csv``, and figures.

    Every file is replaced in one step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = made.item.name
    if made.tables:
        tables = "\n".join(markdown.render(table) for table in made.tables)
        found = [each for table in made.tables if (each := against_best(table, made.runs))]
        order = ranking(made.tables) if made.item.kind == "methods" else None
        texts = {
            ".md": f"# {made.item.title}\n\n{tables}\n{markdown.significance(found, order)}",
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


def method_entries(dataset: str, options: Options, reporter: Reporter) -> tuple[list[str], dict[str, Entry]]:
    """The methods of a dataset's table, and the run of each that is there."""
    names = [n for n in methods_of(dataset, options.published) if not options.methods or n in options.methods]
    known = {name: entry for name, entry in METHODS.entries().items() if not entry.problem}
    for name in options.methods:
        METHODS.get(name)
    specs = [replace(options.spec, method=name, dataset=dataset) for name in names if name in known]
    entries = collect(specs, options.store, reporter, stored_only=options.stored_only, force=options.force)
    return names, {entry.spec.method: entry for entry in entries}


def title_of(method: str) -> str:
    """Display name of a method, there or not."""
    entry = METHODS.entries().get(method)
    return entry.info.title if entry is not None and entry.info is not None else method


def dataset_title(dataset: str) -> str:
    """Display name of a dataset id or description file."""
    entry = DATASETS.entries().get(dataset)
    return entry.info.title if entry is not None and entry.info is not None else dataset


def _methods(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    names, entries = method_entries(dataset, options, reporter)
    judged = made.item.measure == MEASURE
    lines = []
    for name in names:
        entry = entries.get(name)
        theirs = published_numbers(dataset, name, options.published) if judged else {}
        if entry is None:
            there = METHODS.entries().get(name)
            reason = there.problem if there is not None else "the method is not there"
            lines.append(Line(title_of(name), None, theirs, reason=reason))
            continue
        record = entry.run.record if entry.run else None
        lines.append(Line(title_of(name), record, theirs, _note(record), entry.reason, command(entry.spec)))
        if entry.run is not None:
            made.runs[entry.run.record["key"]] = entry.run
    made.tables.append(
        build(
            f"{made.item.name}-{dataset}",
            f"{made.item.title.partition(':')[0].partition(' (')[0]}: {dataset_title(dataset)}",
            lines,
            made.item.measure,
            judge=judged,
            margin=options.margin,
            notes=made.item.notes if dataset in made.item.datasets else (),
        )
    )


def _note(record: Mapping[str, Any] | None) -> str:
    """What a reader must know of a row: how it was served, and settings other than the default."""
    if record is None:
        return ""
    parts = []
    if record.get("protocol") == "pairwise":
        parts.append("one model for every two modalities")
    if record["method"].get("transductive"):
        parts.append("transductive: test items take part, without labels")
    changed = [f"{n}={v['value']}" for n, v in record["recipe"].items() if v["origin"] == "--set"]
    if changed:
        parts.append("changed with --set " + " ".join(changed))
    return "; ".join(parts)


def run_study(
    made: Made, name: str, dataset: str, options: Options, reporter: Reporter
) -> tuple[Study, RunSpec, list[Done]]:
    """A study's rows, computed where they are missing; its runs are added to ``made``."""
    spec = replace(options.spec, method="", dataset=dataset)
    study, spec = open_study(name, spec, reporter)
    if options.stored_only:
        done = []
        for variant in study.variants:
            [entry] = collect([variant_spec(variant, spec)], options.store, stored_only=True)
            outcome = Outcome(entry.run, cached=True) if entry.run else None
            done.append(Done(variant, outcome, entry.reason))
    else:
        done = execute_study(study, spec, options.store, reporter, force=options.force)
    for each in done:
        if each.outcome is not None:
            made.runs[each.outcome.run.record["key"]] = each.outcome.run
    return study, spec, done


def _study(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    for name in made.item.studies:
        study, spec, done = run_study(made, name, dataset, options, reporter)
        lines = []
        for each in done:
            record = each.outcome.run.record if each.outcome else None
            theirs = printed(study, each.variant, dataset, options.published)
            one = variant_spec(each.variant, spec)
            note = f"{each.variant.description} ({each.variant.certainty})"
            lines.append(Line(each.variant.label, record, theirs, note, each.reason, command(one)))

        def incomparable(record: Mapping[str, Any], spec: RunSpec = spec) -> str:
            reason = why_not_comparable({**record, "recipe": {}})  # its own changes are the study
            return ", ".join(filter(None, (reason, "changed with --set" if spec.overrides else "")))

        made.tables.append(
            build(
                f"{made.item.name}-{dataset}",
                f"{study.title}, {dataset_title(dataset)}",
                lines,
                margin=options.margin,
                notes=made.item.notes if dataset in made.item.datasets else (),
                incomparable=incomparable,
            )
        )


def _curves(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    _, entries = method_entries(dataset, options, reporter)
    runs = {title_of(name): entry.run for name, entry in entries.items() if entry.run is not None}
    if not runs:
        made.problems.append(f"{made.item.name}: no method has a run on {dataset}")
        return
    comparable([run.record for run in runs.values()])
    made.runs |= {run.record["key"]: run for run in runs.values()}
    first = next(iter(runs.values())).record
    for direction in made.item.directions:
        if direction not in first["results"][MEASURE]:
            made.problems.append(f"{made.item.name}: {dataset} has no direction {direction}")
            continue
        name = f"precision/{direction}"
        found = {title: run.arrays(name)[name] for title, run in runs.items()}
        curves = [Curve(title, np.linspace(0, 1, y.shape[1]), y) for title, y in found.items()]
        title = f"{dataset_title(dataset)}, {heading(direction, first['modalities'])}"
        panel = Panel(title, "recall", "precision", tuple(curves), first["chance"][direction])
        made.panels.setdefault(made.item.name, []).append(panel)


def _study_figure(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    for name in made.item.studies:
        study, _, done = run_study(made, name, dataset, options, reporter)
        rows = [(each.variant.label, each.outcome.run) for each in done if each.outcome is not None]
        if not rows:
            made.problems.append(f"{made.item.name}: no row of {name} has a run on {dataset}")
            continue
        comparable([run.record for _, run in rows])
        for family, members in _families(rows).items():
            means = np.array([values_of(run.record, AVERAGE, MEASURE) for _, run in members]).T
            curve = Curve(title_of(members[0][1].record["method"]["id"]), np.arange(len(members)), means)
            shown = tuple(label for label, _ in members)
            panel = Panel(
                f"{dataset_title(dataset)}: {family or study.title}",
                family or "",
                "average MAP@all",
                (curve,),
                categories=shown,
                bars=not family,
            )
            made.panels.setdefault(made.item.name, []).append(panel)


def _families(rows: Sequence[tuple[str, StoredRun]]) -> dict[str, list[tuple[str, StoredRun]]]:
    """Rows ``alpha 0.1`` by their word, labelled by the number; those without one under the empty name."""
    found: dict[str, list[tuple[str, StoredRun]]] = {}
    for label, run in rows:
        match = re.fullmatch(r"(\S+) ([-+.\de]+)", label)
        family, shown = (match[1], match[2]) if match else ("", label)
        found.setdefault(family, []).append((shown, run))
    return found
