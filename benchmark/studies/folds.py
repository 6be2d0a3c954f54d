"""``--split all``: every fold of a dataset as a run of its own, and the numbers of all of them together.

Where splits are folds of one whole, every item is a test item once. One fold is a small sample; the mean
over the queries of all folds uses every item. Rankings are not merged: a query meets the database of its own
fold.

This module does not import torch: folds that are stored already are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

from benchmark.core.dataset import find_dataset
from benchmark.errors import BenchmarkError
from benchmark.records.comparable import FOLDS, difference
from benchmark.records.record import RunRecord
from benchmark.records.store import Store
from benchmark.runs.plan import make_plan
from benchmark.runs.reporter import Reporter
from benchmark.runs.runner import Outcome
from benchmark.runs.spec import RunSpec
from benchmark.studies.batch import attempts

ALL = "all"
COMMON = ("method", "profile", "seeds", "precision", "scaling", "modalities", "options", "words")
"""What is said once of all folds, as their records name it."""


def fold_specs(spec: RunSpec) -> tuple[RunSpec, ...]:
    """One run for every fold of the dataset, in the dataset's order.

    Raises:
        BenchmarkError: The dataset's splits are not folds.
    """
    info = find_dataset(spec.dataset, spec.request)[0].info
    if not info.folds:
        why = (
            f"its splits ({', '.join(info.splits)}) are alternatives, not folds of one whole; choose one"
            if info.splits
            else "it has one split only; leave the option out"
        )
        raise BenchmarkError(f"--split {ALL}: {info.id} cannot be pooled, {why}")
    return tuple(replace(spec, request=replace(spec.request, split=name)) for name in info.splits)


def execute_folds(
    spec: RunSpec, store: Store | None = None, reporter: Reporter | None = None, *, force: bool = False
) -> list[Outcome]:
    """The runs of all folds, each read from the store or computed and stored.

    What was interrupted goes on with the first fold that is not stored. Arguments as in
    :func:`benchmark.runs.runner.execute`.

    Raises:
        BenchmarkError: A fold that cannot be computed; there is nothing to pool without it.
    """
    specs = fold_specs(spec)
    plans, names = [make_plan(fold) for fold in specs], [f"split {fold.request.split}" for fold in specs]
    outcomes = []
    for attempt in attempts(plans, store or Store(), reporter, names=names, force=force):
        if attempt.run is None:
            raise BenchmarkError(attempt.reason)
        outcomes.append(Outcome(attempt.run, attempt.cached))
    return outcomes


def pool(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The numbers of all folds together.

    Args:
        outcomes: The runs of all folds of one dataset.

    Returns:
        JSON-ready: what the runs have in common; ``results``, per metric and direction a summary (below) of
        the mean over all queries of all folds; ``averages``, the same per metric, averaged over directions;
        ``chance``, ``queries`` per direction; and ``runs``. A summary holds ``mean`` (over seeds),
        ``per_seed``, ``per_split`` (mean over seeds) and ``split_sd``, the sample deviation of the latter.

    Raises:
        BenchmarkError: Runs that must not be pooled.
    """
    records = [outcome.run.record for outcome in outcomes]
    _check(records)
    first = records[0]
    whole, options = first.to_json(), first.options
    metrics, directions = list(first.results), first.directions
    queries = {
        direction: [record.sizes[direction]["queries"] for record in records] for direction in directions
    }
    names = [f"ap/{metric}/{direction}" for metric in metrics for direction in directions]
    arrays = [outcome.run.arrays(*names) for outcome in outcomes]
    results: dict[str, dict[str, Any]] = {}
    averages = {}
    for metric in metrics:
        results[metric] = {}
        for direction in directions:
            totals = [fold[f"ap/{metric}/{direction}"].sum(axis=1, dtype="float64") for fold in arrays]
            seeds = (sum(totals) / sum(queries[direction])).tolist()
            splits = [record.mean(metric, direction) for record in records]
            results[metric][direction] = _summary(seeds, splits)
        columns = zip(*(each["per_seed"] for each in results[metric].values()), strict=True)
        splits = [record.mean(metric) for record in records]
        averages[metric] = _summary([fmean(column) for column in columns], splits)
    chance = {
        direction: _weighted([record.chance[direction] for record in records], queries[direction])
        for direction in directions
    }
    return {
        **{name: whole[name] for name in COMMON},
        "dataset": {name: whole["dataset"][name] for name in ("id", "title", "source")},
        "leave_own_out": options.get("leave_own_out", False),
        "pairwise": first.is_pairwise,
        "label_noise": options.get("label_noise", {}),
        "splits": [record.split for record in records],
        "results": results,
        "averages": averages,
        "chance": chance,
        "queries": {direction: sum(counts) for direction, counts in queries.items()},
        "runs": [_run(outcome) for outcome in outcomes],
    }


def _check(records: Sequence[RunRecord]) -> None:
    """Refuse to pool what differs in more than the fold."""
    first = records[0]
    for record in records[1:]:
        if name := difference(first, record, FOLDS):
            both = f"{first.split} and {record.split}"
            raise BenchmarkError(f"--split {ALL}: splits {both} differ in {name}; they cannot be pooled")
    if len({record.key for record in records}) < len(records):
        raise BenchmarkError(f"--split {ALL}: two splits hold the same data; they are not folds of one whole")


def _summary(seeds: list[float], splits: list[float]) -> dict[str, Any]:
    return {"mean": fmean(seeds), "per_seed": seeds, "per_split": splits, "split_sd": stdev(splits)}


def _weighted(values: Sequence[float], weights: Sequence[int]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _run(outcome: Outcome) -> dict[str, Any]:
    record = outcome.run.record.to_json()
    kept = ("key", "results", "averages", "chance", "sizes", "warnings", "timings", "device")
    about = {"split": record["dataset"]["split"], "fingerprint": record["dataset"]["fingerprint"]}
    stored = {"stored": str(outcome.run.folder), "cached": outcome.cached}
    return {**about, **stored, **{name: record[name] for name in kept}}
