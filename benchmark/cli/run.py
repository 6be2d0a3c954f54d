"""``run``: one run, or one for every fold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.cli.options import AsJson, DryRun, Force, Quiet, Results, emit, takes
from benchmark.runs.spec import RunSpec

if TYPE_CHECKING:
    from benchmark.records.store import Store


@takes(RunSpec)
def run(
    spec: RunSpec,
    results: Results = None,
    force: Force = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train, score and store one run; a run that is stored already is answered from the store."""
    from benchmark.cli.progress import reporting
    from benchmark.records.store import Store
    from benchmark.report.published import compare
    from benchmark.runs.plan import make_plan
    from benchmark.runs.runner import announce, execute, preview
    from benchmark.studies.folds import ALL

    store = Store(results)
    if spec.request.split == ALL:
        _run_folds(spec, store, force=force, dry_run=dry_run, quiet=quiet, as_json=as_json)
        return
    with reporting(quiet=quiet) as reporter:
        if dry_run:
            plan = make_plan(spec)
            announce(plan, reporter)
            emit(preview(plan, store), as_json)
            return
        outcome = execute(spec, store, reporter, force=force)
    comparison = compare(outcome.run.record)
    if as_json:
        about = {"cached": outcome.cached, "stored": str(outcome.run.folder), "comparison": vars(comparison)}
        emit({**outcome.run.record.to_json(), **about}, as_json)
        return
    from benchmark.cli.view import run as show_run

    show_run.outcome(outcome, comparison)


def _run_folds(
    spec: RunSpec, store: Store, *, force: bool, dry_run: bool, quiet: bool, as_json: bool
) -> None:
    from benchmark.cli.progress import reporting
    from benchmark.runs.plan import make_plan
    from benchmark.runs.runner import announce, preview
    from benchmark.studies.folds import execute_folds, fold_specs, pool

    with reporting(quiet=quiet) as reporter:
        if dry_run:
            plans = [make_plan(each) for each in fold_specs(spec)]
            announce(plans[0], reporter)
            emit({"runs": [preview(plan, store) for plan in plans]}, as_json)
            return
        document = pool(execute_folds(spec, store, reporter, force=force))
    if as_json:
        emit(document, as_json)
        return
    from benchmark.cli.view import run as show_run

    show_run.pooled(document)
