"""Every command. Options are read here, the work is done elsewhere and imported when a command needs it.

Standard output holds the result (with ``--json`` exactly one JSON document); progress, warnings and errors
go to standard error. Exit codes: 0 done, 1 checked and found wanting, 2 an error the user can set right,
130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from benchmark.cli_data import data_app
from benchmark.cli_list import list_app
from benchmark.cli_options import (
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
    data_request,
    emit,
    one_line,
    run_spec,
)
from benchmark.cli_prior import prior_app
from benchmark.cli_query import query
from benchmark.cli_report import report
from benchmark.cli_results import results_app
from benchmark.cli_show import show, show_config
from benchmark.cli_study import study
from benchmark.errors import BenchmarkError, UnknownNameError

if TYPE_CHECKING:
    from benchmark.plan import RunSpec
    from benchmark.store import Store

app = typer.Typer(
    help="Reference benchmark for category-based cross-modal retrieval.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data", help="Feature files: list, status, fetch, verify, describe.")
app.add_typer(list_app, name="list", help="What can be run: methods, datasets.")
app.add_typer(prior_app, name="prior", help="The class prior of a stored run: export.")
app.add_typer(results_app, name="results", help="Stored runs: list (alone), show, export, import, rm, gc.")
app.command()(query)
app.command()(report)
app.command()(show)
app.command("show-config")(show_config)
app.command()(study)


@app.command()
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
    from benchmark.cli_progress import reporting
    from benchmark.folds import ALL
    from benchmark.published import compare
    from benchmark.runner import execute, preview
    from benchmark.store import Store

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
        emit({**outcome.run.record, **about}, as_json)
        return
    from benchmark import show

    show.outcome(outcome, comparison)


def _run_folds(
    spec: RunSpec, store: Store, *, force: bool, dry_run: bool, quiet: bool, as_json: bool
) -> None:
    from benchmark.cli_progress import reporting
    from benchmark.folds import execute_folds, fold_specs, pool
    from benchmark.runner import preview

    with reporting(quiet=quiet) as reporter:
        if dry_run:
            emit({"runs": [preview(each, store, reporter) for each in fold_specs(spec)]}, as_json)
            return
        document = pool(execute_folds(spec, store, reporter, force=force))
    if as_json:
        emit(document, as_json)
        return
    from benchmark import show

    show.pooled(document)


@app.command()
def doctor(data_root: DataRoot = None, results: Results = None, as_json: AsJson = False) -> None:
    """Examine this machine: packages, devices, data, folders."""
    from benchmark.doctor import examine
    from benchmark.plan import check_root
    from benchmark.store import Store

    found = examine(check_root(data_request("auto", data_root, "", None)), Store(results))
    if as_json:
        emit(found, as_json)
    else:
        from benchmark import show

        show.doctor(found)
    if not found["ok"]:
        raise typer.Exit(1)


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(help=".mat or .npz files with embeddings and labels.")],
    measure: Annotated[
        list[str] | None, typer.Option(help="map@all, map@K or map_min@K; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score embeddings from any source."""
    from benchmark.embeddings import score_files

    emit(score_files(files, tuple(measure or ("map@all", "map@50"))), as_json)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="Method or dataset id.")], as_json: AsJson = False
) -> None:
    """Run the contract every method and dataset must keep."""
    from benchmark.plan import available
    from benchmark.registry import DATASETS, METHODS

    methods, datasets = METHODS.entries(), DATASETS.entries()
    if name not in methods and name not in datasets:
        raise UnknownNameError("method or dataset", name, [*methods, *datasets])
    from benchmark.contract import check_dataset, check_method

    checked = check_method(available(methods[name])) if name in methods else []
    checked += check_dataset(available(datasets[name])) if name in datasets else []
    passed = all(each.passed for each in checked)
    if as_json:
        each_ = [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in checked]
        emit({"name": name, "passed": passed, "checks": each_}, as_json)
    else:
        from benchmark import show

        lines = [("passed" if c.passed else "FAILED", c.name, c.detail) for c in checked]
        show.rows(("", "check", "detail"), lines, f"contract of {name}")
    if not passed:
        raise typer.Exit(1)


INTERRUPTED = (
    "interrupted; nothing was stored of the unfinished run, and the same command goes on after the last "
    "finished phase"
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; errors of the user become one line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Typer brings its own click or uses the installed one; this is the base of its complaints in both.
    usage_error = cast(type[Exception], typer.BadParameter.__base__)
    try:
        code = app(args=arguments, prog_name="python -m benchmark", standalone_mode=False)
        sys.stdout.flush()
    except BenchmarkError as error:
        return _fail(str(error), arguments, 2)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except usage_error as error:
        # A group without a command has shown its help and says nothing more.
        return _fail(text, arguments, 2) if (text := one_line(error)) else 2
    if code == 130:  # newer typer turns an interrupt into this code
        return _fail(INTERRUPTED, arguments, 130)
    return code if isinstance(code, int) else 0


def _fail(text: str, arguments: list[str], code: int) -> int:
    line = " ".join(text.split())
    if "--json" in arguments:
        emit({"error": line}, as_json=True)
    else:
        sys.stderr.write(f"error: {line}\n")
    return code
