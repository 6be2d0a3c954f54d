"""The ``study`` command."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from benchmark.cli.completion import study_names
from benchmark.cli.options import AsJson, DryRun, Force, Quiet, Results, emit, takes
from benchmark.errors import BenchmarkError
from benchmark.runs.spec import RunSpec


@takes(RunSpec, without={"method"}, optional={"dataset"})
def study(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a study, or the path of its .toml file; list: all.", autocompletion=study_names
        ),
    ],
    spec: RunSpec,
    results: Results = None,
    force: Force = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Several runs side by side: those that are stored are read, the others computed.

    Runs share finished phases under .shared in the results folder; delete that folder to clear them.
    """
    if name == "list":
        _list(as_json)
        return
    if not spec.dataset:
        raise BenchmarkError("--dataset is missing; see `list datasets`")
    from benchmark.cli.progress import reporting
    from benchmark.records.store import Store
    from benchmark.report.study import summarise
    from benchmark.runs.runner import announce, preview
    from benchmark.studies.study import execute_study, open_study, plan_study

    store, start = Store(results), time.perf_counter()
    with reporting(quiet=quiet) as reporter:
        opened, spec = open_study(name, spec, reporter)
        if dry_run:
            plans = {row.variant.label: row.attempt.plan for row in plan_study(opened, spec)}
            for plan in list(filter(None, plans.values()))[:1]:
                announce(plan, reporter)
            runs = [{"label": label, **preview(plan, store)} for label, plan in plans.items() if plan]
            emit({"study": opened.name, "runs": runs}, as_json)
            return
        rows = execute_study(opened, spec, store, reporter, force=force)
    document = {**summarise(opened, spec, rows), "seconds": time.perf_counter() - start}
    if as_json:
        emit(document, as_json)
        return
    from benchmark.cli.view import study as show_study

    show_study.study(document)


def _list(as_json: bool) -> None:
    from benchmark.studies.file import read_document, study_files

    known = {name: str(read_document(file).get("title", "")) for name, file in study_files().items()}
    if as_json:
        emit({"studies": [{"name": name, "title": title} for name, title in known.items()]}, as_json)
        return
    from benchmark.cli.view import console as show_console

    show_console.rows(("study", "title"), list(known.items()), whole="study")
