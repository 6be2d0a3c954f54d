"""Is a MATLAB v5 file what it says it is? Asked before scipy reads it.

scipy reads these files in compiled code that takes every type, count and dimension at its word, so a
damaged file ends the process. Here a file is walked from tag to tag and nothing of it is built: every type
must be one that may stand there, every part must end where the part around it ends, every array must hold
as many values as its dimensions say, and what is compressed must be there to its checksum.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.arrays.sparse import entries

NUMBERS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
TEXTS = {1: 1, 2: 1, 4: 2, 16: 1, 17: 2, 18: 4}
NAMES = {1: 1, 16: 1}  # int8 by the book; some writers say UTF-8
COUNTS = {5: 4, 6: 4}  # int32 by the book; some writers say uint32
PLACES = COUNTS | {12: 8, 13: 8}
"""What an element may be of, by its purpose: type to bytes of one value."""

MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, OBJECT, CHAR, SPARSE, FUNCTION, OPAQUE = 1, 2, 3, 4, 5, 16, 17
NUMERIC = range(6, 16)
LOGICAL, COMPLEX = 1 << 9, 1 << 11
MOST_DIMENSIONS = 32
DEEPEST = 32  # arrays in arrays: scipy goes down on the stack of the process
BLANK = 1 << 20  # characters, or structs without fields, that need no bytes in the file
BLOCK = 1 << 20


def check(path: Path) -> None:
    """Walk a file.

    Raises:
        ValueError: It is damaged; the message says how.
    """
    with path.open("rb") as file:
        header = file.read(128)
        if 0 in header[:4]:  # scipy would take it for v4
            raise ValueError("the header begins with a zero byte")
        order = "<" if header[126:128] == b"IM" else ">"
        left = os.fstat(file.fileno()).st_size - len(header)
        while left:
            kind, size = struct.unpack(f"{order}II", file.read(8))
            left -= 8 + size
            if left < 0:
                raise ValueError(f"{size} bytes are announced where {size + left} are left")
            part: _Plain | _Inflated = _Plain(file, size)
            if kind == COMPRESSED:
                part = _Inflated(file, size)
                kind, size = struct.unpack(f"{order}II", part.take(8))
            if kind != MATRIX:
                raise ValueError(f"an element of type {kind} where an array must be")
            _Walk(part, order).array(size)
            part.finish()


class _Plain:
    """A part of a file, read forward."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size, self.at = file, size, 0

    def take(self, count: int) -> bytes:
        self.at += count
        if self.at > self.size:
            raise ValueError(f"{count} bytes are announced where {count + self.size - self.at} are left")
        return self.file.read(count)

    def skip(self, count: int) -> None:
        self.take(0)
        self.at += count
        self.file.seek(count, os.SEEK_CUR)

    def finish(self) -> None:
        if self.at != self.size:
            raise ValueError(f"an array of {self.at} bytes where {self.size} are announced")


class _Inflated:
    """A compressed part of a file, read forward."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.blocks, self.ready, self.at = _inflate(file, size), b"", 0

    def take(self, count: int) -> bytes:
        while len(self.ready) < count:
            if not (block := next(self.blocks, b"")):
                raise ValueError(f"{count} bytes are announced where {len(self.ready)} are left")
            self.ready += block
        self.at += count
        taken, self.ready = self.ready[:count], self.ready[count:]
        return taken

    def skip(self, count: int) -> None:
        for start in range(0, count, BLOCK):
            self.take(min(BLOCK, count - start))

    def finish(self) -> None:
        if self.ready or next(self.blocks, b""):  # asked for more, the stream compares its checksum
            raise ValueError("a compressed part goes on after its array")


def _inflate(file: IO[bytes], size: int) -> Iterator[bytes]:
    stream, more = zlib.decompressobj(), False
    while size and not stream.eof:
        packed = file.read(min(size, BLOCK))
        size -= len(packed)
        while packed or more:
            block = stream.decompress(packed, BLOCK)
            packed, more = stream.unconsumed_tail, len(block) == BLOCK and not stream.eof
            if block:
                yield block
    if size or stream.unused_data or not stream.eof:
        raise ValueError("a compressed part does not end where it should")


class _Walk:
    """One variable, in its part of the file."""

    def __init__(self, part: _Plain | _Inflated, order: str) -> None:
        self.part, self.order = part, order

    def array(self, size: int, depth: int = 0) -> None:
        """Everything after the tag of an array."""
        end = self.part.at + size
        if self.part.take(8) != struct.pack(f"{self.order}II", 6, 8):
            raise ValueError("an array does not begin with its flags")
        flags, _ = struct.unpack(f"{self.order}II", self.part.take(8))
        if flags & 0xFF == OPAQUE:
            for _ in ("name", "system", "class"):
                self._element(NAMES)
            self._inner(1, depth)
        else:
            shape = self._counts(MOST_DIMENSIONS)
            self._element(NAMES)
            if len(shape) < 2 or min(shape) < 0:
                raise ValueError(f"an array has the dimensions {shape}")
            self._content(flags, shape, depth)
        if self.part.at != end:
            raise ValueError(f"an array of {self.part.at - end + size} bytes where {size} are announced")

    def _content(self, flags: int, shape: list[int], depth: int) -> None:
        kind, count = flags & 0xFF, math.prod(shape)
        if kind in NUMERIC:
            self._numbers(flags, lambda width, size: size == count * width)
        elif kind == SPARSE:
            used = self._sparse(*shape)  # MATLAB writes true and false as bytes and calls them something else
            bits = used if flags & LOGICAL else -1
            self._numbers(flags, lambda width, size: size >= used * width or size == bits)
        elif kind == CHAR:
            width, size = self._element(TEXTS)
            if count > (size // width or BLANK):
                raise ValueError(f"{size // width} characters in an array of {count}")
        elif kind == CELL:
            self._inner(count, depth)
        elif kind == FUNCTION:
            self._inner(1, depth)
        elif kind in (STRUCT, OBJECT):
            self._structs(kind, count, depth)
        else:
            raise ValueError(f"an array of class {kind}")

    def _numbers(self, flags: int, fits: Callable[[int, int], bool]) -> None:
        for _ in range(2 if flags & COMPLEX else 1):
            width, size = self._element(NUMBERS)
            if not fits(width, size):
                raise ValueError(f"{size / width:g} numbers in an array, others than its dimensions say")

    def _structs(self, kind: int, count: int, depth: int) -> None:
        if kind == OBJECT:
            self._element(NAMES)
        lengths = self._counts(1)
        _, size = self._element(NAMES)
        if len(lengths) != 1 or lengths[0] < 1 or size % lengths[0]:
            raise ValueError(f"the names of fields take {size} bytes, each {lengths}")
        if not size and count > BLANK:
            raise ValueError(f"{count} structs without fields")
        self._inner(count * (size // lengths[0]), depth)

    def _inner(self, count: int, depth: int) -> None:
        """Arrays inside an array."""
        if count and depth >= DEEPEST:
            raise ValueError(f"arrays lie more than {DEEPEST} deep in each other")
        for _ in range(count):
            kind, size = struct.unpack(f"{self.order}II", self.part.take(8))
            if kind != MATRIX:
                raise ValueError(f"an element of type {kind} where an array must be")
            if size:  # else it is empty, which needs no more words here
                self.array(size, depth + 1)

    def _sparse(self, rows: int, columns: int) -> int:
        """The places of a sparse matrix; how many entries it has."""
        where, starts = self._places(), self._places()
        return entries(where, starts[: columns + 1], rows, columns)

    def _places(self) -> NDArray[Any]:
        kept: list[bytes] = []
        width, _ = self._element(PLACES, kept)
        return np.frombuffer(kept[0], f"{self.order}i{width}")

    def _counts(self, most: int) -> list[int]:
        kept: list[bytes] = []
        _, size = self._element(COUNTS, kept)
        if size > 4 * most or size % 4:
            raise ValueError(f"{size} bytes where at most {most} counts must be")
        return list(struct.unpack(f"{self.order}{size // 4}i", kept[0]))

    def _element(self, kinds: Mapping[int, int], keep: list[bytes] | None = None) -> tuple[int, int]:
        """Bytes of one value, and of all of them; what was read is put into ``keep``."""
        tag = self.part.take(8)
        kind, size = struct.unpack(f"{self.order}II", tag)
        small = kind >> 16  # up to four bytes stand in the tag itself
        kind, size = (kind & 0xFFFF, small) if small else (kind, size)
        if kind not in kinds or small > 4:
            raise ValueError(f"an element of type {kind} among others than {sorted(kinds)}")
        if keep is not None:
            keep.append(tag[4 : 4 + small] if small else self.part.take(size))
        elif not small:
            self.part.skip(size)
        if not small:
            self.part.skip(-size % 8)
        return kinds[kind], size
