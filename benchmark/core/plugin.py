"""Which code the results of a plugin's method depend on, as one hash.

A plugin that is being written changes without its author raising a version every time, so what was computed
with other code must not be taken for its result. The sources are read, not imported, and found by following
import statements; what is imported by a computed name is not followed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint

SUITE = __name__.partition(".")[0]


def code_of(point: EntryPoint, module: str) -> str:
    """Hex sha256 of a method's module, the packages above it, and what these import of their distribution.

    Args:
        point: Of the method.
        module: Dotted name of the module that defines it, which the one of the entry point may only pass on.

    Raises:
        OSError, SyntaxError: A source cannot be read.
    """
    sources: dict[str, bytes] = {}
    own, open_, seen = _own(point), [point.module, module], set[str]()
    while open_:
        name = open_.pop()
        if name in seen or name.partition(".")[0] not in own:
            continue
        seen.add(name)
        open_.append(name.rpartition(".")[0])  # importing a module runs the packages above it
        spec = _spec(name)
        if spec is None or not spec.has_location or spec.origin is None:
            continue  # a name within a module, or a package without a file
        data: bytes = spec.loader.get_data(spec.origin)  # type: ignore[union-attr]  # files and zips have it
        if spec.origin.endswith(".py"):
            data = data.replace(b"\r\n", b"\n")  # the same code in every checkout
            package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
            open_ += _imported(ast.parse(data, spec.origin), package)
        sources[name] = data
    digest = hashlib.sha256()
    for name, data in sorted(sources.items()):
        digest.update(f"{name}|{len(data)}|".encode() + data)
    return digest.hexdigest()


def _own(point: EntryPoint) -> set[str]:
    """Names of the modules and packages a distribution installs; more than these do no harm."""
    names = {point.module.partition(".")[0]}
    if point.dist is not None:
        names |= set((point.dist.read_text("top_level.txt") or "").split())
        names |= {file.parts[0].partition(".")[0] for file in point.dist.files or ()}
    return names - {SUITE}


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is, without importing it; ``None`` if there is none of that name."""
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if isinstance(loaded, ModuleSpec):
        return loaded
    above, _, _ = name.rpartition(".")
    if not above:
        return importlib.util.find_spec(name)
    parent = _spec(above)
    places = None if parent is None else parent.submodule_search_locations
    return None if places is None else PathFinder.find_spec(name, list(places))


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """What a source imports anywhere, by dotted names; some of them are of things within modules."""
    depth = len(package.split(".")) if package else 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level <= depth:
            home = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield home
            yield from (f"{home}.{each.name}" for each in node.names)
