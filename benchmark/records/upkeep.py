"""Taking runs out of the store, and clearing away what nobody needs any more.

Only what the store itself makes is ever touched: folders named by 16 hexadecimal digits, and its own hidden
ones. Whatever another process is working on is left alone.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmark.disk import DAY, abandoned
from benchmark.errors import BenchmarkError
from benchmark.records.checks import InvalidRunError, check_arrays
from benchmark.records.store import ASIDE, DamagedRecordError, Store, StoredRun, UnreadableRunError, read_run


@dataclass(frozen=True)
class Removed:
    """Something that was, or would be, removed: what it was, where, and how many bytes it took."""

    what: str
    path: Path
    bytes: int


@dataclass(frozen=True)
class Collected:
    """What clearing up did.

    Attributes:
        removed: One entry per file or folder.
        restored: Names of runs that were whole but had been left under a temporary name.
        unfinished: Number of checkpoints of unfinished runs, which are kept, and
        unfinished_bytes: their size.
        damaged: One line for every damaged run folder that was kept.
        unreadable: One line for every run that cannot be read now, and is kept whether asked for or not.
        busy: What was left alone because another process works on it.
    """

    removed: tuple[Removed, ...]
    restored: tuple[str, ...]
    unfinished: int
    unfinished_bytes: int
    damaged: tuple[str, ...]
    unreadable: tuple[str, ...]
    busy: tuple[str, ...]


def remove_runs(store: Store, keys: Sequence[str]) -> list[StoredRun]:
    """Delete stored runs.

    Args:
        store: Where they lie.
        keys: Their keys or the beginnings of them.

    Returns:
        What was removed; the folders are gone.

    Raises:
        BenchmarkError: A key that fits no run or several, or a run that another process is computing; nothing
            was removed then.
    """
    if "" in keys:
        raise BenchmarkError("an empty key names no run; `results` lists them")
    runs = {run.folder: run for run in map(store.starting_with, keys)}
    with ExitStack() as held:
        for folder in sorted(runs):
            if not held.enter_context(store.try_lock(folder.name)):
                raise BenchmarkError(
                    f"run {folder.name} is being worked on by another process; nothing was removed"
                )
        for folder in runs:
            store.remove(folder.name)
    return list(runs.values())


def collect(
    store: Store, *, older_than: float = 30, damaged: bool = False, dry_run: bool = False
) -> Collected:
    """Remove what nobody needs: leftovers, checkpoints of finished runs, old shared phases, unused locks.

    Args:
        store: Where to.
        older_than: Days for which a shared phase must not have been used.
        damaged: Remove damaged run folders too; finding them means reading every array.
        dry_run: Only tell what would be removed.
    """
    return _Collector(store, dry_run).collect(older_than, damaged=damaged)


class _Collector:
    def __init__(self, store: Store, dry_run: bool) -> None:
        self.store, self.dry_run = store, dry_run
        self.removed: list[Removed] = []
        self.restored: list[str] = []
        self.busy: list[str] = []
        self.unreadable: list[str] = []
        self.gone: set[str] = set()

    def collect(self, older_than: float, *, damaged: bool) -> Collected:
        problems = self._damaged(remove=damaged)
        self._leftovers()
        unfinished = self._checkpoints()
        self._shared(older_than)
        self._locks()
        return Collected(
            tuple(self.removed),
            tuple(self.restored),
            len(unfinished),
            sum(map(size, unfinished)),
            tuple(problems),
            tuple(self.unreadable),
            tuple(self.busy),
        )

    def _damaged(self, *, remove: bool) -> list[str]:
        kept = []
        for folder in _folders(self.store.root, "[0-9a-f]{16}"):
            try:
                problem = _problem(folder, thorough=remove)
                if problem and not remove:
                    kept.append(problem)
                elif problem:
                    with self._hold(folder.name) as free:
                        if free and _problem(folder, thorough=True):  # it may have been computed anew
                            self._remove("damaged run", folder)
                            self.gone.add(folder.name)
            except UnreadableRunError as error:
                self.unreadable.append(str(error))
        return kept

    def _leftovers(self) -> None:
        """Folders of interrupted writing; a run that was about to be replaced is put back."""
        for folder in _folders(self.store.root, r"\.new-[0-9a-f]{16}-[\w-]+"):
            name = folder.name[5:21]
            with self._hold(name) as free:
                if not free or not folder.exists():
                    continue
                lost = folder.name.endswith(ASIDE) and not (self.store.root / name).exists()
                try:
                    if lost and name not in self.restored and not _problem(folder, name):
                        self.restored.append(name)
                        if not self.dry_run:
                            self.store.recover(name)
                    elif folder.name.endswith((ASIDE, "removed")) or abandoned(folder):
                        self._remove("leftover", folder)
                except UnreadableRunError as error:
                    self.unreadable.append(str(error))
        for folder in _folders(self.store.root, r"\.import-\w+"):
            with self._hold("import") as free:
                if free and folder.exists():
                    self._remove("leftover", folder)

    def _checkpoints(self) -> list[Path]:
        """Remove those of finished runs; the others, which are kept."""
        kept = []
        for folder in _folders(self.store.root / ".partial", "[0-9a-f]{16}"):
            run = self.store.root / folder.name
            if run.name in self.gone or not run.is_dir() or not _sound(run):
                kept.append(folder)
                continue
            with self._hold(folder.name) as free:
                if free:
                    self._remove("checkpoints of a finished run", folder)
        return kept

    def _shared(self, older_than: float) -> None:
        """Remove phases that no run has written or read for so many days."""
        limit = time.time() - older_than * DAY
        for folder in _folders(self.store.root / ".shared", "[0-9a-f]{16}"):
            for file in sorted(folder.iterdir()):
                facts = file.lstat()
                if file.is_file() and not file.is_symlink() and max(facts.st_mtime, facts.st_atime) <= limit:
                    self._remove("shared phase", file)
            if not self.dry_run and not any(folder.iterdir()):
                folder.rmdir()

    def _locks(self) -> None:
        if os.name != "posix":  # elsewhere a file that another process has opened cannot be removed
            return
        folder = self.store.root / ".locks"
        for file in sorted(folder.glob("*.lock")) if folder.is_dir() else ():
            used = any(
                (place / file.stem).exists() for place in (self.store.root, self.store.root / ".partial")
            )
            if not re.fullmatch("[0-9a-f]{16}", file.stem) or (used and file.stem not in self.gone):
                continue
            with self._hold(file.stem) as free:  # who waits for it notices that it is gone, and makes another
                if free:
                    self._remove("lock of no run", file)

    @contextmanager
    def _hold(self, name: str) -> Iterator[bool]:
        """Hold a run, unless it is busy, which is noted; a dry run makes no lock for it."""
        unlocked = self.dry_run and not self.store.lock_file(name).exists()
        with nullcontext(True) if unlocked else self.store.try_lock(name) as free:
            if not free and name not in self.busy:
                self.busy.append(name)
            yield free

    def _remove(self, what: str, path: Path) -> None:
        self.removed.append(Removed(what, path, size(path)))
        if self.dry_run:
            return
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        if not path.name.startswith(".") and path.parent == self.store.root:
            path = path.rename(self.store.temporary(path.name, "removed"))  # never half a run by its name
        shutil.rmtree(path)


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = (Path(top) / name for top, _, names in os.walk(path) for name in names)
    return sum(file.lstat().st_size for file in files) if path.is_dir() else path.lstat().st_size


def _folders(parent: Path, pattern: str) -> list[Path]:
    """The real folders of that name, in order."""
    if not parent.is_dir():
        return []
    found = (path for path in parent.iterdir() if re.fullmatch(pattern, path.name))
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def _problem(folder: Path, name: str = "", *, thorough: bool = False) -> str:
    """What is damaged about a run folder; empty if nothing is.

    Raises:
        UnreadableRunError: It cannot be read now.
    """
    try:
        run = read_run(folder)
        if run.record.name != (name or folder.name):
            return f"{folder}: damaged run record (it holds the run {run.record.key})"
        if thorough:
            check_arrays(run, limit=None)
    except DamagedRecordError as error:
        return str(error)
    except InvalidRunError as error:
        return f"{folder}: damaged run record ({error})"
    return ""


def _sound(folder: Path) -> bool:
    try:
        return not _problem(folder)
    except UnreadableRunError:
        return False
