"""Arrays out of .mat (v5 and v7.3), HDF5 and .npz files, told apart by their first bytes.

Files written by MATLAB as HDF5 (v7.3) hold every array with its axes reversed; they are turned back here,
so that an array has the same shape whichever format it came from. Nothing is ever unpickled.

An array is named by a reference: ``X`` (a variable), ``X[2]`` (an element of a MATLAB cell array, counted
from 0), ``X[0:100]`` (rows), ``X[2][0:100]`` (both).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.arrays import hdf5, mat5
from benchmark.arrays.hdf5 import Value
from benchmark.disk import check_regular
from benchmark.errors import DataError

LARGEST = 1 << 36
"""Bytes of a file, packed or not."""

HDF5 = b"\x89HDF\r\n\x1a\n"
OTHER = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; fetch the real file",
    b"\x93NUMPY": "a single .npy array; put the arrays of a dataset into one .npz with numpy.savez",
    b"\x1f\x8b": "gzip-compressed; unpack it first",
    b"\x80": "a Python pickle, which could run code when opened; convert it to .npz first",
    b"<": "a web page or XML, probably an error page saved by a download",
}
NAMES = {
    "mat5": "a MATLAB v5 file",
    "mat73": "a MATLAB v7.3 file",
    "hdf5": "an HDF5 file",
    "npz": "an .npz file",
}
SUFFIXES = {".npz": ("npz",), ".mat": ("mat5", "mat73", "hdf5")}
SUFFIXES |= dict.fromkeys((".h5", ".hdf5", ".h5py"), ("mat73", "hdf5"))
"""What a file of that extension may hold; other extensions promise nothing."""


def file_format(path: Path) -> str:
    """``mat5``, ``mat73``, ``hdf5`` or ``npz``, from the first bytes.

    Raises:
        DataError: The file is missing, empty, something else, or not what its extension says.
    """
    found = _file_format(path)
    if found not in SUFFIXES.get(path.suffix.lower(), (found,)):
        raise DataError(f"{path}: is called {path.suffix} but is {NAMES[found]}; rename it or get it again")
    return found


def _file_format(path: Path) -> str:
    try:
        check_regular(path, LARGEST)
        with path.open("rb") as stream:
            head = stream.read(4096)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if any(head[at : at + 8] == HDF5 for at in (0, 512, 1024, 2048)):
        return "mat73" if head.startswith(b"MATLAB 7.3") else "hdf5"
    if head[126:128] in (b"IM", b"MI") and head[124:126] in (b"\x00\x01", b"\x01\x00"):
        return "mat5"
    if head.startswith(b"PK\x03\x04"):
        return "npz"
    if not head:
        raise DataError(f"{path}: the file is empty")
    reason = next((text for start, text in OTHER.items() if head.lstrip().startswith(start)), "")
    reason = reason or f"not a .mat, HDF5 or .npz file (it starts with {head[:8]!r})"
    raise DataError(f"{path}: {reason}")


class Arrays:
    """The variables of one file; an array is read when asked for.

    Attributes:
        path: The file, for messages.
        shapes: Shape of every variable, as ``read`` returns it, in the order of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.format = file_format(path)
        self._cells: dict[str, list[Any]] = {}
        self.shapes: dict[str, tuple[int, ...]] = self._guard(self._list)

    def __contains__(self, reference: str) -> bool:
        return reference.split("[", maxsplit=1)[0] in self.shapes

    def contents(self) -> str:
        """What is inside, for messages: ``I_tr (4000, 4096), ...``."""
        shown = [f"{name} {shape}" for name, shape in list(self.shapes.items())[:40]]
        more = f" and {len(self.shapes) - 40} more" if len(self.shapes) > 40 else ""
        return ", ".join(shown) + more or "nothing"

    def read(self, reference: str) -> Value:
        """The array (or cell array, as a list) a reference names.

        Raises:
            DataError: No such variable, cell element or rows, or a damaged file.
        """
        parts = re.fullmatch(r"(.+?)(?:\[(\d+)\])?(?:\[(\d*):(\d*)\])?", reference)
        name, cell, first, last = parts.groups() if parts else (reference, None, None, None)
        if name not in self.shapes:
            raise DataError(f"{self.path}: no variable {name!r}; inside: {self.contents()}")
        value = self._cells[name] if name in self._cells else self._guard(self._read, name)
        if isinstance(value, list):
            self._cells[name] = value  # several references usually follow to the elements of one cell array
        if cell is not None:
            if not isinstance(value, list) or int(cell) >= len(value):
                size = f"a cell array of {len(value)}" if isinstance(value, list) else "no cell array"
                raise DataError(f"{self.path}: {reference!r}: {name} is {size}")
            value = value[int(cell)]
        if first is not None:
            if isinstance(value, list) or value.ndim == 0:
                raise DataError(f"{self.path}: {reference!r}: {name} has no rows")
            start, stop = int(first or 0), int(last or len(value))
            if not start < stop <= len(value):
                raise DataError(f"{self.path}: {reference!r}: it has {len(value)} rows")
            value = value[start:stop]
        return value

    def _guard(self, call: Any, *args: Any) -> Any:
        """Run a library call; whatever it raises on bad bytes becomes one line."""
        try:
            return call(*args)
        except DataError:
            raise
        except ImportError:
            raise DataError(f"{self.path}: reading HDF5 needs the package h5py: pip install h5py") from None
        except Exception as error:  # noqa: BLE001 - on damaged bytes they raise whatever there is
            what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            variable = f" ({args[0]})" if args else ""
            raise DataError(f"{self.path}: truncated or damaged{variable}; get it again [{what}]") from None

    def _list(self) -> dict[str, tuple[int, ...]]:
        if self.format == "mat5":
            from scipy.io import whosmat

            mat5.check(self.path)
            return {name: tuple(map(int, shape)) for name, shape, _ in whosmat(self.path)}
        if self.format == "npz":
            return _npz_shapes(self.path)
        return hdf5.shapes(self.path, reverse=self.format == "mat73")

    def _read(self, name: str) -> Value:
        if self.format == "mat5":
            from scipy.io import loadmat

            return _plain(loadmat(self.path, variable_names=[name])[name], f"{self.path}: {name}")
        if self.format == "npz":
            with np.load(self.path, allow_pickle=False) as file:
                return np.asarray(file[name])
        return hdf5.read(self.path, name, matlab=self.format == "mat73")


class Folder(Arrays):
    """Several files as one: variable ``v`` of ``train_img.mat`` is called ``train_img:v``."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.path = paths[0].parent
        self._files: Mapping[str, Arrays] = {path.stem: Arrays(path) for path in paths}
        self.shapes = {f"{k}:{n}": s for k, file in self._files.items() for n, s in file.shapes.items()}

    def read(self, reference: str) -> Value:
        """As ``Arrays.read``."""
        stem, _, rest = reference.partition(":")
        if stem not in self._files or not rest:
            raise DataError(f"{self.path}: no variable {reference!r}; inside: {self.contents()}")
        return self._files[stem].read(rest)


def open_arrays(*paths: Path) -> Arrays:
    """The variables of one file, or of several files read as one.

    Raises:
        DataError: Not a .mat, HDF5 or .npz file, or a damaged one.
    """
    return Arrays(paths[0]) if len(paths) == 1 else Folder(paths)


def _plain(value: Any, where: str) -> Value:
    """A value as scipy gives it: sparse to dense, cell arrays to lists, structs refused."""
    if hasattr(value, "toarray"):
        return np.asarray(value.toarray())
    array = np.asarray(value)
    if array.dtype.names is not None:
        raise DataError(f"{where}: a MATLAB struct; save its fields as variables of their own")
    if array.dtype == object:
        return [_plain(element, where) for element in array.ravel(order="F")]
    return array


def _npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes out of the headers alone."""
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith(".npy"):
                raise DataError(f"{path}: a zip archive but no .npz: it holds {name!r}")
            with archive.open(name) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0
                if version >= (2, 0):
                    read = np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            if not all(0 <= extent < 1 << 48 for extent in shape):
                raise ValueError(f"{name} announces an impossible shape")
            if dtype.hasobject:
                reason = "holds Python objects, which could run code when opened; save plain arrays"
                raise DataError(f"{path}: {name[:-4]} {reason}")
            shapes[name[:-4]] = shape
    return shapes
