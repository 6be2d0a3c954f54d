"""The harness: knows what a method and a dataset are, and knows none by name.

The public names are resolved when first used, so that importing the package costs next to nothing.
"""

import importlib
import os
from typing import Any

_PUBLIC = {
    "core.data": ("Item", "Modality", "MultimodalData", "Split"),
    "core.dataset": ("Dataset", "DataRequest", "Located"),
    "core.method": ("Method", "Retriever", "derive_seed"),
    "core.registry": ("dataset", "method"),
    "core.validate": ("validate",),
    "errors": ("BenchmarkError", "DataError", "UnsupportedError"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - one list, above


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


# Threads that wait for each other by spinning waste the core they wait for: beside another program on a
# two-core machine training took twenty times as long. Spinning briefly costs nothing on a quiet machine. Has
# to be set before torch is imported; a setting of the user's own stands.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "1000"

# In a checkout the packages methods and datasets stand beside this folder; installed they lie in it. Looking
# for them next to the code that asks makes every checkout use its own, whichever one is installed.
if not os.path.isdir(os.path.join(__path__[0], "methods")):  # noqa: PTH112, PTH118 - pathlib costs start-up time
    __path__.append(os.path.dirname(__path__[0]))  # noqa: PTH120
