"""Arrays of an HDF5 file, with or without MATLAB's conventions.

A file is read out of itself alone: one that points to others (external links, external or virtual storage)
could have any file of this machine read, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.arrays.sparse import dense
from benchmark.errors import DataError

Value = NDArray[Any] | list[Any]
"""An array, or a cell array as a list of values."""

DEEPEST = 32
"""Groups in groups, and cells in cells; HDF5 itself goes down on the stack of the process."""
MOST_CELLS = 1_000_000  # cells may share their content, so a small file can hold more than a machine
SMALL = 1 << 26  # bytes that any array may take
PACKED = 10_000  # bytes of an array for one in the file, at most; deflate makes 1,032 of one


def shapes(path: Path, *, reverse: bool) -> dict[str, tuple[int, ...]]:
    """Shape of every array; ``reverse`` for the axes of MATLAB.

    Raises:
        DataError: Groups lie too deep, or something is in another file.
    """
    import h5py

    found: dict[str, tuple[int, ...]] = {}
    with h5py.File(path, "r") as file:
        for name, item in _below(file, "", set()):
            if isinstance(item, h5py.Group):
                found[name] = _sparse_shape(item)
            elif item.shape is not None:  # else it is of the kind that holds nothing
                found[name] = item.shape[::-1] if reverse else item.shape
    return found


def read(path: Path, name: str, *, matlab: bool) -> Value:
    """One of the arrays.

    Raises:
        DataError: It is a struct, or somewhere else.
    """
    import h5py

    with h5py.File(path, "r") as file:
        return _value(file, file[name], matlab=matlab, cells=count(), depth=0)


def _below(group: Any, above: str, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """Datasets and sparse matrices of a group and the groups in it, each once, in order of their names."""
    import h5py

    if above.count("/") > DEEPEST:
        raise DataError(f"{group.file.filename}: groups lie more than {DEEPEST} deep in each other")
    for key in sorted(group):
        name = f"{above}{key}"
        link = group.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise DataError(
                f"{group.file.filename}: {name} is a link into another file; copy it into this one"
            )
        if name.startswith("#") or not isinstance(link, h5py.HardLink):  # "#": MATLAB's own
            continue
        item = group[key]
        if item in seen:
            continue
        seen.add(item)
        if isinstance(item, h5py.Dataset) or "MATLAB_sparse" in item.attrs:
            yield name, item
        elif isinstance(item, h5py.Group):
            yield from _below(item, f"{name}/", seen)


def _sparse_shape(group: Any) -> tuple[int, int]:
    return int(group.attrs["MATLAB_sparse"]), len(_part(group, "jc")) - 1


def _value(file: Any, item: Any, *, matlab: bool, cells: Iterator[int], depth: int) -> Value:
    import h5py

    if depth > DEEPEST or next(cells) > MOST_CELLS:
        raise DataError(f"{file.filename}: {item.name} lies too deep in cells, or among too many")
    if isinstance(item, h5py.Group):
        if "MATLAB_sparse" not in item.attrs:
            raise DataError(f"{file.filename}: {item.name} is a MATLAB struct; save its fields as variables")
        return _dense(item)
    value = _content(item)
    if item.attrs.get("MATLAB_empty", 0):  # an empty array is stored as its shape
        shape = tuple(map(int, value.ravel()))
        if np.prod(shape, dtype=float) != 0:
            raise ValueError(f"an empty array of shape {shape}")
        return np.zeros(shape)
    if h5py.check_ref_dtype(item.dtype) is not None:  # a cell array, stored in MATLAB's column order
        inner = partial(_value, file, matlab=matlab, cells=cells, depth=depth + 1)
        return [inner(file[reference]) for reference in value.ravel()]
    kind = item.attrs.get("MATLAB_class", b"")
    if kind == b"char":
        rows = np.atleast_2d(value.T)
        return np.array(["".join(map(chr, row)) for row in rows])
    if h5py.check_string_dtype(item.dtype) is not None:
        return np.asarray(item.asstr()[()], dtype=str)
    return value.T if matlab else value


def _content(item: Any) -> NDArray[Any]:
    """A dataset, out of this file."""
    if item.is_virtual or item.external:
        raise DataError(f"{item.file.filename}: {item.name} is stored in other files; copy it into this one")
    if item.nbytes > PACKED * item.id.get_storage_size() + SMALL:
        raise ValueError(f"{item.nbytes} bytes are announced, {item.id.get_storage_size()} stored")
    return np.asarray(item[()])


def _dense(group: Any) -> NDArray[Any]:
    rows, columns = _sparse_shape(group)
    if "data" not in group:
        return dense(np.zeros(0), np.zeros(0, np.int32), np.zeros(columns + 1, np.int32), rows)
    data, where, starts = (_content(_part(group, name)) for name in ("data", "ir", "jc"))
    return dense(data, where, starts, rows)


def _part(group: Any, name: str) -> Any:
    """A dataset of a sparse matrix."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise DataError(f"{group.file.filename}: {group.name}/{name} is in another place; copy it here")
    return group[name]
