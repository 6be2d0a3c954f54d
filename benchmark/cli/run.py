"""``run``: one run, or one for every fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.options import (
    AsJson,
    Changes,
    DataOptions,
    DataRoot,
    Dataset,
    Device,
    LabelNoise,
    LeaveOwnOut,
    Modalities,
    NoiseMode,
    NoiseSeed,
    Pairwise,
    Precision,
    Profile,
    Replicas,
    Results,
    Scaling,
    Source,
    emit,
    run_spec,
)

if TYPE_CHECKING:
    from benchmark.records.store import Store
    from benchmark.runs.spec import RunSpec


def run(
    method: Annotated[str, typer.Option(help="Method id, see `list methods`.")],
    dataset: Dataset,
    seeds: Annotated[str, typer.Option(help="Comma-separated; default 1,2,3 (paper) or 1 (quick).")] = "",
    profile: Profile = "auto",
    source: Source = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    changes: Changes = None,
    split: Annotated[
        str, typer.Option(help="Another split than the dataset's default; all: every fold, pooled.")
    ] = "",
    data_root: DataRoot = None,
    data_option: DataOptions = None,
    scaling: Scaling = "raw",
    modalities: Modalities = "",
    replicas: Replicas = "auto",
    leave_own_out: LeaveOwnOut = False,
    pairwise: Pairwise = False,
    label_noise: LabelNoise = 0.0,
    label_noise_mode: NoiseMode = "sym",
    label_noise_seed: NoiseSeed = 0,
    results: Results = None,
    force: Annotated[bool, typer.Option("--force", help="Compute even if the run is stored.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be run, compute nothing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress; warnings stay.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train, score and store one run; a run that is stored already is answered from the store."""
    spec = run_spec(locals(), method, dataset)
    from benchmark.cli.progress import reporting
    from benchmark.records.store import Store
    from benchmark.report.published import compare
    from benchmark.runs.runner import execute, preview
    from benchmark.studies.folds import ALL

    store = Store(results)
    if split == ALL:
        _run_folds(spec, store, force=force, dry_run=dry_run, quiet=quiet, as_json=as_json)
        return
    with reporting(quiet=quiet) as reporter:
        if dry_run:
            emit(preview(spec, store, reporter), as_json)
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
    from benchmark.runs.runner import preview
    from benchmark.studies.folds import execute_folds, fold_specs, pool

    with reporting(quiet=quiet) as reporter:
        if dry_run:
            emit({"runs": [preview(each, store, reporter) for each in fold_specs(spec)]}, as_json)
            return
        document = pool(execute_folds(spec, store, reporter, force=force))
    if as_json:
        emit(document, as_json)
        return
    from benchmark.cli.view import run as show_run

    show_run.pooled(document)
