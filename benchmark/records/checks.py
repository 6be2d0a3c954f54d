"""Whether a run folder from elsewhere is what it says: checked before it may stand among our own.

Nothing is trusted: not the sizes, not the types, not that the numbers of the record are those of its arrays.
This module does not import torch.
"""

from __future__ import annotations

import json
import math
import re
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmark.errors import BenchmarkError
from benchmark.records.record import FIELDS, SCHEMA
from benchmark.records.store import StoredRun

RECORD_BYTES = 32 << 20
ARRAYS_BYTES = 2 << 30
UNPACKED_BYTES = 8 << 30
"""Bounds for ``record.json``, for ``arrays.npz``, and for what the arrays of a run take once unpacked."""

MEASURES = ("map@all", "map@50")
SOURCES = ("official", "standin", "user")
PROFILES = ("paper", "quick")
TEXTS = (
    *("started", "precision", "scaling", "method.id", "method.title", "dataset.id", "dataset.title"),
    *("dataset.fingerprint", "dataset.split", "dataset.description", "device.type"),
)
LISTS = ("dataset.splits", "dataset.modalities", "modalities", "warnings")


class InvalidRunError(BenchmarkError):
    """A run that must not be stored; the message says what is wrong with it."""


def check_run(folder: Path) -> dict[str, Any]:
    """The record of a run folder that is sound in every respect.

    Args:
        folder: Its name must be the start of the key.

    Raises:
        InvalidRunError: It is not; the message names folder, file and field.
    """
    try:
        record = read_record(folder / "record.json")
        check_record(record, folder.name)
        check_arrays(folder / "arrays.npz")
        _check_numbers(StoredRun(folder, record))
    except BenchmarkError as error:
        raise InvalidRunError(f"run {folder.name}: {error}") from None
    return record


def read_record(file: Path) -> dict[str, Any]:
    """A JSON object without NaN and infinities.

    Raises:
        InvalidRunError: Anything else.
    """
    try:
        if file.stat().st_size > RECORD_BYTES:
            raise InvalidRunError(f"record.json is larger than {RECORD_BYTES} bytes")
        record = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRunError(f"record.json cannot be read ({error})") from None
    if not isinstance(record, dict):
        raise InvalidRunError("record.json is not a JSON object")
    return record


def check_record(record: Mapping[str, Any], name: str) -> None:
    """Check that a record has the layout of this version and is consistent in itself.

    Args:
        record: As read.
        name: First 16 characters its key must have.

    Raises:
        InvalidRunError: Names the field.
    """
    for field in FIELDS:
        _need(field in record, f"no {field!r}")
    _need(record["schema"] == SCHEMA, f"schema {record['schema']}, but this version reads {SCHEMA}")
    key = record["key"]
    _need(isinstance(key, str) and bool(re.fullmatch("[0-9a-f]{64}", key)), "'key' is not a hash")
    _need(key[:16] == name, f"its key starts with {key[:16]}")
    for path in TEXTS:
        _need(isinstance(_at(record, path), str), f"{path!r} is not a text")
    for path in LISTS:
        found = _at(record, path)
        _need(isinstance(found, list) and all(isinstance(e, str) for e in found), f"{path!r} is no list")
    for path, valid in (("dataset.source", SOURCES), ("profile", PROFILES)):
        _need(_at(record, path) in valid, f"{path!r} is not one of {', '.join(valid)}")
    _need(_at(record, "comparability.schema") == SCHEMA, "'comparability.schema' is another than 'schema'")
    same = _at(record, "comparability.fingerprint") == _at(record, "dataset.fingerprint")
    _need(same, "'comparability.fingerprint' is another than 'dataset.fingerprint'")
    _need(isinstance(_at(record, "comparability.metric_version"), int), "no 'comparability.metric_version'")
    _need(isinstance(record["recipe"], dict), "'recipe' is not an object")
    for value in record["recipe"].values():
        whole = isinstance(value, dict) and {"value", "origin", "source"} <= set(value)
        _need(whole, "'recipe' has an entry without value, origin or source")
    _check_scores(record)


def check_arrays(file: Path, limit: int = UNPACKED_BYTES) -> None:
    """Check that every array can be read without pickle; a megabyte at a time, whatever they claim to hold.

    Raises:
        InvalidRunError: The file is damaged, holds Python objects, or more than ``limit`` bytes.
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


def _check_scores(record: Mapping[str, Any]) -> None:
    """Measures, directions and seeds must be the same everywhere, and every number finite."""
    seeds, names = record["seeds"], record["modalities"]
    _need(isinstance(seeds, list) and bool(seeds) and all(_whole(s) for s in seeds), "'seeds' is no list")
    ways = {f"{a}->{b}" for a in names for b in names if a != b}
    tables = {f"results.{m}": _at(record, f"results.{m}") for m in MEASURES}
    tables |= {name: _at(record, name) for name in ("chance", "sizes")}
    for name, table in tables.items():
        _need(isinstance(table, dict) and set(table) == ways, f"{name!r} has other directions than its data")
    lists = {f"results.{m}.{w}": _at(record, f"results.{m}")[w] for m in MEASURES for w in ways}
    lists |= {f"averages.{m}": _at(record, f"averages.{m}") for m in MEASURES}
    for name, values in lists.items():
        fits = isinstance(values, list) and len(values) == len(seeds) and all(_number(v) for v in values)
        _need(fits, f"{name!r} is not one number per seed")
    for measure in MEASURES:
        columns = zip(*(lists[f"results.{measure}.{way}"] for way in sorted(ways)), strict=True)
        means = [sum(column) / len(column) for column in columns]
        near = all(
            math.isclose(a, b, abs_tol=1e-9) for a, b in zip(means, lists[f"averages.{measure}"], strict=True)
        )
        _need(near, f"'averages.{measure}' is not the mean of the results")
    _need(all(_number(value) for value in record["chance"].values()), "'chance' is no number")
    sizes = [record["sizes"][way] for way in ways]
    _need(all(isinstance(s, dict) and _whole(s.get("queries")) for s in sizes), "'sizes' has no queries")
    times = _at(record, "timings")
    _need(isinstance(times, dict) and all(_number(v) for v in times.values()), "'timings' is no number")


def _check_numbers(run: StoredRun) -> None:
    """The scores of a record must be the means of its average precisions."""
    record = run.record
    for measure in MEASURES:
        for way, scores in record["results"][measure].items():
            name = f"ap/{measure}/{way}"
            array = run.arrays(name)[name]
            shape = (len(record["seeds"]), record["sizes"][way]["queries"])
            _need(array.shape == shape and array.dtype.kind == "f", f"{name!r} is not {shape} numbers")
            near = np.allclose(array.mean(axis=1, dtype=np.float64), scores, rtol=0, atol=1e-6)
            _need(bool(near), f"'results.{measure}.{way}' is not the mean of its arrays")


def _at(record: Mapping[str, Any], path: str) -> Any:
    """A value by its dotted path."""
    value: Any = record
    for name in path.split("."):
        _need(isinstance(value, dict) and name in value, f"no {path!r}")
        value = value[name]
    return value


def _need(condition: bool, problem: str) -> None:
    if not condition:
        raise InvalidRunError(f"record.json: {problem}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
