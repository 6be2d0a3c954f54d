"""The ``show`` and ``show-config`` commands: what a method is, and with which values it runs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from benchmark.cli.completion import dataset_ids, method_ids
from benchmark.cli.options import (
    AsJson,
    Changes,
    LabelNoise,
    NoiseMode,
    NoiseSeed,
    Pairwise,
    Profile,
    data_request,
    emit,
)
from benchmark.errors import BenchmarkError


def show(
    method: Annotated[str, typer.Argument(help="Method id.", autocompletion=method_ids)],
    dataset: Annotated[
        str, typer.Option(help="Values on this dataset; default those of any.", autocompletion=dataset_ids)
    ] = "",
    as_json: AsJson = False,
) -> None:
    """The card of a method: citation, protocol, objective, deviations, variants, hyper-parameters."""
    from benchmark.core.dataset import find_dataset
    from benchmark.core.registry import DATASETS, METHODS, available
    from benchmark.inspection.card import card

    if method not in METHODS.entries() and method in DATASETS.entries():
        raise BenchmarkError(f"{method} is a dataset; see `data describe {method}`")
    entry = available(METHODS.get(method))
    found = find_dataset(dataset, data_request("auto", None, "", None))[0].id if dataset else ""
    document = card(entry, found)
    if as_json:
        emit(document, as_json)
        return
    from benchmark.cli.view import card as show_card

    show_card.card(document)


def show_config(
    method: Annotated[str, typer.Argument(help="Method id.", autocompletion=method_ids)],
    dataset: Annotated[str, typer.Argument(help="Dataset id.", autocompletion=dataset_ids)],
    profile: Profile = "auto",
    changes: Changes = None,
    pairwise: Pairwise = False,
    label_noise: LabelNoise = 0.0,
    label_noise_mode: NoiseMode = "sym",
    label_noise_seed: NoiseSeed = 0,
    as_json: AsJson = False,
) -> None:
    """Every hyper-parameter of a method on a dataset, with its origin and source."""
    from benchmark.core.dataset import find_dataset
    from benchmark.core.registry import METHODS, available
    from benchmark.runs.plan import is_pairwise, protocol
    from benchmark.runs.profile import choose_device, choose_profile
    from benchmark.runs.recipe import resolve
    from benchmark.runs.spec import RunSpec

    entry = available(METHODS.get(method))
    found, request = find_dataset(dataset, data_request("auto", None, "", None))
    spec = RunSpec(
        method=method,
        dataset=dataset,
        request=request,
        pairwise=pairwise,
        label_noise=label_noise,
        label_noise_mode=label_noise_mode,
        label_noise_seed=label_noise_seed,
    )
    chosen, _ = choose_profile(profile, choose_device("auto"))
    values = resolve(entry, found.id, chosen, changes or ())
    # of a description of the user's own features the modalities are not known before reading: many, then
    names = found.info.modalities or ("first", "second", "third")
    served = protocol(entry.info, pairwise=is_pairwise(entry.info, names, asked=pairwise))
    about = {"profile": chosen, "protocol": served, "label_noise": spec.noise}
    if as_json:
        recipe = {name: vars(value) for name, value in values.items()}
        emit({"method": method, "dataset": found.id, **about, "values": recipe}, as_json)
        return
    from benchmark.cli.view import console as show_console

    noise = "".join(f", {name} {value}" for name, value in spec.noise.items())
    title = (
        f"{method} on {found.id}, {chosen} profile, {served}{', label noise:' + noise[1:] if noise else ''}"
    )
    lines = [(name, json.dumps(v.value, default=str), v.origin, v.source) for name, v in values.items()]
    show_console.rows(("name", "value", "origin", "source"), lines, title)
