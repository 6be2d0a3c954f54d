"""What a module says of its methods or datasets, read from its source.

Listing must import neither the module nor torch. Imports are followed by name, so that a decorator is known
however it was imported, and a class that lacks one is noticed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.errors import BenchmarkError

REGISTRY = "benchmark.core.registry"


def decorated(file: Path, package: str, kind: str, info_type: Any) -> Iterator[tuple[str, Any]]:
    """Every class of a module that is registered, and what its decorator says.

    Args:
        file: The module.
        package: Dotted name of the package it is a module of.
        kind: Name of the decorator; capitalised, of the class everything registered derives from.
        info_type: Made of the decorator's arguments.

    Yields:
        Name of the class, and its info.

    Raises:
        BenchmarkError: The source is not Python, a decorator is not readable, or one is missing.
    """
    module = _read(file, package)
    for name, node in module.classes.items():
        marks = [mark for mark in node.decorator_list if module.means(_called(mark), REGISTRY, kind)]
        if not marks and not name.startswith("_") and module.derives(node, kind) and not _is_abstract(node):
            raise BenchmarkError(
                f"{file}:{node.lineno}: {name} is a {kind.capitalize()} without @{kind}(...); "
                f"decorate it, or call it _{name} if it is a base of others"
            )
        for mark in marks:
            try:
                yield name, _info(mark, info_type)
            except (ValueError, TypeError) as error:
                where = f"{file}:{mark.lineno}: @{kind}"
                raise BenchmarkError(f"{where} takes the id and literal keywords only: {error}") from None


class _Module:
    """The classes of a source file, and what its names mean."""

    def __init__(self, tree: ast.Module, file: Path, package: str) -> None:
        self.file, self.package = file, package
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self.origins: dict[str, str] = {}
        for node in tree.body:
            for each in (node, *getattr(node, "body", ())):  # imports under `if` and `try`, too
                self.origins.update(_bound(each, package))

    def origin(self, node: ast.expr) -> str:
        """Dotted name of what an expression refers to, if it was imported; else nothing."""
        if isinstance(node, ast.Attribute):
            return f"{owner}.{node.attr}" if (owner := self.origin(node.value)) else ""
        return self.origins.get(node.id, "") if isinstance(node, ast.Name) else ""

    def means(self, node: ast.expr, home: str, name: str) -> bool:
        """Whether an expression is a public name of ours, taken from the package or from its module."""
        return self.origin(node) in (f"benchmark.{name}", f"{home}.{name}")

    def derives(self, node: ast.ClassDef, kind: str) -> bool:
        """Whether a class is a method (a dataset): by its bases here and in modules of the same package."""
        for base in node.bases:
            base = base.value if isinstance(base, ast.Subscript) else base  # noqa: PLW2901 - Base[T]
            if self.means(base, f"benchmark.core.{kind}", kind.capitalize()):
                return True
            if isinstance(base, ast.Name) and base.id in self.classes:
                if base.id != node.name and self.derives(self.classes[base.id], kind):
                    return True
                continue
            *path, name = self.origin(base).removeprefix(f"{self.package}.").split(".")
            other = self.file.parent.joinpath(*path).with_suffix(".py") if path else None
            if other is not None and other.is_file():
                there = _read(other, ".".join([self.package, *path[:-1]]))
                if name in there.classes and there.derives(there.classes[name], kind):
                    return True
        return False


@cache
def _read(file: Path, package: str) -> _Module:
    try:
        return _Module(ast.parse(file.read_text(encoding="utf-8"), str(file)), file, package)
    except SyntaxError as error:
        raise BenchmarkError(f"{file}:{error.lineno}: not valid Python: {error.msg}") from None


def _bound(node: ast.AST, package: str) -> dict[str, str]:
    """The names an import statement binds, each with the dotted name of what it stands for."""
    if isinstance(node, ast.Import):
        pairs = ((each.name, each.asname) for each in node.names)
        return {
            alias or name.partition(".")[0]: name if alias else name.partition(".")[0]
            for name, alias in pairs
        }
    if not isinstance(node, ast.ImportFrom):
        return {}
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    home = [*above, *filter(None, [node.module])]
    return {each.asname or each.name: ".".join([*home, each.name]) for each in node.names}


def _called(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _is_abstract(node: ast.ClassDef) -> bool:
    """Whether a class is a base by its own words: it derives from ABC or has an abstract method."""
    above = [*node.bases, *(keyword.value for keyword in node.keywords)]
    marks = [mark for each in node.body for mark in getattr(each, "decorator_list", ())]
    words = {ast.unparse(each).rpartition(".")[2] for each in [*above, *marks]}
    return bool(words & {"ABC", "ABCMeta", "abstractmethod"})


def _info(mark: ast.expr, info_type: Any) -> Any:
    if not isinstance(mark, ast.Call):
        raise ValueError("it has no arguments")  # noqa: TRY004 - of the source, not of a value
    if len(mark.args) > 1:
        raise ValueError(f"{ast.unparse(mark.args[1])} needs a keyword")
    facts = {keyword.arg or "**": _literal(keyword.value) for keyword in mark.keywords}
    return info_type(*map(_literal, mark.args), **facts)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)} is not a literal") from None
