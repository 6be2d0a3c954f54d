"""What a run is, and the key it is stored under; worked out without importing torch or reading data.

What is in the key: method id and version, resolved hyper-parameters (``--set`` and the subsample sizes
included; of a file that one names, the content), dataset id and data fingerprint, protocol, profile, seeds,
precision, input scaling, modalities, metric version, schema version, and whether a query's own item is left
out of the database. What is not: the device and how the seeds are trained (together or alone), because they
change a result by rounding only; both are recorded with the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.dataset import DataRequest, Dataset, Located, cache_folder
from benchmark.errors import BenchmarkError, DataError, RecipeError, UnknownNameError
from benchmark.profile import DEFAULT_SEEDS, choose_device, choose_profile
from benchmark.recipe import ROWS, Recipe, resolve
from benchmark.registry import DATASETS, METHODS, Entry

SCHEMA = 2
"""Version of the record's layout; part of every key."""

FILE = "file:"
"""How a hyper-parameter names a file."""

CHOICES = {
    "source": ("auto", "official", "standin"),
    "precision": ("fp32", "tf32", "bf16", "fp64"),
    "scaling": ("raw", "standardize"),
    "replicas": ("auto", "together", "alone"),
}


@dataclass(frozen=True)
class RunSpec:
    """What the user asks for.

    Attributes:
        method: Method id.
        dataset: Dataset id, or the path of a ``.toml`` file that describes the user's own features.
        request: Source, data root, split and options of the dataset.
        profile: ``auto``, ``paper`` or ``quick``.
        seeds: One model each; empty for the profile's.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp64``.
        scaling: ``raw`` (as the files are) or ``standardize`` (training mean and deviation).
        modalities: Only these; empty for all.
        overrides: ``name=value`` hyper-parameters.
        replicas: Train seeds ``together``, ``alone``, or whichever is faster (``auto``).
        leave_own_out: Rank a query against every item but the one it shows itself.
    """

    method: str
    dataset: str
    request: DataRequest = field(default_factory=DataRequest)
    profile: str = "auto"
    seeds: tuple[int, ...] = ()
    device: str = "auto"
    precision: str = "fp32"
    scaling: str = "raw"
    modalities: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    replicas: str = "auto"
    leave_own_out: bool = False

    def __post_init__(self) -> None:
        given = {"source": self.request.source, "precision": self.precision}
        given |= {"scaling": self.scaling, "replicas": self.replicas}
        for name, value in given.items():
            if value not in CHOICES[name]:
                raise UnknownNameError(name, value, list(CHOICES[name]))
        if any(seed < 0 for seed in self.seeds):
            raise BenchmarkError(f"seeds must be 0 or greater, got {min(self.seeds)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise BenchmarkError(f"a seed is given twice: {','.join(map(str, self.seeds))}")


@dataclass(frozen=True)
class Known:
    """What is remembered of data that were read before: their fingerprint and modalities."""

    fingerprint: str
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A run worked out in full, before any data are read.

    Attributes:
        spec: What was asked for.
        method, dataset: Registry entries.
        located: Where the data will come from.
        recipe: Resolved hyper-parameters.
        profile: ``paper`` or ``quick``.
        profile_reason: Why ``auto`` meant that profile; empty if it was named.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        seeds: In ascending order.
        known: What is remembered of the data; ``None`` if they have to be read first.
    """

    spec: RunSpec
    method: Entry
    dataset: Entry
    located: Located
    recipe: Recipe
    profile: str
    profile_reason: str
    device: str
    seeds: tuple[int, ...]
    known: Known | None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the run in canonical order, as far as they are known before reading."""
        names = self.known.modalities if self.known else tuple(self.dataset.info.modalities)
        return pick_modalities(self.spec.modalities, names) if names else self.spec.modalities

    def key(self) -> str | None:
        """Hex sha256 the run is stored under; ``None`` while the fingerprint of the data is unknown."""
        if self.known is None:
            return None
        content = {
            "schema": SCHEMA,
            "metric_version": metric_version(),
            "method": [self.method.id, self.method.info.version],
            "protocol": self.method.info.group,
            "recipe": {name: by_content(value.value) for name, value in self.recipe.items()},
            "dataset": [self.dataset.id, self.known.fingerprint],
            "modalities": self.modalities,
            "profile": self.profile,
            "seeds": self.seeds,
            "precision": self.spec.precision,
            "scaling": self.spec.scaling,
            **({"leave_own_out": True} if self.spec.leave_own_out else {}),  # keys made without it stay
        }
        return hashlib.sha256(canonical(content).encode()).hexdigest()

    def training_data(self) -> str:
        """What the data look like in training, as text; runs that agree in it may share finished phases."""
        facts = self.known.fingerprint if self.known else "unknown"
        rows = self.recipe[ROWS].value
        return canonical([facts, self.modalities, self.spec.scaling, rows, self.spec.precision])


def by_content(value: Any) -> Any:
    """The value itself; in place of ``file:<path>``, which file it is: two contents make two runs.

    Raises:
        RecipeError: The file cannot be read.
    """
    if not isinstance(value, str) or not value.startswith(FILE):
        return value
    try:
        return FILE + hashlib.sha256(Path(value.removeprefix(FILE)).read_bytes()).hexdigest()
    except OSError as error:
        raise RecipeError(f"{value}: {error.strerror or error}") from None


def make_plan(spec: RunSpec, *, cuda: bool | None = None) -> Plan:
    """Work out a run without reading data or importing torch.

    Args:
        spec: What is asked for.
        cuda: Whether CUDA can be used; guessed from driver and torch build if not given.

    Raises:
        BenchmarkError: A name, device, data root, modality or hyper-parameter that does not exist.
    """
    method = available(METHODS.get(spec.method))
    dataset, request = find_dataset(spec.dataset, spec.request)
    device = choose_device(spec.device, cuda=cuda)
    profile, reason = choose_profile(spec.profile, device)
    if spec.modalities and dataset.info.modalities:
        pick_modalities(spec.modalities, dataset.info.modalities)
    recipe = resolve(method, dataset.id, profile, spec.overrides)
    located = make_dataset(dataset).locate(request)
    return Plan(
        spec=spec,
        method=method,
        dataset=dataset,
        located=located,
        recipe=recipe,
        profile=profile,
        profile_reason=reason,
        device=device,
        seeds=tuple(sorted(spec.seeds)) or DEFAULT_SEEDS[profile],
        known=recall(dataset, located),
    )


def available(entry: Entry) -> Entry:
    """The entry itself; an unavailable one is refused with its reason."""
    if entry.problem:
        raise BenchmarkError(f"{entry.id!r} ({entry.origin}) is unavailable: {entry.problem}")
    return entry


def find_dataset(name: str, request: DataRequest) -> tuple[Entry, DataRequest]:
    """Registry entry and completed request of a dataset id or of a ``.toml`` description.

    Raises:
        UnknownNameError: No such dataset.
        DataError: A description or data root that does not exist.
    """
    if name.endswith(".toml"):
        file = Path(name)
        if not file.is_file():
            raise DataError(f"{file}: no such file; --dataset takes a dataset id or a TOML description")
        name, request = "features", replace(request, description=file)
    return available(DATASETS.get(name)), check_root(request)


def check_root(request: DataRequest) -> DataRequest:
    """The request itself.

    Raises:
        DataError: Its data root is not a folder.
    """
    if request.data_root is not None and not request.data_root.is_dir():
        raise DataError(f"--data-root {request.data_root}: no such folder")
    return request


def make_dataset(entry: Entry) -> Dataset:
    """An instance of a dataset's class."""
    instance = entry.load()()
    assert isinstance(instance, Dataset), f"{entry.target} is not a Dataset"
    return instance


def pick_modalities(wanted: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """``wanted`` in canonical order; all of ``names`` if nothing is wanted in particular.

    Raises:
        UnknownNameError: One that the dataset does not have.
    """
    for name in wanted:
        if name not in names:
            raise UnknownNameError("modality", name, list(names))
    return tuple(name for name in names if name in wanted) if wanted else names


def canonical(content: Any) -> str:
    """JSON with sorted keys and no spaces: equal content gives equal text on every machine."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_mapping)


def _mapping(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else str(value)


@cache
def metric_version() -> int:
    """``METRIC_VERSION`` of :mod:`benchmark.metrics`, read from the source: importing it needs torch."""
    source = Path(__file__).with_name("metrics.py").read_text(encoding="utf-8")
    found = re.search(r"^METRIC_VERSION\b[^=\n]*=\s*(\d+)", source, re.MULTILINE)
    if found is None:
        raise LookupError("benchmark/metrics.py does not set METRIC_VERSION to a number")
    return int(found[1])


def _memory_file() -> Path:
    return cache_folder() / "fingerprints.json"


def _memory_key(dataset: Entry, located: Located) -> str:
    request = located.request
    options = sorted(request.options.items())
    return canonical(
        [dataset.id, dataset.info.version, located.source, located.identity, request.split, options]
    )


def _read_memory() -> dict[str, Any]:
    try:
        memory = json.loads(_memory_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # nothing remembered, or a damaged file: the data are read again
    return memory if isinstance(memory, dict) else {}


def recall(dataset: Entry, located: Located) -> Known | None:
    """What is remembered of the located data; ``None`` if they were never read here."""
    match _read_memory().get(_memory_key(dataset, located)):
        case {"fingerprint": str(fingerprint), "modalities": [*names]}:
            return Known(fingerprint, tuple(map(str, names)))
    return None


def remember(dataset: Entry, located: Located, known: Known) -> None:
    """Keep fingerprint and modalities of located data for the next look-up.

    The file is replaced in one step. Of two processes at the same moment one may lose its entry; that
    costs one more reading of the data.

    Raises:
        OSError: The cache folder cannot be written.
    """
    memory = _read_memory()
    memory[_memory_key(dataset, located)] = {
        "fingerprint": known.fingerprint,
        "modalities": list(known.modalities),
    }
    file = _memory_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(memory, indent=1), encoding="utf-8")
    temporary.replace(file)
