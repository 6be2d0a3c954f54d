"""Commands that look at or check something: ``doctor``, ``score``, ``check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.completion import ids
from benchmark.cli.options import AsJson, Results, emit, takes
from benchmark.core.dataset import DataRequest, check_root
from benchmark.errors import UnknownNameError


@takes(DataRequest, only={"data_root"})
def doctor(request: DataRequest, results: Results = None, as_json: AsJson = False) -> None:
    """Examine this machine: packages, devices, data, folders."""
    from benchmark.inspection.doctor import examine
    from benchmark.records.store import Store

    found = examine(check_root(request), Store(results))
    if as_json:
        emit(found, as_json)
    else:
        from benchmark.cli.view import doctor as show_doctor

        show_doctor.doctor(found)
    if not found["ok"]:
        raise typer.Exit(1)


def score(
    files: Annotated[list[Path], typer.Argument(help=".mat or .npz files with embeddings and labels.")],
    metric: Annotated[list[str] | None, typer.Option(help="map@all, map@K or map_min@K; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score embeddings from any source."""
    from benchmark.evaluation.files import score_files

    emit(score_files(files, tuple(metric or ("map@all", "map@50"))), as_json)


def check(
    name: Annotated[str, typer.Argument(help="Method or dataset id.", autocompletion=ids)],
    as_json: AsJson = False,
) -> None:
    """Run the contract every method and dataset must keep."""
    from benchmark.core.registry import DATASETS, METHODS, available

    methods, datasets = METHODS.entries(), DATASETS.entries()
    if name not in methods and name not in datasets:
        raise UnknownNameError("method or dataset", name, [*methods, *datasets])
    from benchmark.contract.method import check_dataset, check_method

    checked = check_method(available(methods[name])) if name in methods else []
    checked += check_dataset(available(datasets[name])) if name in datasets else []
    passed = all(each.passed for each in checked)
    if as_json:
        each_ = [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in checked]
        emit({"name": name, "passed": passed, "checks": each_}, as_json)
    else:
        from benchmark.cli.view import console as show_console

        lines = [("passed" if c.passed else "FAILED", c.name, c.detail) for c in checked]
        show_console.rows(("", "check", "detail"), lines, f"contract of {name}")
    if not passed:
        raise typer.Exit(1)
