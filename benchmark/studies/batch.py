"""The one loop over many runs: found, or computed one after the other, with an estimate of the time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from benchmark.disk import published_folder
from benchmark.errors import TrainingError, UnsupportedError
from benchmark.records.record import RunRecord
from benchmark.records.store import Store, StoredRun
from benchmark.runs.fingerprints import recall
from benchmark.runs.plan import Plan
from benchmark.runs.reporter import Once, Reporter, Silent
from benchmark.runs.runner import announce, execute_plan, load, look_up

TIMINGS = "timings.csv"
Measured = Mapping[tuple[str, str, str], float]
"""Seconds per seed, by method, dataset and profile."""


@dataclass(frozen=True)
class Attempt:
    """A run that was asked for.

    Attributes:
        plan: The run, worked out; ``None`` where not even that could be done.
        run: It, stored; ``None`` if there is none.
        reason: Why there is none; empty if there is.
        cached: It was stored before.
    """

    plan: Plan | None
    run: StoredRun | None = None
    reason: str = ""
    cached: bool = False

    @property
    def record(self) -> RunRecord | None:
        """Of the run, if there is one."""
        return self.run.record if self.run else None


def attempts(
    plans: Sequence[Plan],
    store: Store,
    reporter: Reporter | None = None,
    *,
    names: Sequence[str] = (),
    stored_only: bool = False,
    force: bool = False,
) -> Iterator[Attempt]:
    """Every run, read from the store or computed and stored; given out one by one, as they are there.

    A method that cannot serve the data or fails in training is an attempt without a run; every other problem
    ends the batch. What was interrupted goes on with the first run that is missing. This is the one loop over
    many runs: studies, folds, tables and figures are made of what it gives.

    Args:
        plans: The runs, worked out once.
        store: Where they are kept.
        reporter: Where to report progress.
        names: What to call each in progress; method and dataset if not given.
        stored_only: Compute nothing.
        force: Compute even what is stored; a run that occurs twice is computed once.
    """
    once = Once(reporter or Silent())
    for plan in {(plan.profile_reason, plan.located.source): plan for plan in plans}.values():
        announce(plan, once)
    if stored_only:
        plans = [plan if plan.known else known(plan, once) for plan in plans]
    found = [look_up(plan, store, force=force) for plan in plans]
    missing = [plan for plan, run in zip(plans, found, strict=True) if run is None]
    if missing and not stored_only:
        once.say(_announcement(missing, len(plans), store))
    names = names or [f"{plan.method.id} on {plan.dataset.id}" for plan in plans]
    fresh: set[str] = set()
    number = 0
    for plan, run, name in zip(plans, found, names, strict=True):
        if run is not None or stored_only:
            yield Attempt(plan, run, "" if run else "not computed", cached=run is not None)
            continue
        number += 1
        once.say(f"{name}, {number} of {len(missing)}")
        try:
            outcome = execute_plan(plan, store, once, force=force and plan.key() not in fresh)
        except (UnsupportedError, TrainingError) as error:
            yield Attempt(plan, reason=str(error))
            continue
        key = outcome.run.record.key
        yield Attempt(plan, outcome.run, cached=outcome.cached and key not in fresh)
        if not outcome.cached:
            fresh.add(key)


def known(plan: Plan, reporter: Reporter) -> Plan:
    """The plan with what is known of its data, which are read for that if they never were."""
    remembered = recall(plan.dataset, plan.located)
    return replace(plan, known=remembered) if remembered else load(plan, reporter)[2]


def _announcement(plans: Sequence[Plan], asked: int, store: Store) -> str:
    profile, device = plans[0].profile, plans[0].device
    sources = sorted({plan.located.source for plan in plans})
    measured = measured_seconds(store)
    known = [seconds for plan in plans if (seconds := estimate(plan, measured)) is not None]
    if not known:
        time = "time unknown"
    else:
        total = fmean(known) * len(plans)
        amount = f"{total / 60:.0f} minutes" if total >= 90 else f"{total:.0f} seconds"
        time = f"about {amount} by runs measured before"
    return (
        f"{len(plans)} of {asked} runs are not stored: {profile} profile, {' and '.join(sources)} data, "
        f"{device}; {time}"
    )


def estimate(plan: Plan, measured: Measured, folder: Path | None = None) -> float | None:
    """Seconds a run may take; ``None`` if nothing like it was measured.

    Taken from stored runs of the same method, dataset and profile, or else from ``results/timings.csv``,
    which holds times of two CPU cores.

    Args:
        plan: The run.
        measured: Of the stored runs, see :func:`measured_seconds`.
        folder: Where ``timings.csv`` is; ``results`` of the checkout if not given.
    """
    seeds = len(plan.seeds)
    facts = plan.method.id, plan.dataset.id, plan.profile
    if facts in measured:
        return measured[facts] * seeds
    published = published_folder()
    folder = folder or (published.parent if published else None)
    file = folder / TIMINGS if folder else None
    if file is None or not file.is_file() or plan.device != "cpu":
        return None
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if (row["method"], row["dataset"], row["profile"]) == facts:
                return float(row["seconds"]) * seeds
    return None


def measured_seconds(store: Store) -> Measured:
    """Mean seconds per seed of every method, dataset and profile that is stored."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for run in store.all()[0]:
        record = run.record
        facts = record.method.id, record.dataset.id, record.profile
        found.setdefault(facts, []).append(record.timings["total"] / len(record.seeds))
    return {facts: fmean(seconds) for facts, seconds in found.items()}


def timings(store: Store) -> str:
    """The same as CSV."""
    lines = [f"{','.join(facts)},{seconds:.1f}" for facts, seconds in sorted(measured_seconds(store).items())]
    return "\n".join(["method,dataset,profile,seconds", *lines, ""])
