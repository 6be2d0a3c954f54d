"""Public names of a package, imported when first used: importing the package itself costs next to nothing."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def on_use(package: str, homes: Mapping[str, tuple[str, ...]]) -> tuple[Callable[[str], Any], list[str]]:
    """What a package needs to give names of its modules as its own (PEP 562).

    Args:
        package: Its ``__name__``.
        homes: Public names by the module, relative to the package, that defines them.

    Returns:
        ``__getattr__`` and ``__all__`` of the package.
    """
    modules = {name: f"{package}.{module}" for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)  # found directly from now on
        return value

    return get, sorted(modules)
