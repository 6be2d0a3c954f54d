"""Options that several commands share, and how their text is read."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.cli.completion import dataset_ids, method_ids
from benchmark.core.option import REQUIRED, Option, declared, nested

AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")
]
Results = Annotated[
    Path | None,
    typer.Option("--results", help="Folder of stored runs; default $BENCHMARK_RESULTS or results/runs."),
]
Force = Annotated[bool, typer.Option("--force", help="Compute even what is stored.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be run, compute nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress; warnings stay.")]
Command = Callable[..., None]
COMPLETED = {"method": method_ids, "dataset": dataset_ids}
"""Options whose values the shell can offer."""


def takes(
    holder: type, *, only: Collection[str] = (), without: Collection[str] = (), optional: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Give a command the options that a dataclass declares, in place of its parameter of that type.

    Args:
        holder: The dataclass; the command is handed one made of the options.
        only: Names of the fields to take; all if not given.
        without: Names of fields that the command does not take: they have their default, or are empty.
        optional: Required fields that may be left out here; they are empty then.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        place = next(p.name for p in signature.parameters.values() if p.annotation is holder)
        taken = [o for o in _every(holder) if o.name not in without and (not only or o.name in only)]

        @functools.wraps(command)
        def wrapper(**given: Any) -> None:
            values = {option.name: given.pop(option.name) for option in taken}
            command(**given, **{place: _make(holder, values)})

        options = [_parameter(option, required=option.name not in optional) for option in taken]
        parameters: list[inspect.Parameter] = []
        for one in signature.parameters.values():
            parameters += options if one.name == place else [one.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {one.name: one.annotation for one in parameters}
        return wrapper

    return decorate


def _every(holder: type) -> Iterator[Option]:
    """The options of a dataclass, nested ones in their place."""
    own, inner = declared(holder), nested(holder)
    for each in fields(holder):
        if each.name in inner:
            yield from _every(inner[each.name])
        elif each.name in own:
            yield own[each.name]


def _parameter(option: Option, *, required: bool) -> inspect.Parameter:
    """An option as typer reads it from a signature; one that is empty if not given shows no default."""
    default, typed = option.default, option.typed
    if default is REQUIRED and required:
        default = inspect.Parameter.empty
    elif default is REQUIRED or default in (None, "", (), {}):
        default, typed = None, typed | None
    completion = COMPLETED.get(option.name)
    info = typer.Option(option.flag, help=option.help, metavar=option.metavar, autocompletion=completion)
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(option.name, kind, default=default, annotation=Annotated[typed, info])


def _make(holder: type, given: dict[str, Any]) -> Any:
    """An instance; what was not given has its default, or is empty."""
    made = {name: _make(kind, given) for name, kind in nested(holder).items()}
    for name, option in declared(holder).items():
        value = given.get(name)
        if value is None or (option.typed == list[str] and not value):
            made |= {name: ""} if option.default is REQUIRED else {}
        else:
            made[name] = option.parse(value) if option.parse else value
    return holder(**made)


def emit(document: Any, as_json: bool) -> None:
    """A document on standard output: as JSON, or as indented lines."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=1, default=_plain) + "\n")
        sys.stdout.flush()
        return
    from benchmark.cli.view import console as show_console

    show_console.tree(json.loads(json.dumps(document, default=_plain)))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy numbers and arrays
        return value.tolist()
    return dict(value) if hasattr(value, "keys") else str(value)


def one_line(error: BaseException) -> str:
    """What click has to say about a wrong option."""
    return str(error.format_message()) if hasattr(error, "format_message") else str(error)
