"""What a method's hyper-parameters mean and allow, read from its source without importing it."""

from __future__ import annotations

import ast
import re
import typing
from pathlib import Path
from typing import Any

from benchmark.core import config
from benchmark.core.registry import Entry

NAMES: dict[str, Any] = {**vars(typing), **vars(config)}
"""What an annotation of a ``Config`` may name."""


def settings(method: Entry) -> dict[str, dict[str, str]]:
    """Per hyper-parameter its ``meaning``, as the docstring of the ``Config`` says, and its ``valid`` values.

    Empty for a method whose hyper-parameters are no :class:`benchmark.core.config.Config`.
    """
    if method.path is None:
        return {}
    tree = ast.parse(method.path.read_text(encoding="utf-8"))
    found: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            found |= _fields(node, tree, method.path)
    return found


def _fields(node: ast.ClassDef, tree: ast.Module, file: Path) -> dict[str, dict[str, str]]:
    """Those of a class, its bases first."""
    found: dict[str, dict[str, str]] = {}
    known = False
    for base in (base.id for base in node.bases if isinstance(base, ast.Name)):
        known |= base == "Config"
        inherited = _inherited(base, tree, file)
        known |= bool(inherited)
        found |= inherited
    if not known:
        return {}
    meanings = _meanings(ast.get_docstring(node) or "")
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            name = each.target.id
            found[name] = {"meaning": "", "valid": _words(each.annotation)}
    return {name: {**facts, "meaning": meanings.get(name, facts["meaning"])} for name, facts in found.items()}


def _inherited(base: str, tree: ast.Module, file: Path) -> dict[str, dict[str, str]]:
    """The fields of a base that a relative import brings."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level and base in (alias.name for alias in node.names):
            path = file.parents[node.level - 1].joinpath(*(node.module or "").split(".")).with_suffix(".py")
            there = ast.parse(path.read_text(encoding="utf-8"))
            for other in there.body:
                if isinstance(other, ast.ClassDef) and other.name == base:
                    return _fields(other, there, path)
    return {}


def _words(annotation: ast.expr) -> str:
    try:
        return config.words(eval(ast.unparse(annotation), NAMES))  # noqa: S307 - source that is installed and run
    except NameError:  # a type of the method's own
        return ""


def _meanings(docstring: str) -> dict[str, str]:
    """The entries of a section ``Attributes:``; ``a, b: text`` is said of both."""
    _, _, section = docstring.partition("Attributes:\n")
    entries = re.findall(r"^    (\w[\w, ]*): (.+(?:\n {5,}.+)*)", section, re.M)
    return {name.strip(): " ".join(text.split()) for names, text in entries for name in names.split(",")}
