"""Studies: sets of runs, read side by side. What they are is said in :mod:`benchmark.studies.file`.

Runs that are stored are read; the others are computed one after the other, so that a study that was
interrupted goes on with the first run that is missing. This module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmark.core.registry import METHODS
from benchmark.errors import BenchmarkError
from benchmark.records.store import Store
from benchmark.runs.plan import make_plan
from benchmark.runs.reporter import Reporter, Silent
from benchmark.runs.spec import RunSpec
from benchmark.studies.batch import Attempt, attempts, known
from benchmark.studies.file import Study, Variant, read_document, read_study, study_file


@dataclass(frozen=True)
class Row:
    """A row of a study.

    Attributes:
        variant: What the study says of it.
        spec: Its run.
        attempt: What came of it.
    """

    variant: Variant
    spec: RunSpec
    attempt: Attempt


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
    there = [method for method in methods if method in METHODS.entries()]
    if not there:
        raise BenchmarkError(f"study {name}: none of its methods is there ({', '.join(methods)})")
    plan = make_plan(replace(spec, method=there[0]))
    if not plan.modalities:
        plan = known(plan, reporter or Silent())
    study = read_study(file, plan.modalities, plan.profile)
    return study, replace(spec, seeds=spec.seeds or study.seeds)


def plan_study(study: Study, spec: RunSpec) -> list[Row]:
    """The rows of a study with their runs worked out, none of them tried yet.

    Raises:
        BenchmarkError: A hyper-parameter or option that does not exist.
    """
    methods = METHODS.entries()
    rows = []
    for variant in study.variants:
        missing = Attempt(None, reason=f"method {variant.method} is not there")
        # the study's changes come after the user's
        one = replace(spec, method=variant.method, overrides=(*spec.overrides, *variant.changes))
        rows.append(Row(variant, one, Attempt(make_plan(one)) if variant.method in methods else missing))
    return rows


def execute_study(
    study: Study,
    spec: RunSpec,
    store: Store | None = None,
    reporter: Reporter | None = None,
    *,
    stored_only: bool = False,
    force: bool = False,
) -> list[Row]:
    """Every row of a study: read from the store, or computed and stored.

    A method that is not there, cannot serve the data, or fails in training leaves its row without numbers;
    every other problem ends the study.
    """
    rows = plan_study(study, spec)
    there = [(row, row.attempt.plan) for row in rows if row.attempt.plan]
    tried = attempts(
        [plan for _, plan in there],
        store or Store(),
        reporter,
        names=[f"{row.variant.label}: {row.variant.description}" for row, _ in there],
        stored_only=stored_only,
        force=force,
    )
    return [replace(row, attempt=next(tried)) if row.attempt.plan else row for row in rows]
