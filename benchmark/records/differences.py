"""Whether two stored runs of one key say the same, and if not, whether their machines can be the reason."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.records.document import METRICS
from benchmark.records.record import RunRecord
from benchmark.records.store import StoredRun, unreadable

COMPUTED = ("ap/", "precision/", "top/", "top_score/", "method/")
"""Names of arrays that a machine computes; the others follow from the data."""
ALONE, TOGETHER = "alone", "together"


@dataclass(frozen=True)
class Difference:
    """In what two runs of one key differ.

    Attributes:
        field: The first in which they do.
        machine: The machines can be the reason: only numbers differ that were computed, and something they
            are computed by does, too.
        text: How much and why, in one line, where ``machine`` holds.
    """

    field: str
    machine: bool = False
    text: str = ""


def difference(old: StoredRun, new: StoredRun) -> Difference | None:
    """In what two runs of one key differ; ``None`` if in nothing.

    When and where a run was computed, how long it took and where its data lay are not compared.

    Raises:
        DamagedRecordError: The arrays of one are.
        UnreadableRunError: They cannot be read now.
    """
    if field := _differs(_asked(old.record), _asked(new.record)):
        return Difference(field)
    field = _differs(_numbers(old.record), _numbers(new.record))
    try:
        if not field and _sha256(old.folder / "arrays.npz") == _sha256(new.folder / "arrays.npz"):
            return None
    except OSError as error:
        raise unreadable(old.folder, error) from None
    ours, theirs = old.arrays(), new.arrays()
    for name in sorted(set(ours) | set(theirs)):
        a, b = ours.get(name), theirs.get(name)
        if a is None or b is None or (a.dtype, a.shape) != (b.dtype, b.shape):
            return Difference(f"array {name}")
        if a.tobytes() != b.tobytes():
            if not name.startswith(COMPUTED):
                return Difference(f"array {name}")
            field = field or f"array {name}"
    if not field:
        return None
    reasons = "; ".join(_unlike(circumstances(old.record), circumstances(new.record)))
    if not reasons:
        return Difference(field)
    most = max(_distances(old.record, new.record))
    return Difference(field, machine=True, text=f"scores differ by up to {most:.2g} ({reasons})")


def circumstances(record: RunRecord) -> dict[str, str]:
    """What the numbers of a run depend on beyond its key: who reckons in another order gets others."""
    device, versions = record.device, record.versions
    names = ("python", "torch", "numpy", "suite", "platform")
    return {
        "device": f"{device['type']} {device['name']}",
        "threads": str(device["threads"]),
        "replicas": training(record),
        **{name: str(versions[name]) for name in names if name in versions},
    }


def training(record: RunRecord) -> str:
    """How the replicas of a run were trained, as far as its method has left a note of it.

    One seed is alone in any case; replicas that were trained together depend on how many they were.
    """
    found = sorted(set(_noted(record.notes)))
    return " and ".join(found) or "not noted"


def _noted(notes: Mapping[str, Any]) -> Iterator[str]:
    """What notes say of the replicas of every phase; where each pair has a model, its name comes first."""
    for name, value in notes.items():
        if name.rpartition("/")[2] == "replicas" and isinstance(value, Mapping):
            yield from (how for how in value.values() if how in (ALONE, TOGETHER))


def _unlike(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    names = [*a, *(name for name in b if name not in a)]
    return [f"{n} {a.get(n, 'unknown')} and {b.get(n, 'unknown')}" for n in names if a.get(n) != b.get(n)]


def _distances(a: RunRecord, b: RunRecord) -> Iterator[float]:
    for metric in METRICS:
        for direction in a.directions:
            pairs = zip(a.values(metric, direction), b.values(metric, direction), strict=True)
            yield from (abs(x - y) for x, y in pairs)


def _asked(record: RunRecord) -> dict[str, Any]:
    """What two computations of one run must agree in, wherever they are made."""
    method, data = record.method, record.dataset
    values = {name: each.value for name, each in record.recipe.items()}
    terms = ("profile", "seeds", "precision", "scaling", "modalities", "rows")
    return {
        "metric_version": record.comparability["metric_version"],
        "method": {name: getattr(method, name) for name in ("id", "version")},
        "dataset": {
            name: getattr(data, name) for name in ("id", "fingerprint", "source", "split", "options")
        },
        **{name: getattr(record, name) for name in terms},
        **record.options,
        # a file that a value names is in the key by its content; where it lies is of no interest
        "recipe": {n: "file:" if str(v).startswith("file:") else v for n, v in values.items()},
        **{name: getattr(record, name) for name in ("chance", "sizes")},
    }


def _numbers(record: RunRecord) -> dict[str, Any]:
    """What they agree in only if they reckon alike."""
    return {"results": record.results, "averages": record.averages}


def _differs(a: Any, b: Any, path: str = "") -> str:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in [*a, *(name for name in b if name not in a)]:
            if found := _differs(a.get(name), b.get(name), f"{path}.{name}" if path else name):
                return found
        return ""
    return "" if a == b else path


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
