"""The ``query`` command."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.cli.completion import dataset_ids, method_ids
from benchmark.cli.options import AsJson, Results, emit, takes
from benchmark.cli.text import warn
from benchmark.core.dataset import DataRequest


@takes(DataRequest, only={"data_root"})
def query(
    item: Annotated[str, typer.Argument(help="Name or character of a test item, or its row: row:17.")],
    from_: Annotated[str, typer.Option("--from", help="Modality of the query.")],
    to: Annotated[str, typer.Option("--to", help="Modality searched.")],
    request: DataRequest,
    run: Annotated[
        str, typer.Option(help="Id of a stored run, its beginning, or latest; see `results`.")
    ] = "",
    method: Annotated[
        str, typer.Option(help="Instead of --run: the latest run of this method.", autocompletion=method_ids)
    ] = "",
    dataset: Annotated[
        str,
        typer.Option(help="Instead of --run: the latest run on this dataset.", autocompletion=dataset_ids),
    ] = "",
    seed: Annotated[int | None, typer.Option(help="One of the run's seeds; default its first.")] = None,
    top: Annotated[int, typer.Option(help="How many ranks to show, up to 20.")] = 10,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """What one query of a stored run found: the first ranks, the relevant ones marked."""
    from benchmark.inspection.query import answer_first, find_runs
    from benchmark.records.store import Store

    found = find_runs(Store(results), warn, run, method, dataset)
    document = answer_first(found, from_, to, item, seed=seed, top=top, data_root=request.data_root)
    if as_json:
        emit(document, as_json)
        return
    from benchmark.cli.view import query as show_query

    show_query.answer(document)
