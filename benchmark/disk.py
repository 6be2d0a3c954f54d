"""Every place on disk, and the one way a file is written: whole or not at all."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


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
    owner = f"{platform.node()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
    part = file.with_name(f".{file.name[:40]}.{owner}.part")
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
