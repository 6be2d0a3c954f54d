"""The ``data`` commands."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli.completion import dataset_ids
from benchmark.cli.options import AsJson, DataOptions, DataRoot, Source, SplitName, data_request, emit
from benchmark.errors import BenchmarkError, MissingDataError

if TYPE_CHECKING:
    from benchmark.core.dataset import DataRequest
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
    from benchmark.cli.listing import list_datasets

    list_datasets(as_json=as_json)


@data_app.command()
def status(dataset: Some = "", data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """Which published feature files are here, and how to get those that are not."""
    from benchmark.core.dataset import make_dataset

    request = data_request("official", data_root, "", None)
    found = {entry.id: make_dataset(entry).status(request) for entry in _usable(dataset, request)}
    if as_json:
        emit(found, as_json)
    else:
        from benchmark.cli.view import data as show_data

        show_data.status(found)


@data_app.command()
def verify(dataset: Some = "", data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """Read the feature files that are here and check them; exit code 1 if one cannot be used."""
    from benchmark.core.dataset import make_dataset

    request = data_request("official", data_root, "", None)
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
def fetch(dataset: One, data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """Download and verify the feature files of a dataset, where a public location exists."""
    from benchmark.core.dataset import find_dataset, make_dataset

    entry, request = find_dataset(dataset, data_request("official", data_root, "", None))
    files = make_dataset(entry).fetch(request, _say)
    emit({"dataset": entry.id, "files": [str(file) for file in files]}, as_json)


@data_app.command()
def describe(
    dataset: One,
    source: Source = "auto",
    data_root: DataRoot = None,
    split: SplitName = "",
    data_option: DataOptions = None,
    as_json: AsJson = False,
) -> None:
    """Shapes, classes, value ranges, sparsity and problems of the data as a run would see them."""
    from benchmark.core.dataset import find_dataset, make_dataset
    from benchmark.inspection.describe import describe

    entry, request = find_dataset(dataset, data_request(source, data_root, split, data_option))
    instance = make_dataset(entry)
    found = describe(instance.load(instance.locate(request)))
    if as_json:
        emit(found, as_json)
    else:
        from benchmark.cli.view import data as show_data

        show_data.description(found)


def _usable(dataset: str, request: DataRequest) -> list[Entry]:
    """The named dataset, or every one that can be imported."""
    from benchmark.core.dataset import check_root, find_dataset
    from benchmark.core.registry import DATASETS

    if dataset:
        return [find_dataset(dataset, request)[0]]
    check_root(request)
    return [entry for entry in DATASETS.entries().values() if not entry.problem]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
