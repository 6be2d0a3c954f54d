"""What is remembered of data that were read before, so that a stored run is found without reading them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.core.dataset import Location
from benchmark.core.registry import Entry
from benchmark.disk import cache_folder, read_own, write_text


@dataclass(frozen=True)
class DataIdentity:
    """What is remembered of data that were read before: their fingerprint and modalities."""

    fingerprint: str
    modalities: tuple[str, ...]


def _memory_file() -> Path:
    return cache_folder() / "fingerprints.json"


def _memory_key(dataset: Entry, located: Location) -> str:
    request = located.request
    options = sorted(request.options.items())
    facts = [dataset.id, dataset.info.version, located.source, located.identity, request.split, options]
    return json.dumps(facts, separators=(",", ":"))


def _read_memory() -> dict[str, Any]:
    def read(file: Path) -> dict[str, Any]:
        memory = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(memory, dict):
            raise TypeError("not a table")
        return memory

    return read_own(_memory_file(), read) or {}  # what is not remembered is read again


def recall(dataset: Entry, located: Location) -> DataIdentity | None:
    """What is remembered of the located data; ``None`` if they were never read here."""
    match _read_memory().get(_memory_key(dataset, located)):
        case {"fingerprint": str(fingerprint), "modalities": [*names], "check": str(check)}:
            known = DataIdentity(fingerprint, tuple(map(str, names)))
            return known if check == _check(known) else None
    return None


def _check(known: DataIdentity) -> str:
    """Changes with what is remembered: a damaged name of a modality would stop every run that asks for it."""
    return hashlib.sha256(json.dumps([known.fingerprint, known.modalities]).encode()).hexdigest()[:16]


def remember(dataset: Entry, located: Location, known: DataIdentity) -> None:
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
        "check": _check(known),
    }
    file = _memory_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(memory, indent=1))
