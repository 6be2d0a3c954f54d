"""The ``list``, ``show`` and ``show-config`` commands: what there is, what a method is, its values."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli.completion import dataset_ids, method_ids
from benchmark.cli.options import AsJson, emit, takes
from benchmark.core.dataset import DataRequest, find_dataset
from benchmark.core.option import declared
from benchmark.errors import BenchmarkError
from benchmark.runs.spec import RunSpec, recorded, values

if TYPE_CHECKING:
    from benchmark.core.info import MethodInfo
    from benchmark.core.registry import Registry

list_app = typer.Typer(no_args_is_help=True)
OF_NO_EFFECT = {
    *("method", "dataset", *declared(DataRequest), "modalities", "scaling", "leave_own_out"),
    *("seeds", "device", "precision", "replicas"),
}
"""Options of a run that say nothing about how a method is configured, or are arguments here."""


@list_app.command("methods")
def list_methods(as_json: AsJson = False) -> None:
    """Every registered method; one that cannot be imported with its reason."""
    from benchmark.core.registry import METHODS

    _list(METHODS, ("title", "year", "group", "protocol"), as_json)


@list_app.command("datasets")
def list_datasets(as_json: AsJson = False) -> None:
    """Every registered dataset; one that cannot be imported with its reason."""
    from benchmark.core.registry import DATASETS

    _list(DATASETS, ("title", "modalities", "classes", "standin"), as_json)


def show(
    method: Annotated[str, typer.Argument(help="Method id.", autocompletion=method_ids)],
    dataset: Annotated[
        str, typer.Option(help="Values on this dataset; default those of any.", autocompletion=dataset_ids)
    ] = "",
    as_json: AsJson = False,
) -> None:
    """The card of a method: citation, protocol, objective, deviations, variants, hyper-parameters."""
    from benchmark.core.registry import DATASETS, METHODS, available
    from benchmark.inspection.card import card

    if method not in METHODS.entries() and method in DATASETS.entries():
        raise BenchmarkError(f"{method} is a dataset; see `data describe {method}`")
    entry = available(METHODS.get(method))
    found = find_dataset(dataset, DataRequest())[0].id if dataset else ""
    document = card(entry, found)
    if as_json:
        emit(document, as_json)
        return
    from benchmark.cli.view import card as show_card

    show_card.card(document)


@takes(RunSpec, without=OF_NO_EFFECT)
def show_config(
    method: Annotated[str, typer.Argument(help="Method id.", autocompletion=method_ids)],
    dataset: Annotated[str, typer.Argument(help="Dataset id.", autocompletion=dataset_ids)],
    spec: RunSpec,
    as_json: AsJson = False,
) -> None:
    """Every hyper-parameter of a method on a dataset, with its origin and source."""
    from benchmark.core.registry import METHODS, available
    from benchmark.runs.plan import is_pairwise, protocol
    from benchmark.runs.profile import choose_device, choose_profile
    from benchmark.runs.recipe import resolve

    entry = available(METHODS.get(method))
    found, _ = find_dataset(dataset, spec.request)
    profile, _ = choose_profile(spec.profile, choose_device("auto"))
    recipe = resolve(entry, found.id, profile, spec.overrides)
    # of a description of the user's own features the modalities are not known before reading: many, then
    names = found.info.modalities or ("first", "second", "third")
    pairwise = is_pairwise(entry.info, names, asked=spec.pairwise)
    spec, served = replace(spec, profile=profile, pairwise=pairwise), protocol(entry.info, pairwise=pairwise)
    if as_json:
        options = {name: value for name, value in values(spec).items() if name not in OF_NO_EFFECT}
        about = {**options, "method": method, "dataset": found.id, "protocol": served}
        emit({**about, "values": {name: vars(value) for name, value in recipe.items()}}, as_json)
        return
    from benchmark.cli.view import console as show_console

    title = ", ".join([f"{method} on {found.id}", f"{profile} profile", served, *recorded(spec)[1]])
    lines = [(name, json.dumps(v.value, default=str), v.origin, v.source) for name, v in recipe.items()]
    show_console.rows(("name", "value", "origin", "source"), lines, title)


def _list(registry: Registry, fields: tuple[str, ...], as_json: bool) -> None:
    entries = registry.entries().values()
    if as_json:
        from dataclasses import asdict

        document = [
            {"id": e.id, "origin": e.origin, "problem": e.problem, "info": e.info and asdict(e.info)}
            for e in entries
        ]
        emit(document, as_json)
        return
    from benchmark.cli.view import console as show_console

    usable = [e for e in entries if not e.problem]
    show_console.rows(("id", *fields), [(e.id, *(_cell(e.info, f) for f in fields)) for e in usable])
    if broken := [(e.id, e.origin, e.problem) for e in entries if e.problem]:
        show_console.rows(("id", "origin", "reason"), broken, "unavailable")


def _cell(info: Any, field: str) -> str:
    value = _protocol(info) if field == "protocol" else getattr(info, field)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _protocol(info: MethodInfo) -> str:
    """How many modalities one model serves, and which."""
    if info.modalities == "many":
        return "all at once"
    return ("+".join(info.kinds) or "two") + (", pairwise on more" if info.pairwise else "")
