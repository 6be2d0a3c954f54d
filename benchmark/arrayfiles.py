"""Named numeric arrays in .mat and .npz files of any version, read without trusting the file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import DataError

# what the readers raise on damaged files, found by cutting and overwriting valid ones
UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RuntimeError,
    OSError,
    EOFError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    UnicodeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Read every numeric array of a .mat (any version) or .npz file; nothing pickled is ever loaded.

    Returns:
        Variable name -> array, and what else is in the file, in words.

    Raises:
        DataError: No such file, not what its extension says, or damaged; one line.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; give a .mat or .npz file"
        )
    with path.open("rb") as file:
        start = file.read(520)
    kind = _kind(start)
    suffix = path.suffix.lower()
    if suffix not in {".mat", ".npz"}:
        raise DataError(f"{path}: expected a .mat or .npz file; this is {kind or 'something else'}")
    if suffix == ".npz" and kind != "a zip archive (.npz)":
        raise DataError(f"{path}: is called .npz but is {kind or 'no zip archive'}")
    if suffix == ".mat" and kind and not kind.startswith("a MATLAB"):
        raise DataError(f"{path}: is called .mat but is {kind}")
    reader = _read_npz if suffix == ".npz" else _read_hdf5 if "7.3" in kind else _read_mat
    try:
        contents = reader(path)
    except UNREADABLE as error:
        line = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: cannot be read, probably truncated or damaged ({line})") from error
    arrays = {name: value for name, value in contents.items() if isinstance(value, np.ndarray)}
    return arrays, [f"{name} ({value})" for name, value in contents.items() if name not in arrays]


def _kind(start: bytes) -> str:
    """What a file is by its first bytes; empty if that does not show."""
    if start.startswith((b"MATLAB 7.3", b"\x89HDF")) or start[512:].startswith(b"\x89HDF"):
        return "a MATLAB v7.3 (HDF5) file"
    if start.startswith(b"MATLAB"):
        return "a MATLAB file"
    if start.startswith(b"PK"):
        return "a zip archive (.npz)"
    if start.startswith(b"\x93NUMPY"):
        return "a single numpy array (.npy)"
    if start[:1] == b"\x80" and start[1:2] in {b"\2", b"\3", b"\4", b"\5"}:
        return "a Python pickle, which is not read"
    return "empty" if not start else ""


def _numeric(value: Any) -> Any:
    """The array, or in words what stands in its place."""
    array = np.asarray(value)
    return array if array.dtype.kind in "biuf" else f"not numeric: {array.dtype}"


def _read_npz(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            try:
                found[name] = _numeric(file[name])
            except ValueError as error:
                if "pickle" not in str(error):
                    raise
                found[name] = "pickled objects, not read"
    return found


def _read_mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError
    from scipy.sparse import issparse

    try:
        contents = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    except MatReadError as error:
        raise ValueError(error) from error
    return {name: _numeric(v.toarray() if issparse(v) else v) for name, v in contents.items()}


def _read_hdf5(path: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(path) as file:  # MATLAB stores columns first, HDF5 rows first
        return {
            str(name): _numeric(np.transpose(item[()]) if isinstance(item, h5py.Dataset) else "group")
            for name, item in file.items()
        }
