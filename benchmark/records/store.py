"""Run records on disk: one folder per run, found again by the hash of what produced it.

A folder holds ``record.json`` and ``arrays.npz``; nothing is pickled. It is written under a temporary name
that no other writer has, flushed, and renamed when complete: whatever moment a process is killed at, a folder
under its final name is whole. A run that is to be replaced is moved aside, and removed once the new one
stands; if that never happened, the next who looks for the run puts it back. Other leftovers (temporary
folders, checkpoints) are used or removed by the next run with the same key. Failed runs are not stored.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.disk import (
    abandoned,
    cannot_be_read,
    check_regular,
    default_root,
    flush,
    flush_folder,
    locked,
    naming,
    owner,
)
from benchmark.errors import BenchmarkError
from benchmark.records import npz
from benchmark.records.document import InvalidRecordError, canonical, sealed
from benchmark.records.record import RunRecord

if TYPE_CHECKING:
    from io import BufferedReader

    from numpy.typing import NDArray

LATEST = "latest"
"""In place of a key: the run that was started last."""
ASIDE = "replaced"
"""Ends the name of a run's folder that makes room for a new one."""
RECORD_BYTES = 32 << 20
"""Bound for ``record.json``: what is larger is none, and is not read."""


class DamagedRecordError(BenchmarkError):
    """A run folder whose content is not a record."""


class UnreadableRunError(BenchmarkError):
    """A run that cannot be read now, though it may be sound: no permission, too many open files, ..."""


@dataclass(frozen=True)
class StoredRun:
    """A record and where it lies; arrays are read on demand."""

    folder: Path
    record: RunRecord

    def arrays(self, *names: str) -> dict[str, NDArray[Any]]:
        """The named arrays of the run, or all of them.

        Raises:
            DamagedRecordError: ``arrays.npz`` is missing or damaged.
            UnreadableRunError: It cannot be read now.
        """
        try:
            with (self.folder / "arrays.npz").open("rb") as file:
                self.check_sum(file)
                with zipfile.ZipFile(file) as archive:
                    return npz.read(archive, names, self.record)
        except npz.InvalidArraysError as error:
            raise _damaged(self.folder, str(error)) from None
        except npz.DAMAGED as error:
            if cannot_be_read(error):
                raise unreadable(self.folder, error) from None
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
        """The stored run with this key, or ``None``; one that an interrupted save moved aside is put back.

        Raises:
            DamagedRecordError: Its folder holds something else than a whole record.
            UnreadableRunError: It cannot be read now.
        """
        folder = self.folder(key)
        if not folder.is_dir():
            self._find_lost(folder.name)
        if not folder.is_dir():
            return None
        run = read_run(folder)
        if run.record.key != key:
            raise _damaged(folder, f"it holds the run {run.record.key}")
        return run

    def starting_with(self, text: str) -> StoredRun:
        """The one stored run whose key, or folder name, starts with this.

        Args:
            text: The beginning of a key, or ``latest``: the run that was started last, damaged ones aside.

        Raises:
            BenchmarkError: There is none, or more than one; the message names them.
            DamagedRecordError: Its folder holds something else than a whole record.
            UnreadableRunError: It cannot be read now.
        """
        self._find_lost()
        if text == LATEST:
            if not (runs := self.all()[0]):
                raise BenchmarkError(f"no stored run in {self.root}")
            return runs[-1]
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
        """Every stored run in the order they were made, and one line for every folder that cannot be read."""
        self._find_lost()
        runs, problems = [], []
        folders = self.root.iterdir() if self.root.is_dir() else ()
        for folder in sorted(folders):
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            try:
                runs.append(read_run(folder))
            except (DamagedRecordError, UnreadableRunError) as error:
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

        A run that a dead holder had moved aside to replace it is put back.

        Args:
            key: The run.
            on_wait: Called once if another process holds it.
        """
        with locked(self.lock_file(key), on_wait):
            self.recover(key)
            yield

    @contextmanager
    def try_lock(self, key: str) -> Iterator[bool]:
        """Hold the run with this key unless another process does; gives whether it is held now."""
        with locked(self.lock_file(key), wait=False) as held:
            yield held

    def lock_file(self, key: str) -> Path:
        """What is locked while the run with this key is worked on."""
        return self.root / ".locks" / f"{key[:16]}.lock"

    def save(
        self, record: RunRecord, arrays: Mapping[str, NDArray[Any]], *, replace: bool = False
    ) -> StoredRun:
        """Store a finished run. Call with its lock held: without it nothing is lost, but perhaps done twice.

        Args:
            record: Of the run.
            arrays: Named arrays of numbers.
            replace: Whether the run takes the place of one that is stored under its key; a damaged one is
                replaced anyway.

        Returns:
            What is stored now: this run, or the one that was kept.

        Raises:
            TypeError, ValueError: Content that JSON or npz cannot hold without pickling.
        """
        import numpy as np

        key = record.key
        if objects := [name for name, array in arrays.items() if np.asarray(array).dtype.hasobject]:
            raise TypeError(f"array {objects[0]!r} holds Python objects; only numbers are stored")
        canonical(record.to_json())  # refused before anything is written
        temporary = self.temporary(key)
        try:
            with naming(self.folder(key), temporary):
                temporary.mkdir()
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
            stands = self._put(temporary, key, replace=replace)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        folder = self.folder(key)
        return StoredRun(folder, RunRecord.from_json(json.loads(text))) if stands else read_run(folder)

    def adopt(self, folder: Path, key: str, *, replace: bool = False) -> None:
        """Move a whole, flushed run folder into place. Call with its lock held.

        Args:
            folder: On the same file system as the store.
            key: Of the run.
            replace: As for :meth:`save`.
        """
        self._put(folder, key, replace=replace)

    def remove(self, key: str) -> None:
        """Delete a run and its checkpoints. Call with its lock held.

        Whatever moment it is killed at, the folder is whole or gone.
        """
        for older in self._aside(key):  # or it would be put back
            shutil.rmtree(older)
        removed = self.folder(key).rename(self.temporary(key, "removed"))
        flush_folder(self.root)
        shutil.rmtree(removed)
        self._clear_new(key)
        self.clear_partial(key)

    def recover(self, key: str) -> None:
        """Put back a whole run that was moved aside to be replaced and never was. Call with its lock held."""
        folder, found = self.folder(key), []
        for aside in () if folder.exists() else self._aside(key):
            with suppress(DamagedRecordError, UnreadableRunError):
                found.append(read_run(aside))
        for run in sorted(found, key=lambda run: run.record.started, reverse=True):
            with suppress(OSError):  # another process has just put one there
                if run.record.name == folder.name:
                    run.folder.rename(folder)
                    flush_folder(self.root)
                    return

    def _find_lost(self, name: str = "*") -> None:
        """Put back every run of that name that was moved aside, unless a process is just replacing it."""
        for aside in self.root.glob(f".new-{name}-*{ASIDE}"):
            key = aside.name[5:21]
            if not self.folder(key).exists():
                with suppress(OSError), self.try_lock(key) as free:  # a store may be there to be read only
                    if free:
                        self.recover(key)

    def temporary(self, key: str, ending: str = "") -> Path:
        """A folder name of a run with this key that no other writer uses, and that is no run's."""
        return self.root / "-".join(filter(None, (".new", key[:16], owner(), ending)))

    def _aside(self, key: str) -> list[Path]:
        return list(self.root.glob(f".new-{key[:16]}-*{ASIDE}"))

    def _clear_new(self, key: str) -> None:
        for leftover in self.root.glob(f".new-{key[:16]}-*"):
            if abandoned(leftover):
                shutil.rmtree(leftover, ignore_errors=True)

    def _put(self, temporary: Path, key: str, *, replace: bool) -> bool:
        """Give a whole folder its name, and clear up once it stands; whether it does, or another was kept."""
        folder, moved = self.folder(key), []
        try:
            while not (stands := _renamed(temporary, folder)) and (replace or not _is_kept(folder)):
                moved.append(self.temporary(key, ASIDE))
                with suppress(FileNotFoundError):  # another process has moved it
                    folder.rename(moved[-1])
            flush_folder(self.root)
        finally:
            self.recover(key)  # where the new one could not be put, the old one stands again
        for aside in moved:
            shutil.rmtree(aside, ignore_errors=True)
        self._clear_new(key)
        self.clear_partial(key)
        return stands


def _renamed(folder: Path, target: Path) -> bool:
    """Give a folder its name, unless there is something of that name."""
    try:
        folder.rename(target)
    except OSError as error:  # what is there may be gone by now: another process moves it aside, too
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) or target.exists():
            return False
        raise
    return True


def _is_kept(folder: Path) -> bool:
    """Whether something that has the name of a run is not to be replaced: a run, or what may be one."""
    try:
        return read_run(folder).record.name == folder.name
    except DamagedRecordError:
        return False
    except UnreadableRunError:
        return True


def read_run(folder: Path) -> StoredRun:
    """The run in a folder; its arrays are not looked into.

    Raises:
        DamagedRecordError: It holds something else than a whole record.
        UnreadableRunError: It cannot be read now.
    """
    try:
        record = read_record(folder / "record.json")
        if not stat.S_ISREG((folder / "arrays.npz").stat().st_mode):
            raise _damaged(folder, "no arrays.npz")
    except InvalidRecordError as error:
        raise _damaged(folder, str(error)) from None
    except OSError as error:
        if cannot_be_read(error):
            raise unreadable(folder, error) from None
        raise _damaged(folder, "no arrays.npz") from None
    return StoredRun(folder, record)


def read_record(file: Path) -> RunRecord:
    """The record in a file.

    Raises:
        InvalidRecordError: It holds none; one line that names file and field.
        OSError: It cannot be read now.
    """
    try:
        text = _text(file)
        return RunRecord.from_json(json.loads(text, parse_constant=_refuse, parse_float=_finite))
    except (InvalidRecordError, OSError, ValueError, RecursionError) as error:
        if cannot_be_read(error):
            raise
        raise InvalidRecordError(f"{file.name}: {error}") from None


def _text(file: Path) -> str:
    if file.stat().st_size > RECORD_BYTES:
        raise InvalidRecordError(f"larger than {RECORD_BYTES} bytes")
    check_regular(file, RECORD_BYTES)
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


def unreadable(folder: Path, error: BaseException) -> UnreadableRunError:
    """The error for a run that the system does not give out now."""
    why = getattr(error, "strerror", None) or error
    return UnreadableRunError(f"{folder}: cannot be read now ({why}); nothing of it was changed, try again")
