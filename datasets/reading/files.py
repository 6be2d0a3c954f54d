r"""Feature files: find them on this machine, fetch them, and know them by their content.

A published file is known by its git blob id, ``sha1(b"blob <size>\0" + content)``, which needs neither a
repository nor the size in advance, or by its sha256.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from benchmark.core.dataset import Progress
from benchmark.disk import flush, locked
from benchmark.errors import DataError

POINTER = b"version https://git-lfs"
BLOCK = 1 << 16  # bytes; what a broken transfer loses at most
ATTEMPTS = 5


@dataclass(frozen=True)
class Patience:
    """When a server is given up, and the next attempt made.

    Attributes:
        connection: Seconds for a connection.
        silence: Seconds in which nothing comes.
        answer: Seconds until the body begins, redirections included.
        window: Seconds over which the rate is looked at.
        rate: Bytes per second that must come.
    """

    connection: float = 10
    silence: float = 60
    answer: float = 120
    window: float = 60
    rate: float = 4096


PATIENCE = Patience()


@dataclass(frozen=True)
class Remote:
    """A file that can be fetched.

    Attributes:
        name: File name on disk.
        urls: Mirrors, tried in order.
        blob: Git blob id (hex), or empty if ``sha256`` is given.
        sha256: Hex digest, or empty if ``blob`` is given.
        limit: Largest size accepted, in bytes.
    """

    name: str
    urls: tuple[str, ...]
    blob: str = ""
    sha256: str = ""
    limit: int = 1 << 29

    def matches(self, path: Path) -> bool:
        """Whether the file at ``path`` is this one, byte for byte."""
        return git_blob_id(path) == self.blob if self.blob else sha256(path) == self.sha256


def github(repository: str, commit: str, path: str) -> str:
    """Address of one file of a public GitHub repository at a full commit id."""
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def git_blob_id(path: Path) -> str:
    """Hex id git gives to the content of a file."""
    start = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    return _digest(path, start)


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    return _digest(path, hashlib.sha256())


def listing(root: Path) -> list[Path]:
    """Files in ``root`` and two folder levels below it, the nearest first, else alphabetical.

    Hidden folders and folders that cannot be read are passed over. A ``root`` that is a file is listed.
    """
    if root.is_file():
        return [root]
    found: list[Path] = []
    level = [root]
    for remaining in (2, 1, 0):
        below: list[Path] = []
        for folder in level:
            entries: list[os.DirEntry[str]] = []
            with suppress(OSError):
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            found += [Path(entry.path) for entry in entries if entry.is_file()]
            if remaining:
                below += [Path(e.path) for e in entries if e.is_dir() and not e.name.startswith(".")]
        level = below
    return found


def fits(path: Path, pattern: str) -> bool:
    """Whether the end of ``path`` fits ``pattern``, e.g. ``wiki*/images.mat``; upper case is ignored."""
    parts = pattern.lower().split("/")
    tail = [part.lower() for part in path.parts[-len(parts) :]]
    return len(tail) == len(parts) and all(map(fnmatchcase, tail, parts))


def find(groups: Sequence[tuple[str, ...]], roots: Iterable[Path]) -> tuple[Path, ...]:
    """The first complete group of files.

    Args:
        groups: Alternatives, the preferred first. A group is the pattern of one file and the names of the
            files that must lie beside it.
        roots: Folders, the preferred first; each is searched two levels deep.

    Returns:
        The files of the group in its order, or an empty tuple.
    """
    for root in roots:
        files = listing(root)
        for anchor, *beside in groups:
            for path in files:
                group = (path, *(path.parent / name for name in beside))
                if fits(path, anchor) and all(file.is_file() for file in group):
                    return group
    return ()


def identity(files: Iterable[Path]) -> str:
    """Paths, sizes and modification times: changes when the files may have changed; nothing is read."""
    stats = ((file.resolve(), file.stat()) for file in files)
    return "|".join(f"{path}:{stat.st_size}:{stat.st_mtime_ns}" for path, stat in stats)


class _FailedError(Exception):
    """One mirror could not give the file; the next one is tried."""


class _BrokenError(Exception):
    """A transfer stopped early; what arrived is kept and the rest asked for again."""


def download(remote: Remote, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch a file into ``folder``, verify it, and only then give it its name.

    What arrives is kept in ``<name>.part``; a later call, or another mirror, goes on from there. A file
    that is already there and right is not fetched again; of two processes one fetches and the other waits.

    Args:
        remote: What to fetch.
        folder: Created if needed.
        progress: Called with a line about once a second, and at the end.

    Returns:
        Path of the verified file.

    Raises:
        DataError: No mirror gave the right file (every reason is named), or the folder cannot be written.
    """
    target, lock = folder / remote.name, folder / f".{remote.name}.lock"

    def waiting() -> None:
        if progress is not None:
            progress(f"{remote.name}: another process is fetching it; waiting")

    try:
        if target.is_file() and remote.matches(target):
            return target
        with locked(lock, waiting):
            try:
                if not (target.is_file() and remote.matches(target)):  # the other one may have failed
                    _fetch(remote, target, progress)
            finally:
                if os.name == "posix":  # elsewhere a file that another process has opened cannot be removed
                    lock.unlink(missing_ok=True)  # who waits for it notices, and makes another
    except OSError as error:
        raise DataError(f"cannot store {target}: {error.strerror or error}") from None
    return target


def _fetch(remote: Remote, target: Path, progress: Progress | None) -> None:
    """Try every mirror until one gives the file."""
    part = target.with_name(f"{remote.name}.part")
    reasons = []
    for url in remote.urls:
        try:
            _from_mirror(url, part, remote, progress)
        except _FailedError as problem:
            reasons.append(f"{urlsplit(url).netloc}: {problem}")
        else:
            part.replace(target)
            return
    offline = (
        "; without a network, copy the file there by hand" if "cannot reach" in " ".join(reasons) else ""
    )
    raise DataError(f"{remote.name} was not fetched to {target.parent}: {'; '.join(reasons)}{offline}")


def _from_mirror(url: str, part: Path, remote: Remote, progress: Progress | None) -> None:
    """Fill ``part`` from one address and verify it, resuming after breaks and starting anew once if stale."""
    problem = "the transfer kept breaking off"
    for _ in range(ATTEMPTS):
        start = part.stat().st_size if part.exists() else 0
        try:
            _transfer(url, part, start, remote, progress)
        except _BrokenError as broken:
            problem = str(broken)
            kept = part.stat().st_size if part.exists() else 0
            if kept > start or (start and not kept):  # more is here, or it begins anew
                continue
            break
        if not (problem := _wrong_content(part, remote)):
            return
        part.unlink()
        if start == 0:  # after a resume the old half may have been the wrong one: try once from nothing
            break
    raise _FailedError(problem)


def _transfer(url: str, part: Path, start: int, remote: Remote, progress: Progress | None) -> None:
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with _ask(url, headers) as answer:
        if answer.status_code == 416 and start:  # nothing is left, or the part is longer than the file
            return
        if answer.status_code not in (200, 206):
            raise _FailedError(f"HTTP {answer.status_code} {answer.reason}")
        resumed = answer.status_code == 206
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)  # asked again, the server would answer the same
            raise _BrokenError("the server answered with another range than asked for")
        start = start if resumed else 0
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() and len(length) < 19 else None
        _refuse_oversize(total or 0, remote, part)
        done = _write(_blocks(answer), part, start, total, remote, progress)
    if total is not None and done < total:
        raise _BrokenError(f"the transfer broke off at {done} of {total} bytes")


def _ask(url: str, headers: dict[str, str]) -> Any:
    """The answer to a request, its body not read. In a thread: headers may drip in for ever, too."""
    try:
        import requests
    except ImportError:
        raise DataError("fetching needs the package requests: pip install requests") from None
    answers: list[Any] = []

    def ask() -> None:
        try:
            timeout = (PATIENCE.connection, PATIENCE.silence)
            answers.append(requests.get(url, headers=headers, stream=True, timeout=timeout))
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that asked
            answers.append(error)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE.answer)
    answer = answers[0] if answers else requests.ReadTimeout()
    if isinstance(answer, requests.ConnectionError):
        raise _BrokenError(f"cannot reach it ({type(answer).__name__})")
    if isinstance(answer, requests.RequestException):
        raise _BrokenError(f"it gives no answer ({type(answer).__name__})")
    if isinstance(answer, Exception):
        raise answer
    return answer


def _blocks(answer: Any) -> Iterator[bytes]:
    """The body of an answer as it arrives, for as long as enough does."""
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    arrived, since = 0, time.monotonic()
    try:
        while block := answer.raw.read1(BLOCK, decode_content=True):
            yield block
            arrived += len(block)
            if (seconds := time.monotonic() - since) >= PATIENCE.window:
                if arrived < PATIENCE.rate * seconds:
                    raise _BrokenError(f"the transfer is too slow: {arrived} bytes in {seconds:.0f} s")
                arrived, since = 0, time.monotonic()
    except ReadTimeoutError:
        raise _BrokenError(f"the transfer stalled: nothing came for {PATIENCE.silence:g} s") from None
    except (HTTPError, OSError) as error:
        raise _BrokenError(f"the transfer broke off ({type(error).__name__})") from None


def _write(
    blocks: Iterator[bytes],
    part: Path,
    start: int,
    total: int | None,
    remote: Remote,
    progress: Progress | None,
) -> int:
    done, said = start, time.monotonic()
    size = "" if total is None else f" of {total / 1e6:.1f}"
    with part.open("ab" if start else "wb") as stream:
        for block in blocks:
            done += len(block)
            _refuse_oversize(done, remote, part)
            stream.write(block)
            if progress is not None and (done == total or time.monotonic() - said > 1):
                progress(f"{remote.name}: {done / 1e6:.1f}{size} MB")
                said = time.monotonic()
        flush(stream)
    return done


def _refuse_oversize(size: int, remote: Remote, part: Path) -> None:
    if size > remote.limit:
        part.unlink(missing_ok=True)
        raise _FailedError(f"larger than the limit of {remote.limit} bytes")


def _wrong_content(path: Path, remote: Remote) -> str:
    """Why the file is not the published one; empty if it is."""
    if remote.matches(path):
        return ""
    with path.open("rb") as stream:
        head = stream.read(40)
    if head.startswith(POINTER):
        return "a Git LFS pointer came instead of the file"
    kind, want = ("git blob", remote.blob) if remote.blob else ("sha256", remote.sha256)
    got = git_blob_id(path) if remote.blob else sha256(path)
    return f"wrong content ({kind} {got[:12]}, expected {want[:12]}; {path.stat().st_size} bytes)"
