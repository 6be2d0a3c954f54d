"""The harness: knows what a method and a dataset are, and knows none by name.

Public names are imported when first used (PEP 562): importing the package itself costs next to nothing.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers: the names of the table below, as a test makes sure
    from benchmark.core.config import Config as Config
    from benchmark.core.data import Item as Item
    from benchmark.core.data import Modality as Modality
    from benchmark.core.data import MultimodalData as MultimodalData
    from benchmark.core.data import Split as Split
    from benchmark.core.dataset import DataRequest as DataRequest
    from benchmark.core.dataset import Dataset as Dataset
    from benchmark.core.dataset import Location as Location
    from benchmark.core.method import FitLog as FitLog
    from benchmark.core.method import Method as Method
    from benchmark.core.method import Retriever as Retriever
    from benchmark.core.method import RunContext as RunContext
    from benchmark.core.method import derive_seed as derive_seed
    from benchmark.core.registry import dataset as dataset
    from benchmark.core.registry import method as method
    from benchmark.core.validate import validate as validate
    from benchmark.errors import BenchmarkError as BenchmarkError
    from benchmark.errors import DataError as DataError
    from benchmark.errors import UnsupportedError as UnsupportedError
    from benchmark.studies.notebook import load as load
    from benchmark.studies.notebook import results as results
    from benchmark.studies.notebook import run as run

_HOMES = {
    "core.config": ("Config",),
    "core.data": ("Item", "Modality", "MultimodalData", "Split"),
    "core.dataset": ("DataRequest", "Dataset", "Location"),
    "core.method": ("FitLog", "Method", "Retriever", "RunContext", "derive_seed"),
    "core.registry": ("dataset", "method"),
    "core.validate": ("validate",),
    "errors": ("BenchmarkError", "DataError", "UnsupportedError"),
    "studies.notebook": ("load", "results", "run"),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
__all__ = sorted(_MODULES)  # noqa: PLE0605 - written once, above


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Threads that wait for each other by spinning waste the core they wait for: beside another program on a
# two-core machine training took twenty times as long. Spinning briefly costs nothing on a quiet machine. Has
# to be set before torch is imported; a setting of the user's own stands.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "1000"

# In a checkout the packages methods and datasets stand beside this folder; installed they lie in it. Looking
# for them next to the code that asks makes every checkout use its own, whichever one is installed; looking
# nowhere else keeps out packages that others have installed under these names.
_above = os.path.dirname(__path__[0])  # noqa: PTH120 - pathlib costs start-up time
if os.path.isfile(os.path.join(_above, "pyproject.toml")):  # noqa: PTH113, PTH118 - likewise
    __path__.append(_above)
