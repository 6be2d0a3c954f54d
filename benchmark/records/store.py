"""Run records on disk: one folder per run, found again by the hash of what produced it.

A folder holds ``record.json`` and ``arrays.npz``; nothing is pickled. It is written under a temporary
name, flushed, and renamed when complete: whatever moment a process is killed at, a folder under its final
name is whole. What an interrupted run leaves behind (temporary folders, checkpoints) is used or removed by
the next run with the same key. Failed runs are not stored.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.disk import default_root, flush, flush_folder, naming
from benchmark.errors import BenchmarkError
from benchmark.records import npz
from benchmark.records.document import InvalidRecordError, canonical, sealed
from benchmark.records.record import RunRecord

if TYPE_CHECKING:
    from io import BufferedReader

    from numpy.typing import NDArray

RECORD_BYTES = 32 << 20
"""Bound for ``record.json``: what is larger is none, and is not read."""


class DamagedRecordError(BenchmarkError):
    """A run folder whose content is not a record."""


@dataclass(frozen=True)
class StoredRun:
    """A record and where it lies; arrays are read on demand."""

    folder: Path
    record: RunRecord

    def arrays(self, *names: str) -> dict[str, NDArray[Any]]:
        """The named arrays of the run, or all of them.

        Raises:
            DamagedRecordError: ``arrays.npz`` is missing or cannot be read.
        """
        try:
            with (self.folder / "arrays.npz").open("rb") as file:
                self.check_sum(file)
                with zipfile.ZipFile(file) as archive:
                    return npz.read(archive, names, self.record)
        except npz.InvalidArraysError as error:
            raise _damaged(self.folder, str(error)) from None
        except npz.DAMAGED as error:
            raise _damaged(self.folder, f"arrays.npz: {error}") from None

    def check_sum(self, file: BufferedReader) -> None:
        """Check that an opened file is the one which was stored with the record, and go back to its start.

        Raises:
            InvalidArraysError: It is another.
        """
        wanted = self.record.arrays_sha256  # old records have none
        if wanted is not None and hashlib.file_digest(file, "sha256").hexdigest() != wanted:
            raise npz.InvalidArraysError("arrays.npz is not the file that was stored with the record")
        file.seek(0)


class Store:
    """All stored runs under one root folder.

    Args:
        root: The folder; by default $BENCHMARK_RESULTS, or ``results/runs`` of the checkout.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_root() if root is None else root

    def folder(self, key: str) -> Path:
        """Where the run with this key lies, whether it exists or not."""
        return self.root / key[:16]

    def find(self, key: str) -> StoredRun | None:
        """The stored run with this key, or ``None``.

        Raises:
            DamagedRecordError: Its folder holds something else than a whole record.
        """
        folder = self.folder(key)
        if not folder.is_dir():
            return None
        run = read_run(folder)
        if run.record.key != key:
            raise _damaged(folder, f"it holds the run {run.record.key}")
        return run

    def starting_with(self, text: str) -> StoredRun:
        """The one stored run whose key, or folder name, starts with this.

        Raises:
            BenchmarkError: There is none, or more than one; the message names them.
            DamagedRecordError: Its folder holds something else than a whole record.
        """
        folders = self.root.iterdir() if self.root.is_dir() else ()
        found = sorted(f for f in folders if f.is_dir() and f.name.startswith(text[:16]) and f.name[0] != ".")
        if len(found) > 1:
            names = ", ".join(folder.name for folder in found[:5])
            raise BenchmarkError(f"{len(found)} stored runs start with {text!r}: {names}")
        run = read_run(found[0]) if found else None
        if run is None or not run.record.key.startswith(text):
            raise BenchmarkError(f"no stored run starts with {text!r} in {self.root}; `results` lists them")
        return run

    def all(self) -> tuple[list[StoredRun], list[str]]:
        """Every stored run in the order they were made, and one line for every damaged folder."""
        runs, problems = [], []
        folders = self.root.iterdir() if self.root.is_dir() else ()
        for folder in sorted(folders):
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            try:
                runs.append(read_run(folder))
            except DamagedRecordError as error:
                problems.append(str(error))
        return sorted(runs, key=lambda run: run.record.started), problems

    def prepare(self) -> None:
        """Make sure that results can be written, before anything is computed.

        Raises:
            BenchmarkError: The folder cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            reason = error.strerror or str(error)
            raise BenchmarkError(
                f"results folder {self.root} cannot be written ({reason}); choose another with --results"
            ) from None

    def partial(self, key: str) -> Path:
        """Folder for checkpoints of the unfinished run with this key; made if it does not exist."""
        folder = self.root / ".partial" / key[:16]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def clear_partial(self, key: str) -> None:
        """Remove what :meth:`partial` gave out."""
        shutil.rmtree(self.root / ".partial" / key[:16], ignore_errors=True)

    def shared(self, facts: str) -> Path:
        """Folder of finished phases for all runs on the same data; never listed, safe to delete.

        Args:
            facts: Everything about the data as training sees them.
        """
        return self.root / ".shared" / hashlib.sha256(facts.encode()).hexdigest()[:16]

    @contextmanager
    def lock(self, key: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the run with this key; a second process waits. The system frees it if the holder dies.

        Args:
            key: The run.
            on_wait: Called once if another process holds it.
        """
        from filelock import FileLock, Timeout  # comes with torch, which every run needs

        file = self.lock_file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait()
            lock.acquire(poll_interval=0.2)
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def try_lock(self, key: str) -> Iterator[bool]:
        """Hold the run with this key unless another process does; gives whether it is held now."""
        from filelock import FileLock, Timeout

        file = self.lock_file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def lock_file(self, key: str) -> Path:
        """What is locked while the run with this key is worked on."""
        return self.root / ".locks" / f"{key[:16]}.lock"

    def save(self, record: RunRecord, arrays: Mapping[str, NDArray[Any]]) -> StoredRun:
        """Store a finished run, replacing an earlier one with the same key. Call with its lock held.

        Args:
            record: Of the run.
            arrays: Named arrays of numbers.

        Raises:
            TypeError, ValueError: Content that JSON or npz cannot hold without pickling.
        """
        import numpy as np

        key = record.key
        if objects := [name for name, array in arrays.items() if np.asarray(array).dtype.hasobject]:
            raise TypeError(f"array {objects[0]!r} holds Python objects; only numbers are stored")
        canonical(record.to_json())  # refused before anything is written
        self._clear_new(key)
        temporary = self.root / f".new-{key[:16]}-{os.getpid()}"
        temporary.mkdir()
        try:
            with naming(self.folder(key), temporary):
                with (temporary / "arrays.npz").open("w+b") as file:
                    np.savez_compressed(file, **dict[str, Any](arrays))
                    flush(file)
                    file.seek(0)
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                document = sealed(record.to_json() | {"arrays_sha256": digest})
                text = json.dumps(document, indent=1, allow_nan=False)
                with (temporary / "record.json").open("wb") as file:
                    file.write(text.encode())
                    flush(file)
                flush_folder(temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._put(temporary, key)
        return StoredRun(self.folder(key), RunRecord.from_json(json.loads(text)))

    def adopt(self, folder: Path, key: str) -> None:
        """Move a whole, flushed run folder into place, replacing an earlier one. Call with its lock held.

        Args:
            folder: On the same file system as the store.
            key: Of the run.
        """
        self._clear_new(key)
        self._put(folder, key)

    def remove(self, key: str) -> None:
        """Delete a run and its checkpoints. Call with its lock held.

        Whatever moment it is killed at, the folder is whole or gone.
        """
        self._clear_new(key)
        removed = self.root / f".new-{key[:16]}-removed"
        self.folder(key).rename(removed)
        flush_folder(self.root)
        shutil.rmtree(removed)
        self.clear_partial(key)

    def _clear_new(self, key: str) -> None:
        for leftover in self.root.glob(f".new-{key[:16]}-*"):
            shutil.rmtree(leftover)

    def _put(self, temporary: Path, key: str) -> None:
        folder, replaced = self.folder(key), self.root / f".new-{key[:16]}-replaced"
        if folder.exists():
            folder.rename(replaced)  # a folder cannot be renamed onto one with content
        temporary.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
        flush_folder(self.root)
        self.clear_partial(key)


def read_run(folder: Path) -> StoredRun:
    """The run in a folder; its arrays are not looked into.

    Raises:
        DamagedRecordError: It holds something else than a whole record.
    """
    try:
        record = read_record(folder / "record.json")
    except InvalidRecordError as error:
        raise _damaged(folder, str(error)) from None
    if not (folder / "arrays.npz").is_file():
        raise _damaged(folder, "no arrays.npz")
    return StoredRun(folder, record)


def read_record(file: Path) -> RunRecord:
    """The record in a file.

    Raises:
        InvalidRecordError: It holds none; one line that names file and field.
    """
    try:
        text = _text(file)
        return RunRecord.from_json(json.loads(text, parse_constant=_refuse, parse_float=_finite))
    except (InvalidRecordError, OSError, ValueError, RecursionError) as error:
        raise InvalidRecordError(f"{file.name}: {error}") from None


def _text(file: Path) -> str:
    if file.stat().st_size > RECORD_BYTES:
        raise InvalidRecordError(f"larger than {RECORD_BYTES} bytes")
    text = file.read_text(encoding="utf-8")
    if "\\ud" in text.lower():  # half a character, written as JSON may: it can be read, but never shown
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    return text


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is too large a number")
    return value


def _damaged(folder: Path, why: str) -> DamagedRecordError:
    return DamagedRecordError(f"{folder}: damaged run record ({why}); delete the folder or use --force")
