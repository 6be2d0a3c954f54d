"""The ``report`` command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.completion import dataset_ids, method_ids, report_names
from benchmark.cli.options import AsJson, Force, Quiet, Results, emit, takes
from benchmark.runs.spec import RunSpec, comma_list


@takes(RunSpec, without={"method", "dataset"})
def report(
    name: Annotated[
        str,
        typer.Argument(
            help="Table or figure; all: every one and a page; list: names.", autocompletion=report_names
        ),
    ],
    spec: RunSpec,
    dataset: Annotated[
        str, typer.Option(help="Comma-separated, in place of the report's own.", autocompletion=dataset_ids)
    ] = "",
    methods: Annotated[
        str, typer.Option(help="Only these, comma-separated.", autocompletion=method_ids)
    ] = "",
    output: Annotated[Path, typer.Option(help="Folder of the files.")] = Path("reports"),
    margin: Annotated[float, typer.Option(help="Difference from a published value that is none.")] = 0.01,
    stored: Annotated[bool, typer.Option("--stored", help="Compute nothing; show what is missing.")] = False,
    force: Force = False,
    results: Results = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """A table or figure of the publication from stored runs; what is missing is computed first.

    Markdown, LaTeX, CSV, and PNG, PDF and SVG figures; `all` also writes one HTML page.
    """
    from benchmark.report.catalog import item, items

    if name == "list":
        _list(as_json)
        return
    from benchmark.cli.progress import reporting
    from benchmark.records.store import Store

    chosen = list(items().values()) if name == "all" else [item(name)]
    if name == "all":
        chosen = [each for each in chosen if (not each.own if dataset else each.datasets)]
    from benchmark.report.formats.page import write_page
    from benchmark.report.made import Options
    from benchmark.report.make import make, write

    options = Options(
        spec,
        Store(results),
        output,
        datasets=comma_list(dataset),
        methods=comma_list(methods),
        stored_only=stored,
        force=force,
        margin=margin,
    )
    start = time.perf_counter()
    made = []
    with reporting(quiet=quiet) as reporter:
        for each in chosen:
            made.append(make(each, options, reporter))
            write(made[-1], output)
        files = [str(file) for each in made for file in each.files]
        if name == "all":
            files.append(str(write_page(made, output / "index.html", options)))
    missing = [
        {"table": table.name, "row": line.label, "reason": line.reason, "command": line.command}
        for each in made
        for table in each.tables
        for line in table.missing
    ]
    problems = [problem for each in made for problem in each.problems]
    document = {
        "reports": [each.item.name for each in made],
        "files": files,
        "runs": len({key for each in made for key in each.runs}),
        "missing": missing,
        "problems": problems,
        "seconds": time.perf_counter() - start,
    }
    if as_json:
        emit(document, as_json)
        return
    from benchmark.cli.view import console as show_console

    out = show_console.console()
    for line in files:
        out.print(line, soft_wrap=True)
    for problem in problems:
        out.print(f"not drawn: {problem}")
    if missing:
        out.print(f"{len(missing)} rows are missing; the tables say why")
    out.print(f"{document['runs']} runs, {document['seconds']:.0f} s")


def _list(as_json: bool) -> None:
    from benchmark.report.catalog import items

    known = items().values()
    if as_json:
        emit({"reports": [{"name": each.name, "title": each.title} for each in known]}, as_json)
        return
    from benchmark.cli.view import console as show_console

    lines = [(each.name, each.title, ", ".join(each.datasets) or "--dataset") for each in known]
    show_console.rows(("report", "title", "datasets"), lines, whole="report")
