"""The runs a report needs: found, or computed one after the other, with an estimate of the time."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmark.disk import published_folder
from benchmark.errors import TrainingError, UnsupportedError
from benchmark.records.store import Store, StoredRun
from benchmark.runs.plan import Plan, make_plan
from benchmark.runs.reporter import Once, Reporter, Silent
from benchmark.runs.runner import Outcome, execute, load, look_up
from benchmark.runs.spec import RunSpec
from benchmark.studies.file import Variant

TIMINGS = "timings.csv"
Measured = Mapping[tuple[str, str, str], float]
"""Seconds per seed, by method, dataset and profile."""


@dataclass(frozen=True)
class Entry:
    """A run that a report asks for.

    Attributes:
        spec: The run.
        run: Its record; ``None`` if there is none.
        reason: Why there is none; empty if there is.
        cached: It was stored before.
    """

    spec: RunSpec
    run: StoredRun | None
    reason: str = ""
    cached: bool = False


def collect(
    specs: Sequence[RunSpec],
    store: Store,
    reporter: Reporter | None = None,
    *,
    stored_only: bool = False,
    force: bool = False,
) -> list[Entry]:
    """Every run, read from the store or computed and stored.

    A method that cannot serve the data or fails in training leaves an entry with the reason; every other
    problem ends the report. What was interrupted goes on with the first run that is missing.

    Args:
        specs: The runs.
        store: Where they are kept.
        reporter: Where to report progress.
        stored_only: Compute nothing.
        force: Compute even what is stored.

    Raises:
        BenchmarkError: A name that does not exist.
    """
    once = Once(reporter or Silent())
    plans = [make_plan(spec) for spec in specs]
    if stored_only:  # data that were never read here are read once, to know which stored runs are theirs
        for number in range(len(specs)):
            if plans[number].known is None:
                load(plans[number], once)
                plans = [make_plan(spec) for spec in specs]
    found = [look_up(plan, store, force=force) for plan in plans]
    missing = [number for number, run in enumerate(found) if run is None]
    if missing and not stored_only:
        once.say(_announcement([plans[number] for number in missing], len(specs), store))
    entries = []
    for number, spec in enumerate(specs):
        run = found[number]
        if run is not None:
            entries.append(Entry(spec, run, cached=True))
        elif stored_only:
            entries.append(Entry(spec, None, "not computed"))
        else:
            once.say(f"{spec.method} on {spec.dataset}, {missing.index(number) + 1} of {len(missing)}")
            try:
                outcome = execute(spec, store, once, force=force)
                entries.append(Entry(spec, outcome.run, cached=outcome.cached))
            except (UnsupportedError, TrainingError) as error:
                entries.append(Entry(spec, None, str(error)))
    return entries


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


@dataclass(frozen=True)
class Done:
    """A row that was tried: its run, or the reason why there is none."""

    variant: Variant
    outcome: Outcome | None
    reason: str = ""
