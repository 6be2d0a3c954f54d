"""Runs from a notebook or a program: ``run``, ``load`` and ``results`` of the package itself.

A run that is asked for here is the run of the command line: same options, same key, same store. Keywords are
the options as a command writes them, with ``_`` for ``-``.

This module does not import torch: only a run that has to be computed does.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

from benchmark.core.config import fitting
from benchmark.core.dataset import DataRequest, find_dataset
from benchmark.core.option import Option, declared
from benchmark.errors import BenchmarkError, RecipeError, UnknownNameError
from benchmark.records.record import RunRecord
from benchmark.records.store import LATEST, Store, StoredRun
from benchmark.runs.recipe import parse_override
from benchmark.runs.reporter import Reporter, Silent
from benchmark.runs.runner import execute
from benchmark.runs.spec import RunSpec
from benchmark.studies.folds import ALL


class Warnings(Silent):
    """A reporter that says nothing but warnings, as Python's."""

    def warn(self, text: str) -> None:
        """Something the user must not miss."""
        warnings.warn(text, stacklevel=2)


def run(
    method: str,
    dataset: str | Path,
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - named like the option
    results: str | Path | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
    **options: Any,
) -> RunRecord:
    """The record of a run, read from the store or computed and stored.

    Args:
        method: Method id.
        dataset: Dataset id, or the path of a ``.toml`` description.
        set: Hyper-parameters to change, by name. A mapping changes the entries it names of a table, so that
            ``{"lr": {"image": 1e-4}}`` is ``--set lr.image=1e-4``.
        results: Folder of stored runs; by default $BENCHMARK_RESULTS, or ``results/runs`` of the checkout.
        force: Compute even what is stored.
        reporter: Where to report progress; if not given, warnings are Python's and the rest is silent.
            ``benchmark.cli.progress.Lines`` writes it to standard error.
        **options: Any other option of the command ``run``: ``seeds=(1, 2)``, ``profile="quick"``,
            ``modalities=("image", "text")``, ``split="3"``, ``data_option={"scale": 0.5}``. ``None`` is the
            default.

    Raises:
        BenchmarkError: Anything the user can set right; nothing is stored then.
    """
    spec = make_spec(method, dataset, set or {}, options)
    return execute(spec, _store(results), reporter or Warnings(), force=force).run.record


def load(run: str = LATEST, *, results: str | Path | None = None) -> StoredRun:
    """A stored run: its ``record``, and its ``arrays`` on demand.

    Args:
        run: The beginning of its key, or ``latest``: the one that was started last.
        results: Folder of stored runs, as in :func:`run`.

    Raises:
        BenchmarkError: No such run, or several.
    """
    return _store(results).starting_with(run)


def results(*, results: str | Path | None = None, method: str = "", dataset: str = "") -> list[RunRecord]:
    """The records of stored runs, newest first; damaged ones are left out with a warning.

    Args:
        results: Folder of stored runs, as in :func:`run`.
        method: Only runs of this method.
        dataset: Only runs on this dataset.
    """
    runs, problems = _store(results).all()
    for problem in problems:
        warnings.warn(f"left out: {problem}", stacklevel=2)
    return [
        each.record
        for each in reversed(runs)
        if method in ("", each.record.method.id) and dataset in ("", each.record.dataset.id)
    ]


def make_spec(
    method: str, dataset: str | Path, changes: Mapping[str, Any], options: Mapping[str, Any]
) -> RunSpec:
    """What is asked for, as the command line would ask for it.

    Args:
        method: As in :func:`run`.
        dataset: Likewise.
        changes: Its ``set``.
        options: Its other options.

    Raises:
        UnknownNameError: An option that does not exist.
        BenchmarkError: A value that does not fit.
    """
    given: dict[type, dict[str, Any]] = {RunSpec: {}, DataRequest: {}}
    known = {name: (holder, one) for holder in given for name, one in _options(holder).items()}
    for name, value in options.items():
        if name not in known:
            raise UnknownNameError("option of run", name, [*known, "set", "results", "force", "reporter"])
        if value is not None:
            holder, one = known[name]
            given[holder][one.name] = _value(name, one, value, get_type_hints(holder)[one.name])
    request = DataRequest(**given[DataRequest])
    if request.split == ALL:
        info = find_dataset(str(dataset), request)[0].info
        raise BenchmarkError(
            f"split={ALL!r} asks for a run of every fold, and run() gives the record of one; call it "
            f"for each of {', '.join(info.splits) or 'them'}, or use the command `run --split {ALL}`"
        )
    overrides = tuple(written(changes))
    return RunSpec(method, str(dataset), request=request, overrides=overrides, **given[RunSpec])


def written(changes: Mapping[str, Any]) -> Iterator[str]:
    """Changed hyper-parameters as ``name=value``, read back by ``parse_override`` as they were.

    Args:
        changes: By name; a mapping holds entries of a table.

    Raises:
        RecipeError: A name or a value that cannot be written so.
    """
    if not isinstance(changes, Mapping):
        raise RecipeError(f"set must be a mapping such as {{'alpha': 0.2}}; got {changes!r}")
    for name, value in changes.items():
        if isinstance(value, Mapping) and value:
            yield from written({f"{name}.{entry}": each for entry, each in value.items()})
            continue
        plain = _plain(value)
        wanted = tuple(str(name).split("."))
        # a bare word is how a user writes a text; what would be read as something else is quoted
        bare = [plain] if isinstance(plain, str) else []
        for text in (f"{name}={right}" for right in (*bare, *_toml(plain))):
            with suppress(RecipeError):
                first, rest, read = parse_override(text)
                if (first, *rest) == wanted and read == plain and type(read) is type(plain):
                    yield text
                    break
        else:
            raise RecipeError(
                f"set: {name!r} cannot be {value!r}; a hyper-parameter has a name and is a finite number, a "
                "text, true or false, or a list or table of them"
            )


def _options(holder: type) -> dict[str, Option]:
    """The options of a dataclass that are keywords, by the name a command has for them."""
    named = {one.flag.removeprefix("--").replace("-", "_"): one for one in declared(holder).values()}
    return {name: one for name, one in named.items() if one.name not in ("method", "dataset", "overrides")}


def _value(name: str, option: Option, value: Any, hint: Any) -> Any:
    """The value of a keyword as its field holds it; a text may be what a command would be given."""
    value = _plain(value)
    if isinstance(value, str) and option.parse and option.typed is str:
        return option.parse(value)
    if option.typed is Path:
        hint, value = str, str(value)
    elif hint is str and type(value) is int:  # a fold has a number for a name
        value = str(value)
    elif isinstance(option.default, tuple):
        value = value if isinstance(value, list) else [value]
    elif isinstance(option.default, Mapping) and isinstance(value, Mapping):
        value = {
            str(entry): each if isinstance(each, str) else json.dumps(each) for entry, each in value.items()
        }
    try:
        found = fitting(name, value, hint)
    except ValueError as error:
        raise BenchmarkError(str(error)) from None
    return Path(found) if option.typed is Path else found


def _plain(value: Any) -> Any:
    """Numpy's numbers and arrays as Python's; what is iterated over (a range, a tuple) as a list."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(entry): _plain(each) for entry, each in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value


def _toml(value: Any) -> Iterator[str]:
    """The value as TOML has it; nothing if it has no such value."""
    if isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, int | float):
        yield repr(value)
    elif isinstance(value, str):
        yield json.dumps(value, ensure_ascii=False)
    elif isinstance(value, list):
        parts = [part for each in value for part in _toml(each)]
        if len(parts) == len(value):
            yield f"[{', '.join(parts)}]"
    elif isinstance(value, dict):
        entries = [
            f"{json.dumps(k, ensure_ascii=False)} = {part}" for k, v in value.items() for part in _toml(v)
        ]
        if len(entries) == len(value):
            yield f"{{{', '.join(entries)}}}"


def _store(results: str | Path | None) -> Store:
    return Store(None if results is None else Path(results))
