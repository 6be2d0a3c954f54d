"""What every kind of report is made of: the runs collected, the tables and panels worked out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmark.core.registry import DATASETS, METHODS, Registry
from benchmark.records.comparable import common_words, comparable, why_not_comparable
from benchmark.records.record import RunRecord
from benchmark.records.store import StoredRun
from benchmark.report.catalog import methods_of
from benchmark.report.made import Curve, Made, Options, Panel
from benchmark.report.published import METRIC, published_numbers
from benchmark.report.study import printed, summarise
from benchmark.report.tables import Line, build, heading
from benchmark.runs.plan import make_plan
from benchmark.runs.reporter import Reporter
from benchmark.runs.spec import RunSpec, command
from benchmark.studies.batch import Attempt, attempts
from benchmark.studies.file import Study
from benchmark.studies.study import Row, execute_study, open_study


def attempted(dataset: str, options: Options, reporter: Reporter) -> tuple[list[str], dict[str, Attempt]]:
    """The methods of a dataset's table, and what came of the run of each that is there."""
    names = [n for n in methods_of(dataset, options.published) if not options.methods or n in options.methods]
    known = {name: entry for name, entry in METHODS.entries().items() if not entry.problem}
    for name in options.methods:
        METHODS.get(name)
    there = [name for name in names if name in known]
    plans = [make_plan(replace(options.spec, method=name, dataset=dataset)) for name in there]
    tried = attempts(plans, options.store, reporter, stored_only=options.stored_only, force=options.force)
    return names, dict(zip(there, tried, strict=True))


def title_of(registry: Registry, name: str) -> str:
    """Display name of a method or dataset, there or not; a description file is called what it is."""
    entry = registry.entries().get(name)
    return name if entry is None or entry.info is None else str(entry.info.title)


def methods(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    """The table of every method on a dataset, added to ``made``."""
    names, tried = attempted(dataset, options, reporter)
    judged = made.item.metric == METRIC
    common = common_words([each.record for each in tried.values() if each.record])
    lines = []
    for name in names:
        attempt = tried.get(name)
        theirs = published_numbers(dataset, name, options.published) if judged else {}
        if attempt is None or attempt.plan is None:
            there = METHODS.entries().get(name)
            reason = there.problem if there is not None else "the method is not there"
            lines.append(Line(title_of(METHODS, name), None, theirs, reason=reason))
            continue
        spec, note = attempt.plan.spec, _note(attempt.record, common)
        possible = replace(spec, pairwise=True) if "--pairwise" in attempt.reason else spec
        lines.append(
            Line(title_of(METHODS, name), attempt.record, theirs, note, attempt.reason, command(possible))
        )
        made.add(attempt)
    made.tables.append(
        build(
            f"{made.item.name}-{dataset}",
            f"{made.item.title.partition(':')[0].partition(' (')[0]}: {title_of(DATASETS, dataset)}",
            lines,
            made.item.metric,
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
) -> tuple[Study, RunSpec, list[Row]]:
    """A study's rows, computed where they are missing; its runs are added to ``made``."""
    spec = replace(options.spec, method="", dataset=dataset)
    study, spec = open_study(name, spec, reporter)
    rows = execute_study(
        study, spec, options.store, reporter, stored_only=options.stored_only, force=options.force
    )
    for row in rows:
        made.add(row.attempt)
    return study, spec, rows


def study_tables(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    """The table of every study of the item, added to ``made``."""
    for name in made.item.studies:
        study, spec, rows = run_study(made, name, dataset, options, reporter)
        lines = []
        for row in rows:
            theirs = printed(study, row.variant, dataset, options.published)
            note = f"{row.variant.description} ({row.variant.certainty})"
            found, reason = row.attempt.record, row.attempt.reason
            lines.append(Line(row.variant.label, found, theirs, note, reason, command(row.spec)))

        remarks = made.item.notes if dataset in made.item.datasets else ()

        def incomparable(record: RunRecord, spec: RunSpec = spec) -> str:
            reason = why_not_comparable(record, ignore=("recipe",))  # its own changes are the study
            return ", ".join(filter(None, (reason, "changed with --set" if spec.overrides else "")))

        made.tables.append(
            build(
                f"{made.item.name}-{dataset}",
                f"{study.title}, {title_of(DATASETS, dataset)}",
                lines,
                margin=options.margin,
                notes=(*remarks, *orderings(study, spec, rows, options)),
                incomparable=incomparable,
            )
        )


def orderings(study: Study, spec: RunSpec, rows: Sequence[Row], options: Options) -> list[str]:
    """One sentence: which orderings of the publication hold here by average, and which do not."""
    if all(row.attempt.run is None for row in rows):
        return []
    found = summarise(study, spec, rows, options.published)["orderings"]
    if not found:
        return []
    claims = [f"{each['better']} > {each['worse']} ({each['difference']:+.3f})" for each in found]
    not_held = [claim for claim, each in zip(claims, found, strict=True) if not each["holds"]]
    rest = f"; not: {', '.join(not_held)}" if not_held else ""
    held = len(found) - len(not_held)
    return [f"Of the publication's orderings by average, {held} of {len(found)} hold here{rest}."]


def curves(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    """A panel of precision-recall curves for every direction of the item, added to ``made``."""
    _, tried = attempted(dataset, options, reporter)
    runs = {title_of(METHODS, name): each.run for name, each in tried.items() if each.run is not None}
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
        title = f"{title_of(DATASETS, dataset)}, {heading(direction, first.modalities)}"
        panel = Panel(title, "recall", "precision", tuple(lines), first.chance[direction])
        made.panels.setdefault(made.item.name, []).append(panel)


def study_figure(made: Made, dataset: str, options: Options, reporter: Reporter) -> None:
    """A panel for every family of rows of the item's studies, added to ``made``."""
    for name in made.item.studies:
        study, _, tried = run_study(made, name, dataset, options, reporter)
        rows = [(row.variant.label, row.attempt.run) for row in tried if row.attempt.run]
        if not rows:
            made.problems.append(f"{made.item.name}: no row of {name} has a run on {dataset}")
            continue
        comparable([run.record for _, run in rows])
        for family, members in _families(rows).items():
            means = np.array([run.record.values(METRIC) for _, run in members]).T
            curve = Curve(title_of(METHODS, members[0][1].record.method.id), np.arange(len(members)), means)
            shown = tuple(label for label, _ in members)
            panel = Panel(
                f"{title_of(DATASETS, dataset)}: {family or study.title}",
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
