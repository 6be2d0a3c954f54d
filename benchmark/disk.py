"""Every place on disk, how files are written (whole or not at all), and what becomes of damaged ones."""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import shutil
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # commands need this module, and start without numpy
    from numpy.typing import NDArray

T = TypeVar("T")
DAY = 86400.0
DAMAGED = (None, errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
"""Errors about a file's content, or that it is not there; EINVAL: a zip that points before its start."""


def cache_folder() -> Path:
    """Where fetched files and small look-up tables live: $BENCHMARK_CACHE, or the user's cache folder."""
    if chosen := os.environ.get("BENCHMARK_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cmr-benchmark"


def default_root() -> Path:
    """$BENCHMARK_RESULTS, or ``results/runs`` of the checkout, or of the current folder outside one."""
    if chosen := os.environ.get("BENCHMARK_RESULTS"):
        return Path(chosen)
    return (checkout() or Path.cwd()) / "results" / "runs"


def checkout() -> Path | None:
    """The folder of the checkout this package is run from, if it is."""
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").is_file() else None


def flush(file: IO[bytes]) -> None:
    """Have the system write a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Have the system write to the disk which files a folder holds, where it can be asked to."""
    if os.name != "posix":  # only there can a folder be opened to be flushed
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def published_folder() -> Path | None:
    """The publications' tables: ``results/published`` of the checkout, or the copy an installed suite has."""
    root = checkout()
    folder = Path(__file__).parent / "_published" if root is None else root / "results" / "published"
    return folder if folder.is_dir() else None


def owner() -> str:
    """Makes the name of a temporary unique, and tells :func:`abandoned` who writes it."""
    return f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"


def _host() -> str:
    return re.sub(r"\W", "_", platform.node()[:40]) or "_"


def abandoned(temporary: Path) -> bool:
    """Whether nobody needs a temporary file or folder any more.

    Args:
        temporary: With :func:`owner` in its name. The process that it names ran on this machine and is dead,
            or nothing was written for a day.
    """
    found = re.search(r"[.-](\w+)-(\d+)-[0-9a-f]{8}(?:$|[.-])", temporary.name)
    if found and found[1] == _host() and os.name == "posix":  # elsewhere signal 0 is not harmless
        try:
            os.kill(int(found[2]), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass  # it is another user's
    try:
        return time.time() - temporary.lstat().st_mtime > DAY
    except OSError:
        return False


def cannot_be_read(error: BaseException) -> bool:
    """Whether an error tells that a file cannot be read now, not that it is missing or damaged."""
    return isinstance(error, OSError) and error.errno not in DAMAGED


def read_own(file: Path, read: Callable[[Path], T]) -> T | None:
    """What is in a file that can be made again: a checkpoint, or one of the cache.

    Args:
        file: Written by :func:`whole`.
        read: May raise anything but ``MemoryError`` for what is damaged.

    Returns:
        What ``read`` gives; ``None`` if the file is not there, cannot be read, or is damaged and now removed.
    """
    try:
        return read(file)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged zip, npy and JSON files raise nearly everything
        if not cannot_be_read(error):
            with suppress(OSError):
                shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()
        return None


@contextmanager
def checked_arrays(file: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The arrays of an ``.npz`` file whose checksums hold; numpy compares them only at an array's end."""
    import numpy as np

    with file.open("rb") as stream:
        with zipfile.ZipFile(stream) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is damaged")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as stored:
            yield stored


@contextmanager
def locked(file: Path, on_wait: Callable[[], None] | None = None, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock; a second process waits. The system frees it if the holder dies.

    Args:
        file: What is locked; made with its folder if it does not exist.
        on_wait: Called once if another process holds it.
        wait: Whether to wait then.

    Yields:
        Whether it is held.
    """
    from filelock import FileLock, Timeout  # comes with torch, which every run needs

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if on_wait is not None:
            on_wait()
        if wait:
            lock.acquire(poll_interval=0.2)
    try:
        yield lock.is_locked
    finally:
        lock.release()


def check_regular(file: Path, most: int) -> None:
    """Refuse what has no end or no content of its own (pipes, devices), and what is too large.

    Raises:
        OSError: Not a regular file of at most so many bytes, or none that can be looked at.
    """
    facts = file.stat()
    if stat.S_ISDIR(facts.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(file))
    if facts.st_size > most:
        raise OSError(errno.EFBIG, f"{facts.st_size:,} bytes, more than the {most:,} allowed", str(file))


def read_bytes(file: Path, most: int) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: As :func:`check_regular`, or it cannot be read.
    """
    check_regular(file, most)
    with file.open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:  # it grew, or is of a file system that states no sizes
        raise OSError(errno.EFBIG, f"more than the {most:,} bytes allowed", str(file))
    return content


@contextmanager
def naming(file: Path, hidden: Path) -> Iterator[None]:
    """Have errors of writing name the file that is meant: most name none, some a temporary one.

    Args:
        file: What is written.
        hidden: Under which name, or in which folder, until it is complete.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(str(error.filename)).is_relative_to(hidden):
            error.filename = str(file)
        raise


@contextmanager
def whole(file: Path) -> Iterator[IO[bytes]]:
    """Write a file in one step: who looks for it finds the old one or all of the new one.

    What is written goes to a temporary file beside it, under a name that no other process takes, also on
    another machine with the same disk. When the block ends, it is on the disk and gets its name; when the
    block raises, nothing has changed.

    Args:
        file: Replaced if it exists; its folder must.

    Yields:
        Where to write the content.
    """
    part = file.with_name(f".{file.name[:40]}.{owner()}.part")
    try:
        with naming(file, part):
            with part.open("xb") as stream:
                yield stream
                flush(stream)
            part.replace(file)
    finally:
        with suppress(OSError):  # of a folder that cannot be written; why is being told
            part.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> Path:
    """Write a text file, whole or not at all."""
    with whole(file) as stream:
        stream.write(text.encode())
    return file
