"""The ``list`` commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from benchmark.cli.options import AsJson, emit

if TYPE_CHECKING:
    from benchmark.core.info import MethodInfo
    from benchmark.core.registry import Registry

list_app = typer.Typer(no_args_is_help=True)


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
