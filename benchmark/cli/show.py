"""The ``show`` and ``show-config`` commands: what a method is, and with which values it runs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated

import typer

from benchmark.cli.completion import dataset_ids, method_ids
from benchmark.cli.options import AsJson, emit, takes
from benchmark.core.dataset import DataRequest, find_dataset
from benchmark.core.option import declared
from benchmark.errors import BenchmarkError
from benchmark.runs.spec import RunSpec, recorded, values

OF_NO_EFFECT = {
    *("method", "dataset", *declared(DataRequest), "modalities", "scaling", "leave_own_out"),
    *("seeds", "device", "precision", "replicas"),
}
"""Options of a run that say nothing about how a method is configured, or are arguments here."""


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
