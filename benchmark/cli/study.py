"""The ``study`` command."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from benchmark.cli.completion import dataset_ids, study_names
from benchmark.cli.options import (
    AsJson,
    Changes,
    DataOptions,
    DataRoot,
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
    SplitName,
    emit,
    run_spec,
)
from benchmark.errors import BenchmarkError


def study(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a study, or the path of its .toml file; list: all.", autocompletion=study_names
        ),
    ],
    dataset: Annotated[
        str, typer.Option(help="Dataset id, or a .toml description of your own.", autocompletion=dataset_ids)
    ] = "",
    seeds: Annotated[str, typer.Option(help="Comma-separated; default the study's or profile's.")] = "",
    profile: Profile = "auto",
    source: Source = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    changes: Changes = None,
    split: SplitName = "",
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
    force: Annotated[bool, typer.Option("--force", help="Compute even what is stored.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the runs, compute nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress; warnings stay.")] = False,
    as_json: AsJson = False,
) -> None:
    """Several runs side by side: those that are stored are read, the others computed.

    Runs share finished phases under .shared in the results folder; delete that folder to clear them.
    """
    spec = run_spec(locals(), dataset=dataset)
    if name == "list":
        _list(as_json)
        return
    if not dataset:
        raise BenchmarkError("--dataset is missing; see `list datasets`")
    from benchmark.cli.progress import reporting
    from benchmark.records.store import Store
    from benchmark.report.study import summarise
    from benchmark.runs.runner import preview
    from benchmark.studies.study import execute_study, open_study, present, variant_spec

    store, start = Store(results), time.perf_counter()
    with reporting(quiet=quiet) as reporter:
        opened, spec = open_study(name, spec, reporter)
        if dry_run:
            runs = [
                {"label": v.label, **preview(variant_spec(v, spec), store, reporter)} for v in present(opened)
            ]
            emit({"study": opened.name, "runs": runs}, as_json)
            return
        done = execute_study(opened, spec, store, reporter, force=force)
    document = {**summarise(opened, spec, done), "seconds": time.perf_counter() - start}
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
