"""What every kind of report is made of: the runs collected, the tables and panels worked out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmark.core.registry import DATASETS, METHODS
from benchmark.records.comparable import common_words, comparable, why_not_comparable
from benchmark.records.record import RunRecord
from benchmark.records.store import StoredRun
from benchmark.report.catalog import methods_of
from benchmark.report.made import Curve, Made, Options, Panel
from benchmark.report.published import MEASURE, published_numbers
from benchmark.report.study import printed, summarise
from benchmark.report.tables import Line, build, heading
from benchmark.runs.reporter import Reporter
from benchmark.runs.runner import Outcome
from benchmark.runs.spec import RunSpec, command
from benchmark.studies.batch import Done, Entry, collect
from benchmark.studies.file import Study
from benchmark.studies.study import execute_study, open_study, variant_spec


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


def methods(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    """The table of every method on a dataset, added to ``made``."""
    names, entries = method_entries(dataset, options, reporter)
    judged = made.item.measure == MEASURE
    common = common_words([entry.run.record for entry in entries.values() if entry.run])
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
        possible = replace(entry.spec, pairwise=True) if "--pairwise" in entry.reason else entry.spec
        lines.append(
            Line(title_of(name), record, theirs, _note(record, common), entry.reason, command(possible))
        )
        if entry.run is not None:
            made.runs[entry.run.record.key] = entry.run
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


def _note(record: RunRecord | None, common: Sequence[str]) -> str:
    """What a reader must know of a row, and is not said of the whole table: how it was run, and changes."""
    if record is None:
        return ""
    parts = [word for word in record.words if word not in common]
    if record.method.transductive:
        parts.append("transductive: test items take part, without labels")
    if changed := [f"{name}={value}" for name, value in record.changed.items()]:
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
            made.runs[each.outcome.run.record.key] = each.outcome.run
    return study, spec, done


def study_tables(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    """The table of every study of the item, added to ``made``."""
    for name in made.item.studies:
        study, spec, done = run_study(made, name, dataset, options, reporter)
        lines = []
        for each in done:
            record = each.outcome.run.record if each.outcome else None
            theirs = printed(study, each.variant, dataset, options.published)
            one = variant_spec(each.variant, spec)
            note = f"{each.variant.description} ({each.variant.certainty})"
            lines.append(Line(each.variant.label, record, theirs, note, each.reason, command(one)))

        remarks = made.item.notes if dataset in made.item.datasets else ()

        def incomparable(record: RunRecord, spec: RunSpec = spec) -> str:
            reason = why_not_comparable(record, ignore=("recipe",))  # its own changes are the study
            return ", ".join(filter(None, (reason, "changed with --set" if spec.overrides else "")))

        made.tables.append(
            build(
                f"{made.item.name}-{dataset}",
                f"{study.title}, {dataset_title(dataset)}",
                lines,
                margin=options.margin,
                notes=(*remarks, *orderings(study, spec, done, options)),
                incomparable=incomparable,
            )
        )


def orderings(study: Study, spec: RunSpec, done: Sequence[Done], options: Options) -> list[str]:
    """One sentence: which orderings of the publication hold here by average, and which do not."""
    if all(each.outcome is None for each in done):
        return []
    found = summarise(study, spec, done, options.published)["orderings"]
    if not found:
        return []
    claims = [f"{each['better']} > {each['worse']} ({each['difference']:+.3f})" for each in found]
    not_held = [claim for claim, each in zip(claims, found, strict=True) if not each["holds"]]
    rest = f"; not: {', '.join(not_held)}" if not_held else ""
    held = len(found) - len(not_held)
    return [f"Of the publication's orderings by average, {held} of {len(found)} hold here{rest}."]


def curves(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    """A panel of precision-recall curves for every direction of the item, added to ``made``."""
    _, entries = method_entries(dataset, options, reporter)
    runs = {title_of(name): entry.run for name, entry in entries.items() if entry.run is not None}
    if not runs:
        made.problems.append(f"{made.item.name}: no method has a run on {dataset}")
        return
    comparable([run.record for run in runs.values()])
    made.runs |= {run.record.key: run for run in runs.values()}
    first = next(iter(runs.values())).record
    for direction in made.item.directions:
        if direction not in first.directions:
            made.problems.append(f"{made.item.name}: {dataset} has no direction {direction}")
            continue
        name = f"precision/{direction}"
        found = {title: run.arrays(name)[name] for title, run in runs.items()}
        lines = [Curve(title, np.linspace(0, 1, y.shape[1]), y) for title, y in found.items()]
        title = f"{dataset_title(dataset)}, {heading(direction, first.modalities)}"
        panel = Panel(title, "recall", "precision", tuple(lines), first.chance[direction])
        made.panels.setdefault(made.item.name, []).append(panel)


def study_figure(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    """A panel for every family of rows of the item's studies, added to ``made``."""
    for name in made.item.studies:
        study, _, done = run_study(made, name, dataset, options, reporter)
        rows = [(each.variant.label, each.outcome.run) for each in done if each.outcome is not None]
        if not rows:
            made.problems.append(f"{made.item.name}: no row of {name} has a run on {dataset}")
            continue
        comparable([run.record for _, run in rows])
        for family, members in _families(rows).items():
            means = np.array([run.record.values(MEASURE) for _, run in members]).T
            curve = Curve(title_of(members[0][1].record.method.id), np.arange(len(members)), means)
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
