"""The ``results`` commands: list, show, array, timings, export, import, rm, gc."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.cli.completion import dataset_ids, method_ids
from benchmark.cli.options import AsJson, Results, emit
from benchmark.cli.text import say, tell, warn
from benchmark.errors import BenchmarkError

results_app = typer.Typer()
Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY]...", help="Runs, by their id or its beginning; or latest."),
]


@results_app.callback(invoke_without_command=True)
def results(context: typer.Context, results: Results = None, as_json: AsJson = False) -> None:
    """What is stored; with a command, show, carry or remove it."""
    if context.invoked_subcommand is not None:
        if results is not None or as_json:
            raise BenchmarkError(f"put options after `{context.invoked_subcommand}`")
        return
    from benchmark.records.store import Store
    from benchmark.runs.stale import stale

    store = Store(results)
    runs, problems = store.all()
    for problem in problems:
        warn(problem)
    old = stale(run.record for run in runs)
    if as_json:
        stored = [
            {**run.record.to_json(), "stored": str(run.folder), "stale": old.get(run.record.key, "")}
            for run in runs
        ]
        for each in stored:
            del each["history"], each["config"]  # long
        emit({"root": str(store.root), "runs": stored, "damaged": problems}, as_json)
        return
    from benchmark.cli.view import console as show_console
    from benchmark.cli.view import run as show_run

    if not runs:
        show_console.console().print(f"nothing stored in {store.root}", soft_wrap=True)
    show_run.stored([run.record for run in runs], old)


@results_app.command("show")
def show_run(
    key: Annotated[str, typer.Argument(help="Run, by its id or its beginning; or latest.")],
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """One stored run: its numbers, where they come from, and every hyper-parameter."""
    from benchmark.records.store import Store
    from benchmark.runs.stale import stale

    run = Store(results).starting_with(key)
    old = stale([run.record]).get(run.record.key, "")
    if as_json:
        emit({**run.record.to_json(), "stored": str(run.folder), "stale": old}, as_json)
        return
    from benchmark.cli.view import console as show_console
    from benchmark.cli.view import run as show_run
    from benchmark.records.differences import training
    from benchmark.report.published import compare
    from benchmark.runs.runner import Outcome

    record = run.record
    show_run.outcome(Outcome(run, cached=True), compare(record), stale=old)
    lines = [(name, json.dumps(v.value), v.origin, v.source) for name, v in record.recipe.items()]
    show_console.rows(("name", "value", "origin", "source"), lines)
    facts: dict[str, Any] = {"key": record.key, "made": record.started, "method": record.method.origin}
    facts |= {"split": record.split or "the only one", "data": record.dataset.fingerprint}
    facts |= {"files": list(record.dataset.files), "rows": record.rows, "versions": record.versions}
    facts |= {"device": record.device, "replicas": training(record)}
    show_console.tree(facts)


@results_app.command("array")
def array_(
    key: Annotated[str, typer.Argument(metavar="RUN", help="Run, by its id or the beginning of it.")],
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="E.g. method/prior; default all.")] = "",
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to write it: .npz, .npy or .mat.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="One of the run's seeds; default all of them.")] = None,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Write one array of a stored run to a file, as W in .npz and .mat; without a file, list the arrays."""
    from benchmark.records.extract import stored_array, write_array
    from benchmark.records.store import Store

    if seed is not None and not name:
        raise BenchmarkError(f"--seed {seed}: name the array to take it from")
    run = Store(results).starting_with(key)
    found = {name: stored_array(run, name, seed)} if name else run.arrays()
    if file is not None:
        write_array(file, found[name])
    facts = [{"name": n, "shape": list(a.shape), "dtype": str(a.dtype)} for n, a in found.items()]
    if as_json:
        emit({"run": run.record.key, "seed": seed, "file": file, "arrays": facts}, as_json)
    elif file is not None:
        tell(f"{file}: {name} {found[name].shape}, {found[name].dtype}")
    else:
        from benchmark.cli.view import console as show_console

        show_console.rows(("name", "shape", "dtype"), [(n, a.shape, a.dtype) for n, a in found.items()])


@results_app.command("timings")
def timings(results: Results = None) -> None:
    """Seconds per seed of what is stored, as CSV, like `results/timings.csv` that estimates read."""
    from benchmark.records.store import Store
    from benchmark.studies.batch import timings as listed

    tell(listed(Store(results)).rstrip("\n"))


@results_app.command("export")
def export_(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="Where to.")],
    keys: Keys = None,
    method: Annotated[str, typer.Option(help="Only runs of this method.", autocompletion=method_ids)] = "",
    dataset: Annotated[str, typer.Option(help="Only runs on this dataset.", autocompletion=dataset_ids)] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a file that is there.")] = False,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Write stored runs, all or some, to a zip file that `results import` reads."""
    from benchmark.records.store import Store
    from benchmark.records.transfer import choose, export_runs

    runs = choose(Store(results), keys or (), method, dataset, warn)
    names = export_runs(runs, file, replace=replace)
    size = file.stat().st_size
    if as_json:
        emit({"file": str(file), "bytes": size, "runs": names}, as_json)
    else:
        tell(f"{_count(names)}, {size:,} bytes: {file}")


@results_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="Made by `results export`.")],
    keep: Annotated[
        bool, typer.Option("--keep", help="Where a run is stored with other content, keep the stored one.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Where a run is stored with other content, take the file's.")
    ] = False,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Store the runs of a zip file, after checking all of it; nothing is stored if anything is wrong."""
    from benchmark.records.store import Store
    from benchmark.records.transfer import Differing, import_runs
    from benchmark.runs.key import record_key

    if keep and replace:
        raise BenchmarkError("give --keep or --replace, not both")
    differing: Differing = "keep" if keep else "replace" if replace else "refuse"
    store = Store(results)
    found = import_runs(store, file, record_key, differing, say)
    if as_json:
        emit({"root": str(store.root), **vars(found)}, as_json)
        return
    told = {"added": "new", "present": "here already", "machine": "the same run of another machine, kept"}
    told |= {"kept": "differ and kept", "replaced": "replaced"}
    counts = {text: len(getattr(found, name)) for name, text in told.items()}
    numbers = ", ".join(f"{count} {text}" for text, count in counts.items() if count)
    tell(f"{numbers or 'no runs'}: {store.root}")


@results_app.command()
def rm(
    keys: Annotated[
        list[str], typer.Argument(metavar="KEY...", help="Runs, by their id or its beginning; or latest.")
    ],
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Delete stored runs, without asking; all of those named, or none if one cannot be."""
    from benchmark.records.store import Store
    from benchmark.records.upkeep import remove_runs

    removed = remove_runs(Store(results), keys)
    if as_json:
        emit({"removed": [run.record.key for run in removed]}, as_json)
        return
    for run in removed:
        method, data = run.record.method.id, run.record.dataset.id
        tell(f"removed {run.folder.name}: {method} on {data}")


@results_app.command()
def gc(
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="Age of shared phases that go, since their last use.")
    ] = 30,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Remove damaged run folders; reads every array to find them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would go, remove nothing.")] = False,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Clear away leftovers: checkpoints of finished runs, old shared phases, unused locks."""
    from benchmark.records.store import Store
    from benchmark.records.upkeep import collect

    found = collect(Store(results), older_than=older_than, damaged=damaged, dry_run=dry_run)
    total = sum(each.bytes for each in found.removed)
    if as_json:
        removed = [vars(each) for each in found.removed]
        emit({**vars(found), "removed": removed, "bytes": total, "dry_run": dry_run}, as_json)
        return
    would = "would be " if dry_run else ""
    for each in found.removed:
        tell(f"{each.what}, {each.bytes:,} bytes: {each.path}")
    for name in found.restored:
        tell(f"run {name} had lost its name in an interrupted command: {would}put back")
    for name in found.busy:
        tell(f"left alone, another process works on it: {name}")
    for problem in found.damaged:
        warn(f"{problem}; --damaged removes it")
    for problem in found.unreadable:
        warn(problem)
    if found.unfinished:
        runs = "unfinished run" if found.unfinished == 1 else "unfinished runs"
        kept = f"{found.unfinished} {runs}, {found.unfinished_bytes:,} bytes"
        tell(f"kept, so that they can go on: checkpoints of {kept}")
    tell(f"{would}removed: {total:,} bytes")


def _count(names: list[str]) -> str:
    return f"{len(names)} run" if len(names) == 1 else f"{len(names)} runs"
