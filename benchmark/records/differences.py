"""Whether two stored runs of one key say the same."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from benchmark.records.record import RunRecord
from benchmark.records.store import StoredRun, unreadable


def first_difference(old: StoredRun, new: StoredRun) -> str:
    """The first field in which two runs of one key differ; empty if there is none.

    When and where a run was computed, how long it took and where its data lay are not compared.

    Raises:
        DamagedRecordError: The arrays of one are.
        UnreadableRunError: They cannot be read now.
    """
    if name := _differs(_content(old.record), _content(new.record)):
        return name
    try:
        if _sha256(old.folder / "arrays.npz") == _sha256(new.folder / "arrays.npz"):
            return ""
    except OSError as error:
        raise unreadable(old.folder, error) from None
    ours, theirs = old.arrays(), new.arrays()
    for name in sorted(set(ours) | set(theirs)):
        a, b = ours.get(name), theirs.get(name)
        if a is None or b is None or (a.dtype, a.shape) != (b.dtype, b.shape) or a.tobytes() != b.tobytes():
            return f"array {name}"
    return ""


def _content(record: RunRecord) -> dict[str, Any]:
    """What two computations of one run must agree in."""
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
        **{name: getattr(record, name) for name in ("results", "averages", "chance", "sizes")},
    }


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
