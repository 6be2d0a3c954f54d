"""Stored runs that their command would not give any more, because the method's code is another now.

Their keys differ from those of new runs, so nothing takes them for these; they are only to be told from them
where stored runs are looked at. This module does not import torch; plugins are imported only if there may be
runs of some.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmark.core.registry import METHODS
from benchmark.errors import BenchmarkError
from benchmark.records.record import RunRecord

STALE = "stale: the method's code has changed"


def stale(records: Iterable[RunRecord]) -> dict[str, str]:
    """Of runs by other code than their method has now, the keys, each with the words that say so.

    A method that is not here, or cannot be used, says nothing about its runs.
    """
    records = list(records)
    try:
        known = {entry.id: entry for entry in METHODS.ours()}
        if any(record.method.id not in known for record in records):
            known = METHODS.entries()
    except BenchmarkError:  # told wherever a method is needed; what is stored can be looked at without
        return {}
    found = {}
    for record in records:
        entry, method = known.get(record.method.id), record.method
        if entry is None or entry.problem:
            continue
        if (method.version, method.code or "") != (entry.info.version, entry.code):
            found[record.key] = STALE
    return found
