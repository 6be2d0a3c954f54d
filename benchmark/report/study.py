"""A study as one JSON document, next to its published numbers."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmark.disk import published_folder
from benchmark.errors import BenchmarkError
from benchmark.records.comparable import why_not_comparable
from benchmark.records.record import AVERAGE, RunRecord
from benchmark.records.store import StoredRun
from benchmark.report.published import METRIC
from benchmark.runs.spec import RunSpec
from benchmark.studies.file import Study, Variant
from benchmark.studies.study import Row

AVERAGES = ("avg", "avg_all_20")
"""Names of the mean over all directions in published tables."""


def summarise(study: Study, spec: RunSpec, rows: Sequence[Row], folder: Path | None = None) -> dict[str, Any]:
    """A study as one JSON document.

    Args:
        study: What was asked.
        spec: As given to :func:`execute_study`.
        rows: Its result.
        folder: Where published tables are; the suite's own if not given.

    Returns:
        ``rows``, each with its description, run, numbers per direction and seed, and published numbers where
        they are comparable; ``chance`` per direction; ``orderings`` with the difference here; ``missing``,
        one line per reason why rows have no numbers.

    Raises:
        BenchmarkError: No row has numbers.
    """
    records = {row.variant.label: row.attempt.record for row in rows if row.attempt.record}
    missing: dict[str, list[str]] = {}
    for row in rows:
        if row.attempt.run is None:
            missing.setdefault(row.attempt.reason, []).append(row.variant.label)
    lines = [f"{reason}; without numbers: {', '.join(labels)}" for reason, labels in missing.items()]
    if not records:
        raise BenchmarkError(f"study {study.name}: no row has numbers: {'; '.join(lines)}")
    first = next(iter(records.values())).to_json()
    described = [_row(study, spec, row, row.attempt.run, folder) for row in rows if row.attempt.run]
    published = {each["label"]: each["published"] for each in described}
    return {
        "study": study.name,
        "title": study.title,
        "dataset": {name: first["dataset"][name] for name in ("id", "title", "source", "split")},
        **{name: first[name] for name in ("profile", "seeds", "precision", "scaling", "modalities")},
        "overrides": list(spec.overrides),
        "metric": METRIC,
        "chance": first["chance"],
        "rows": described,
        "orderings": [
            _ordering(pair, records, published) for pair in study.orderings if set(pair) <= set(records)
        ],
        "missing": lines,
    }


def _row(study: Study, spec: RunSpec, row: Row, run: StoredRun, folder: Path | None) -> dict[str, Any]:
    variant, record = row.variant, run.record
    reason = why_not_comparable(record, ignore=("recipe",))  # the study's own changes are the published ones
    if spec.overrides:
        reason = ", ".join(filter(None, (reason, "changed with --set")))
    return {
        "label": variant.label,
        "description": variant.description,
        "certainty": variant.certainty,
        "method": variant.method,
        "set": list(variant.changes),
        "key": record.key,
        "stored": str(run.folder),
        "cached": row.attempt.cached,
        "results": record.results[METRIC],
        "average": record.values(METRIC),
        "map@50": record.values("map@50"),
        "published": {} if reason else printed(study, variant, record.dataset.id, folder),
        "not_comparable": reason,
        "seconds": record.timings["total"],
        "warnings": list(record.warnings),
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
                direction = row[about["direction"]]
                numbers[AVERAGE if direction in AVERAGES else direction] = float(row[about["value"]])
    return numbers


def _ordering(
    pair: tuple[str, str], records: Mapping[str, RunRecord], published: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Whether the first row is better than the second by average, seed by seed."""
    ours = [records[label].values(METRIC) for label in pair]
    differences = [a - b for a, b in zip(*ours, strict=True)]
    theirs = [published[label].get(AVERAGE) for label in pair]
    return {
        "better": pair[0],
        "worse": pair[1],
        "holds": fmean(differences) > 0,
        "difference": fmean(differences),
        "deviation": stdev(differences) if len(differences) > 1 else None,
        "per_seed": differences,
        "published_difference": theirs[0] - theirs[1] if theirs[0] and theirs[1] else None,
    }
