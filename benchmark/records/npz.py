"""The arrays of a run as they lie in ``arrays.npz``: what they claim to be is judged before they are read.

A header says how large an array is; one that lies makes numpy ask for that much memory. So headers are held
against the file, and arrays of the harness against the record, before any array is made.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from benchmark.errors import BenchmarkError
from benchmark.records.document import METRICS
from benchmark.records.record import RunRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = ".npy"
CHUNK = 1 << 20
DAMAGED = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, SyntaxError, OverflowError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What zipfile and numpy raise on damaged files."""


class InvalidArraysError(BenchmarkError):
    """An ``arrays.npz`` that is not what it should be; the message names the array."""


@dataclass(frozen=True)
class Header:
    """What an array claims to be: its shape, kind (of :class:`numpy.dtype`), and bytes."""

    shape: tuple[int, ...]
    kind: str
    bytes: int


def headers(archive: zipfile.ZipFile, limit: int | None = None) -> dict[str, Header]:
    """What every array of a file claims to be; no array is read.

    Args:
        archive: The opened file.
        limit: Bytes that all of them may take.

    Raises:
        InvalidArraysError: Something else than arrays, Python objects, an array that is not as long as its
            header says, or too many bytes.
    """
    members = archive.infolist()
    if limit is not None and sum(member.file_size for member in members) > limit:
        raise InvalidArraysError(f"arrays.npz holds more than {limit} bytes")
    found: dict[str, Header] = {}
    for member in members:
        name = member.filename.removesuffix(SUFFIX)
        if name in found:
            raise InvalidArraysError(f"arrays.npz holds two arrays of one name, {name!r}")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidArraysError("arrays.npz is packed in a way that numpy does not write")
        with archive.open(member) as stream:
            found[name] = _header(stream, member)
    return found


def read_through(archive: zipfile.ZipFile) -> None:
    """Read every byte, a megabyte at a time, which checks them against the checksums of the file.

    Raises:
        zipfile.BadZipFile, zlib.error, EOFError, OSError: The file is damaged.
    """
    for member in archive.infolist():
        with archive.open(member) as stream:
            while stream.read(CHUNK):
                pass


def read(archive: zipfile.ZipFile, names: Iterable[str], record: RunRecord) -> dict[str, NDArray[Any]]:
    """The named arrays, or all of them, each of which is what the record says.

    Raises:
        InvalidArraysError: One is missing or is not.
    """
    from numpy.lib import format as npy

    known = headers(archive)
    arrays = {}
    for name in list(names) or known:
        if name not in known:
            raise InvalidArraysError(f"arrays.npz: no array {name!r}")
        fits(name, known[name], record)
        with archive.open(name + SUFFIX) as stream:
            arrays[name] = npy.read_array(stream, allow_pickle=False)
        check_rows(name, arrays[name], record)
    return arrays


def fits(name: str, header: Header, record: RunRecord) -> None:
    """Check that an array of the harness has the shape and kind that follow from the record.

    Raises:
        InvalidArraysError: It has not.
    """
    kind, _, rest = name.partition("/")
    direction = rest.removeprefix(rest.partition("/")[0] + "/") if kind == "ap" else rest
    if kind not in ("ap", "precision", "top", "top_score"):
        return
    if direction not in record.sizes or (kind == "ap" and rest.partition("/")[0] not in METRICS):
        raise InvalidArraysError(f"arrays.npz: {name!r} is of no metric and direction of the run")
    seeds, queries = len(record.seeds), record.sizes[direction]["queries"]
    wanted: tuple[int, ...] = (seeds, queries)
    if kind == "precision":
        wanted = (seeds, header.shape[1] if len(header.shape) == 2 else 0)
    elif kind != "ap":
        wanted = (seeds, queries, record.top or 0)
    if header.shape != wanted or header.kind not in ("iu" if kind == "top" else "f"):
        raise InvalidArraysError(f"arrays.npz: {name!r} is not {wanted} numbers of its kind")


def check_rows(name: str, array: NDArray[Any], record: RunRecord) -> None:
    """Check that the rows at the first ranks are rows of the database, or -1.

    Raises:
        InvalidArraysError: They are not.
    """
    kind, _, direction = name.partition("/")
    if kind != "top" or not array.size:
        return
    if int(array.min()) < -1 or int(array.max()) >= record.sizes[direction]["database"]:
        raise InvalidArraysError(f"arrays.npz: {name!r} names rows that the database does not have")


def _header(stream: IO[bytes], member: zipfile.ZipInfo) -> Header:
    from numpy.lib import format as npy

    name = member.filename
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if not name.endswith(SUFFIX) or version not in readers:
        raise InvalidArraysError(f"arrays.npz: {name!r} is no array")
    try:
        shape, _, dtype = readers[version](stream)
    except (tokenize.TokenError, SyntaxError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:80]
        raise InvalidArraysError(f"arrays.npz: {name!r} has no header ({reason})") from None
    if dtype.hasobject:
        raise InvalidArraysError(f"arrays.npz: {name!r} holds Python objects, which are not read")
    size = math.prod(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or member.file_size != stream.tell() + size:
        raise InvalidArraysError(f"arrays.npz: {name!r} is not as long as its header says")
    return Header(tuple(map(int, shape)), dtype.kind, size)
