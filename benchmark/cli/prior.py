"""The ``prior`` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.options import Results
from benchmark.disk import whole
from benchmark.errors import BenchmarkError

prior_app = typer.Typer(no_args_is_help=True)
FORMATS = (".mat", ".npz")


@prior_app.callback()
def about() -> None:
    """The class prior of a stored run."""


@prior_app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to write W (width x classes): .mat or .npz.")],
    run: Annotated[str, typer.Option(help="Id of a stored run, or its beginning; see `results`.")],
    seed: Annotated[int | None, typer.Option(help="One of the run's seeds; default its first.")] = None,
    results: Results = None,
) -> None:
    """Write the prior a run used, before scaling; `run --set prior=file:PATH` reads it again."""
    import numpy as np

    from benchmark.records.store import Store

    if file.suffix not in FORMATS:
        raise BenchmarkError(f"{file}: a prior is written as {' or '.join(FORMATS)}")
    found = Store(results).starting_with(run)
    seeds = found.record.seeds
    chosen = seeds[0] if seed is None else seed
    if chosen not in seeds:
        raise BenchmarkError(f"--seed {chosen}: the run has seeds {', '.join(map(str, seeds))}")
    stacked = found.arrays().get("method/prior")
    if stacked is None or stacked.ndim != 3 or len(stacked) != len(seeds):
        raise BenchmarkError(f"{found.record.method.id} keeps no prior with its runs")
    matrix = stacked[seeds.index(chosen)]
    try:
        with whole(file) as stream:
            if file.suffix == ".mat":
                from scipy.io import savemat

                savemat(stream, {"W": matrix})
            else:
                np.savez(stream, W=matrix)
    except OSError as error:
        raise BenchmarkError(f"{file}: cannot be written ({error.strerror or error})") from None
    typer.echo(f"{file}: W {matrix.shape[0]} x {matrix.shape[1]}, seed {chosen}")
