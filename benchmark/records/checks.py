"""Whether a run folder from elsewhere is what it says: checked before it may stand among our own.

Nothing is trusted: not the sizes, not the types of arrays, not that the numbers of the record are theirs.
What can be said of a record alone is checked wherever one is read (:mod:`benchmark.records.document`).
This module does not import torch.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from benchmark.disk import cannot_be_read
from benchmark.errors import BenchmarkError
from benchmark.records.document import METRICS
from benchmark.records.record import RunRecord
from benchmark.records.store import StoredRun, UnreadableRunError, read_record, unreadable

RECORD_BYTES = 32 << 20
ARRAYS_BYTES = 2 << 30
UNPACKED_BYTES = 8 << 30
"""Bounds for ``record.json``, for ``arrays.npz``, and for what the arrays of a run take once unpacked."""


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
        _check_size(folder / "record.json")
        record = read_record(folder / "record.json")
        _need(record.name == folder.name, f"its key starts with {record.name}")
        check_arrays(folder / "arrays.npz")
        _check_numbers(StoredRun(folder, record))
    except UnreadableRunError:
        raise
    except OSError as error:
        raise unreadable(folder, error) from None
    except BenchmarkError as error:
        raise InvalidRunError(f"run {folder.name}: {error}") from None
    return record


def check_arrays(file: Path, limit: int = UNPACKED_BYTES) -> None:
    """Check that every array can be read without pickle; a megabyte at a time, whatever they claim to hold.

    Raises:
        InvalidRunError: The file is damaged, holds Python objects, or more than ``limit`` bytes.
        UnreadableRunError: It cannot be read now.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > limit:
                raise InvalidRunError(f"arrays.npz holds more than {limit} bytes")
            if len({member.filename for member in members}) < len(members):
                raise InvalidRunError("arrays.npz holds two arrays of one name")
            for member in members:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise InvalidRunError("arrays.npz is packed in a way that numpy does not write")
                with archive.open(member) as stream:
                    _check_array(stream, member.filename)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if cannot_be_read(error):
            raise unreadable(file.parent, error) from None
        raise InvalidRunError(f"arrays.npz cannot be read ({error})") from None


def _check_array(stream: IO[bytes], name: str) -> None:
    form = np.lib.format
    version = form.read_magic(stream)
    readers = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}
    if not name.endswith(".npy") or version not in readers:
        raise InvalidRunError(f"arrays.npz: {name!r} is no array")
    try:
        shape, _, dtype = readers[version](stream)
    except tokenize.TokenError as error:
        raise InvalidRunError(f"arrays.npz: {name!r} has no header ({error})") from None
    if dtype.hasobject:
        raise InvalidRunError(f"arrays.npz: {name!r} holds Python objects, which are not read")
    size = 0
    while chunk := stream.read(1 << 20):
        size += len(chunk)
    if any(length < 0 for length in shape) or size != math.prod(shape) * dtype.itemsize:
        raise InvalidRunError(f"arrays.npz: {name!r} is not as long as its header says")


def _check_numbers(run: StoredRun) -> None:
    """The scores of a record must be the means of its average precisions."""
    record = run.record
    for metric in METRICS:
        for way in record.directions:
            name = f"ap/{metric}/{way}"
            array = run.arrays(name)[name]
            shape = (len(record.seeds), record.sizes[way]["queries"])
            _need(array.shape == shape and array.dtype.kind == "f", f"{name!r} is not {shape} numbers")
            means = array.mean(axis=1, dtype=np.float64)
            near = np.allclose(means, record.values(metric, way), rtol=0, atol=1e-6)
            _need(bool(near), f"'results.{metric}.{way}' is not the mean of its arrays")


def _check_size(file: Path) -> None:
    """Refuse to read what no run writes."""
    if file.is_file() and file.stat().st_size > RECORD_BYTES:
        raise InvalidRunError(f"record.json is larger than {RECORD_BYTES} bytes")


def _need(condition: bool, problem: str) -> None:
    if not condition:
        raise InvalidRunError(f"record.json: {problem}")
