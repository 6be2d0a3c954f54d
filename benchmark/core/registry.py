"""Names to classes: our methods and datasets by decorator, other people's by entry point.

Listing must not import torch, so what a decorator says about one of our modules is read from the source
(its keyword arguments are literals) and the module is imported when the class is needed. Packages that
register through the entry points ``benchmark.methods`` and ``benchmark.datasets`` are imported to be
listed, because only the import shows whether they are available.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from benchmark.core.info import DatasetInfo, MethodInfo
from benchmark.core.plugin import code_of
from benchmark.core.source import decorated
from benchmark.errors import BenchmarkError, UnknownNameError

C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        id: The name.
        origin: Module it lives in, or ``package (entry point)``.
        info: ``MethodInfo`` or ``DatasetInfo``; ``None`` if unavailable.
        path: Source file, to find what lies beside it (recipes); ``None`` if unavailable.
        problem: Why it cannot be used; empty if it can.
        external: Registered by an entry point.
        target: ``module:Class``.
        code: Of a plugin, the hash of its source (:mod:`benchmark.core.plugin`), taken when it was imported;
            empty for ours, which say by their version when results change.
    """

    id: str
    origin: str
    info: Any
    path: Path | None
    problem: str = ""
    external: bool = False
    target: str = ""
    code: str = ""

    def load(self) -> Any:
        """The class itself.

        Raises:
            BenchmarkError: The entry is unavailable, with the reason.
        """
        if self.problem:
            raise BenchmarkError(f"{self.id!r} ({self.origin}) is unavailable: {self.problem}")
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


def _folder(package: str) -> Path | None:
    """Where a package lies; none for one that is not there, or a folder that is no package (old bytecode)."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).resolve().parent


class Registry:
    """All methods, or all datasets. ``kind`` is also the name of the decorator in the sources."""

    def __init__(self, kind: str, package: str, group: str, info: Any) -> None:
        self.kind, self.package, self.group, self.info_type = kind, package, group, info

    def register(self, id: str, **facts: Any) -> Callable[[C], C]:  # noqa: A002 - `id` is the field's word
        """Class decorator: attach an info object built from literal keyword arguments as ``cls.info``."""
        info = self.info_type(id=id, **facts)

        def attach(cls: C) -> C:
            cls.info = info  # type: ignore[attr-defined]
            return cls

        return attach

    @cache  # noqa: B019 - two registries live as long as the process
    def entries(self) -> dict[str, Entry]:
        """Every registered name, ours first, each group in alphabetical order.

        Raises:
            BenchmarkError: Two of ours share a name. (A package's clash makes that package's entry
                unavailable under ``name@package`` and leaves ours usable.)
        """
        found: dict[str, Entry] = {}
        for entry in self.ours():
            if entry.id in found:
                both = f"{found[entry.id].origin} and {entry.origin}"
                raise BenchmarkError(f"{self.kind} {entry.id!r} is registered twice: {both}")
            found[entry.id] = entry
        for point in sorted(entry_points(group=self.group), key=lambda p: (p.name, p.value)):
            entry = self._external(point)
            if entry.id in found:
                problem = (
                    f"its name is taken by {found[entry.id].origin}; rename it or uninstall one of the two"
                )
                name = f"{entry.id}@{entry.origin.split()[0]}"
                entry = Entry(name, entry.origin, None, None, problem, external=True)
            found[entry.id] = entry
        return found

    def get(self, name: str) -> Entry:
        """The entry of this name.

        Raises:
            UnknownNameError: No such name; the message lists the valid ones and the nearest.
        """
        if len(found := self.ours(name)) == 1:  # ours keep their names whatever else is installed
            return found[0]
        entries = self.entries()
        if name not in entries:
            raise UnknownNameError(self.kind, name, list(entries))
        return entries[name]

    def names(self) -> list[str]:
        """The names only: nothing is imported, so a plugin is among them whether it can be used or not."""
        theirs = {point.name for point in entry_points(group=self.group)}
        return [entry.id for entry in self.ours()] + sorted(theirs)

    def ours(self, name: str = "") -> list[Entry]:
        """The suite's own in alphabetical order, or those of one name; no plugin is imported.

        Raises:
            BenchmarkError: The package is not there, or has a module that cannot be read.
        """
        folder, suite = _folder(self.package), _folder(self.package.partition(".")[0])
        # Inside (a wheel) or beside (a checkout): elsewhere lie those of another copy, installed as well.
        if folder is None or suite is None or folder.parent not in (suite, suite.parent):
            raise BenchmarkError(
                f"no package {self.package} in this copy of the suite, so there are no {self.kind}s: it is "
                "not whole; run `pip install -e .` in a checkout, or install a wheel of it"
            )
        found = []
        for file in folder.glob("[!_]*.py"):
            if name and name not in file.read_text(encoding="utf-8", errors="replace"):
                continue  # reading is much quicker than parsing
            module = f"{self.package}.{file.stem}"
            for cls, info in decorated(file, self.package, self.kind, self.info_type):
                if name in ("", info.id):
                    found.append(Entry(info.id, module, info, file, target=f"{module}:{cls}"))
        return sorted(found, key=lambda entry: entry.id)

    def _external(self, point: EntryPoint) -> Entry:
        package = point.dist.name if point.dist is not None else point.value
        origin = f"{package} (entry point)"
        try:
            cls = point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a broken plugin must not break the listing; the reason is shown
            problem = " ".join(f"{type(error).__name__}: {error}".split())
            return Entry(point.name, origin, None, None, problem, external=True)
        info = getattr(cls, "info", None)
        if not isinstance(info, self.info_type):
            problem = f"{point.value} is not decorated with @{self.kind}(...)"
            return Entry(point.name, origin, None, None, problem, external=True)
        if info.id != point.name:
            problem = f"the entry point is called {point.name!r} but the class {info.id!r}"
            return Entry(point.name, origin, None, None, problem, external=True)
        source = importlib.util.find_spec(cls.__module__)
        path = Path(source.origin) if source is not None and source.origin else None
        try:
            code = code_of(point, cls.__module__)
        except (OSError, SyntaxError) as error:  # e.g. while it is being written
            return Entry(point.name, origin, None, None, f"its source cannot be read: {error}", external=True)
        target = f"{cls.__module__}:{cls.__name__}"
        return Entry(point.name, origin, info, path, external=True, target=target, code=code)


METHODS = Registry("method", "benchmark.methods", "benchmark.methods", MethodInfo)
DATASETS = Registry("dataset", "benchmark.datasets", "benchmark.datasets", DatasetInfo)
method = METHODS.register
dataset = DATASETS.register


def available(entry: Entry) -> Entry:
    """The entry itself; an unavailable one is refused with its reason."""
    if entry.problem:
        raise BenchmarkError(f"{entry.id!r} ({entry.origin}) is unavailable: {entry.problem}")
    return entry
