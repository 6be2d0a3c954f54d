"""Whether a run folder from elsewhere is what it says: checked before it may stand among our own.

Nothing is trusted: not the sizes, not the types of arrays, not that the numbers of the record are theirs.
What can be said of a record alone is checked wherever one is read (:mod:`benchmark.records.document`), what
can be said of an array wherever that is (:mod:`benchmark.records.npz`). This module does not import torch.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmark.disk import cannot_be_read
from benchmark.errors import BenchmarkError
from benchmark.records import npz
from benchmark.records.document import METRICS
from benchmark.records.record import RunRecord
from benchmark.records.store import StoredRun, UnreadableRunError, read_record, unreadable

ARRAYS_BYTES = 2 << 30
UNPACKED_BYTES = 8 << 30
"""Bounds for ``arrays.npz``, and for what the arrays of a run take once unpacked."""


class InvalidRunError(BenchmarkError):
    """A run that must not be stored; the message says what is wrong with it."""


def check_run(folder: Path) -> RunRecord:
    """The record of a run folder that is sound in every respect.

    Args:
        folder: Its name must be the start of the key.

    Raises:
        InvalidRunError: It is not; the message names folder, file and field.
        UnreadableRunError: It cannot be read now.
    """
    try:
        run = StoredRun(folder, read_record(folder / "record.json"))
        _need(run.record.name == folder.name, f"its key starts with {run.record.name}")
        known = check_arrays(run)
        _check_numbers(run, known)
    except UnreadableRunError:
        raise
    except OSError as error:
        raise unreadable(folder, error) from None
    except BenchmarkError as error:
        raise InvalidRunError(f"run {folder.name}: {error}") from None
    return run.record


def check_arrays(run: StoredRun, limit: int | None = UNPACKED_BYTES) -> dict[str, npz.Header]:
    """Check that every array is what record and header say and can be read without pickle.

    A megabyte at a time, whatever they claim to hold.

    Raises:
        InvalidRunError: The file is damaged, another one, holds Python objects, or more than ``limit`` bytes.
        UnreadableRunError: It cannot be read now.
    """
    try:
        with (run.folder / "arrays.npz").open("rb") as file:
            run.check_sum(file)
            with zipfile.ZipFile(file) as archive:
                known = npz.headers(archive, limit)
                for name, header in known.items():
                    npz.fits(name, header, run.record)
                npz.read_through(archive)
    except npz.InvalidArraysError as error:
        raise InvalidRunError(str(error)) from None
    except npz.DAMAGED as error:
        if cannot_be_read(error):
            raise unreadable(run.folder, error) from None
        raise InvalidRunError(f"arrays.npz cannot be read ({error})") from None
    return known


def _check_numbers(run: StoredRun, known: Mapping[str, npz.Header]) -> None:
    """The scores of a record must be the means of its average precisions, and its first ranks rows."""
    record = run.record
    for direction in record.directions:
        names = {metric: f"ap/{metric}/{direction}" for metric in METRICS}
        kept = [f"top/{direction}"] if f"top/{direction}" in known else []
        arrays = run.arrays(*names.values(), *kept)
        for metric, name in names.items():
            means = arrays[name].mean(axis=1, dtype=np.float64)
            near = np.allclose(means, record.values(metric, direction), rtol=0, atol=1e-6)
            _need(bool(near), f"'results.{metric}.{direction}' is not the mean of its arrays")


def _need(condition: bool, problem: str) -> None:
    if not condition:
        raise InvalidRunError(f"record.json: {problem}")
