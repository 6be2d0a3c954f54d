"""Studies: sets of runs, read side by side. What they are is said in :mod:`benchmark.study_file`.

Runs that are stored are read; the others are computed one after the other, so that a study that was
interrupted goes on with the first run that is missing. This module does not import torch.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmark.errors import BenchmarkError, TrainingError, UnsupportedError
from benchmark.folds import Once
from benchmark.plan import RunSpec, make_plan
from benchmark.published import MEASURE, published_folder, why_not_comparable
from benchmark.registry import METHODS
from benchmark.runner import Outcome, Reporter, Silent, execute, load
from benchmark.store import Store
from benchmark.study_file import Study, Variant, read_document, read_study, study_file
from benchmark.together import execute_together, groups

AVERAGES = ("avg", "avg_all_20")
"""Names of the mean over all directions in published tables."""


@dataclass(frozen=True)
class Done:
    """A row that was tried: its run, or the reason why there is none."""

    variant: Variant
    outcome: Outcome | None
    reason: str = ""


def open_study(name: str, spec: RunSpec, reporter: Reporter | None = None) -> tuple[Study, RunSpec]:
    """A study on the dataset of ``spec``, and the spec with the study's seeds where it names none.

    Args:
        name: Of the study, or the path of its file.
        spec: Everything but method and the study's changes.
        reporter: Where to report that data are read to learn their modalities.

    Raises:
        BenchmarkError: No such study or dataset, or none of the study's methods is there.
    """
    file = study_file(name)
    methods = list(dict.fromkeys(str(run.get("method", "")) for run in read_document(file).get("run", ())))
    known = METHODS.entries()
    there = [method for method in methods if method in known]
    if not there:
        raise BenchmarkError(f"study {name}: none of its methods is there ({', '.join(methods)})")
    plan = make_plan(replace(spec, method=there[0]))
    if not plan.modalities:
        plan = load(plan, reporter or Silent())[2]
    study = read_study(file, plan.modalities, plan.profile)
    return study, replace(spec, seeds=spec.seeds or study.seeds)


def execute_study(
    study: Study,
    spec: RunSpec,
    store: Store | None = None,
    reporter: Reporter | None = None,
    *,
    force: bool = False,
) -> list[Done]:
    """Every row of a study: read from the store, or computed and stored.

    A method that is not there, cannot serve the data, or fails in training leaves its row without numbers;
    every other problem ends the study.
    """
    store, once = store or Store(), Once(reporter or Silent())
    known = METHODS.entries()
    fresh = _train_groups([variant_spec(v, spec) for v in present(study)], store, once, force=force)
    done = []
    for number, variant in enumerate(study.variants, 1):
        if variant.method not in known:
            done.append(Done(variant, None, f"method {variant.method} is not there"))
            continue
        once.say(f"{variant.label}, {number} of {len(study.variants)}: {variant.description}")
        try:
            one = variant_spec(variant, spec)
            outcome = execute(one, store, once, force=force and make_plan(one).key() not in fresh)
            key = str(outcome.run.record["key"])
            done.append(Done(variant, replace(outcome, cached=outcome.cached and key not in fresh)))
            if not outcome.cached:
                fresh.add(key)  # a second row of the same run reads it, with --force too
        except (UnsupportedError, TrainingError) as error:
            done.append(Done(variant, None, str(error)))
    return done


def _train_groups(specs: Sequence[RunSpec], store: Store, reporter: Reporter, *, force: bool) -> set[str]:
    """Compute what may train together; the keys of the runs that are new.

    A group that fails is left to :func:`execute`, which finds out the run that cannot be trained.
    """
    fresh: set[str] = set()
    for group in groups(specs, store, force=force):
        try:
            outcomes = execute_together(group, store, reporter, force=force)
        except (UnsupportedError, TrainingError) as error:
            reporter.say(f"{len(group)} runs together: {error}; now one by one")
            continue
        fresh |= {str(each.run.record["key"]) for each in outcomes if not each.cached}
    return fresh


def present(study: Study) -> list[Variant]:
    """The rows whose method is there."""
    known = METHODS.entries()
    return [variant for variant in study.variants if variant.method in known]


def variant_spec(variant: Variant, spec: RunSpec) -> RunSpec:
    """The run of one row; the study's changes come after the user's."""
    return replace(spec, method=variant.method, overrides=(*spec.overrides, *variant.changes))


def summarise(
    study: Study, spec: RunSpec, done: Sequence[Done], folder: Path | None = None
) -> dict[str, Any]:
    """A study as one JSON document.

    Args:
        study: What was asked.
        spec: As given to :func:`execute_study`.
        done: Its result.
        folder: Where published tables are; those of the checkout if not given.

    Returns:
        ``rows``, each with its description, run, numbers per direction and seed, and published numbers where
        they are comparable; ``chance`` per direction; ``orderings`` with the difference here; ``missing``,
        one line per reason why rows have no numbers.

    Raises:
        BenchmarkError: No row has numbers.
    """
    records = {d.variant.label: d.outcome.run.record for d in done if d.outcome is not None}
    missing: dict[str, list[str]] = {}
    for each in done:
        if each.outcome is None:
            missing.setdefault(each.reason, []).append(each.variant.label)
    lines = [f"{reason}; without numbers: {', '.join(labels)}" for reason, labels in missing.items()]
    if not records:
        raise BenchmarkError(f"study {study.name}: no row has numbers: {'; '.join(lines)}")
    first = next(iter(records.values()))
    rows = [_row(study, spec, each, folder) for each in done if each.outcome is not None]
    published = {row["label"]: row["published"] for row in rows}
    return {
        "study": study.name,
        "title": study.title,
        "dataset": {name: first["dataset"][name] for name in ("id", "title", "source", "split")},
        **{name: first[name] for name in ("profile", "seeds", "precision", "scaling", "modalities")},
        "overrides": list(spec.overrides),
        "measure": MEASURE,
        "chance": first["chance"],
        "rows": rows,
        "orderings": [
            _ordering(pair, records, published) for pair in study.orderings if set(pair) <= set(records)
        ],
        "missing": lines,
    }


def _row(study: Study, spec: RunSpec, done: Done, folder: Path | None) -> dict[str, Any]:
    variant, outcome = done.variant, done.outcome
    assert outcome is not None, "only rows with numbers"
    record = outcome.run.record
    reason = why_not_comparable({**record, "recipe": {}})  # the study's own changes are the published ones
    if spec.overrides:
        reason = ", ".join(filter(None, (reason, "changed with --set")))
    return {
        "label": variant.label,
        "description": variant.description,
        "certainty": variant.certainty,
        "method": variant.method,
        "set": list(variant.changes),
        "key": record["key"],
        "stored": str(outcome.run.folder),
        "cached": outcome.cached,
        "results": record["results"][MEASURE],
        "average": record["averages"][MEASURE],
        "map@50": record["averages"]["map@50"],
        "published": {} if reason else printed(study, variant, record["dataset"]["id"], folder),
        "not_comparable": reason,
        "seconds": record["timings"]["total"],
        "warnings": record["warnings"],
    }


def printed(study: Study, variant: Variant, dataset: str, folder: Path | None = None) -> dict[str, float]:
    """Published MAP@all of a row per direction and ``avg``; empty if the publication has none."""
    folder, about = folder or published_folder(), study.published
    if folder is None or not about or not variant.printed or about.get("dataset", dataset) != dataset:
        return {}
    wanted = dict(variant.printed)
    if "dataset" not in about:
        wanted["dataset"] = dataset
    numbers = {}
    with (folder / about["file"]).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if all(row.get(column) == value for column, value in wanted.items()):
                way = row[about["direction"]]
                numbers["avg" if way in AVERAGES else way] = float(row[about["value"]])
    return numbers


def _ordering(
    pair: tuple[str, str], records: Mapping[str, Any], published: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Whether the first row is better than the second by average, seed by seed."""
    ours = [records[label]["averages"][MEASURE] for label in pair]
    differences = [a - b for a, b in zip(*ours, strict=True)]
    theirs = [published[label].get("avg") for label in pair]
    return {
        "better": pair[0],
        "worse": pair[1],
        "holds": fmean(differences) > 0,
        "difference": fmean(differences),
        "deviation": stdev(differences) if len(differences) > 1 else None,
        "per_seed": differences,
        "published_difference": theirs[0] - theirs[1] if theirs[0] and theirs[1] else None,
    }
