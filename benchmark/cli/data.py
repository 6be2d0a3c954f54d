"""The ``data`` commands."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli.completion import dataset_ids
from benchmark.cli.options import AsJson, emit, takes
from benchmark.cli.text import say
from benchmark.core.dataset import DataRequest, check_root, find_dataset, make_dataset
from benchmark.errors import BenchmarkError, MissingDataError

if TYPE_CHECKING:
    from benchmark.core.registry import Entry

data_app = typer.Typer(no_args_is_help=True)
One = Annotated[
    str,
    typer.Argument(
        metavar="DATASET", help="Dataset id, or a .toml description of your own.", autocompletion=dataset_ids
    ),
]
Some = Annotated[
    str, typer.Argument(metavar="[DATASET]", help="Dataset id; default all.", autocompletion=dataset_ids)
]


@data_app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every dataset, as `list datasets`."""
    from benchmark.cli.show import list_datasets

    list_datasets(as_json=as_json)


@data_app.command()
@takes(DataRequest, only={"data_root"})
def status(request: DataRequest, dataset: Some = "", as_json: AsJson = False) -> None:
    """Which published feature files are here, and how to get those that are not."""
    request = replace(request, source="official")
    found = {entry.id: make_dataset(entry).status(request) for entry in _usable(dataset, request)}
    if as_json:
        emit(found, as_json)
    else:
        from benchmark.cli.view import data as show_data

        show_data.status(found)


@data_app.command()
@takes(DataRequest, only={"data_root"})
def verify(request: DataRequest, dataset: Some = "", as_json: AsJson = False) -> None:
    """Read the feature files that are here and check them; exit code 1 if one cannot be used."""
    request = replace(request, source="official")
    if dataset:
        entry = _usable(dataset, request)[0]
        emit({entry.id: make_dataset(entry).verify(request)}, as_json)
        return
    answers: dict[str, Any] = {}
    damaged = False
    for entry in _usable("", request):
        try:
            answers[entry.id] = make_dataset(entry).verify(request)
        except MissingDataError as error:
            answers[entry.id] = {"missing": str(error)}
        except BenchmarkError as error:  # one bad file must not hide the others
            answers[entry.id], damaged = {"problem": str(error)}, True
    emit(answers, as_json)
    if damaged:
        raise typer.Exit(1)


@data_app.command()
@takes(DataRequest, only={"data_root"})
def fetch(request: DataRequest, dataset: One, as_json: AsJson = False) -> None:
    """Download and verify the feature files of a dataset, where a public location exists."""
    entry, request = find_dataset(dataset, replace(request, source="official"))
    files = make_dataset(entry).fetch(request, say)
    emit({"dataset": entry.id, "files": [str(file) for file in files]}, as_json)


@data_app.command()
@takes(DataRequest)
def describe(request: DataRequest, dataset: One, as_json: AsJson = False) -> None:
    """Shapes, classes, value ranges, sparsity and problems of the data as a run would see them."""
    from benchmark.inspection.describe import describe

    entry, request = find_dataset(dataset, request)
    instance = make_dataset(entry)
    found = describe(instance.load(instance.locate(request)))
    if as_json:
        emit(found, as_json)
    else:
        from benchmark.cli.view import data as show_data

        show_data.description(found)


def _usable(dataset: str, request: DataRequest) -> list[Entry]:
    """The named dataset, or every one that can be imported."""
    from benchmark.core.registry import DATASETS

    if dataset:
        return [find_dataset(dataset, request)[0]]
    check_root(request)
    return [entry for entry in DATASETS.entries().values() if not entry.problem]
