"""Write small feature files in every format the readers know."""

from pathlib import Path

import numpy as np
from scipy.io import savemat

FORMATS = {"v5": "a.mat", "v5-compressed": "b.mat", "v7.3": "c.mat", "hdf5": "d.h5py", "npz": "e.npz"}


def write(path: Path, arrays: dict, kind: str = "v5") -> Path:
    """Write named arrays (lists become cell arrays) in one of ``FORMATS``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind in ("v5", "v5-compressed"):
        named = {k: cell(v) if isinstance(v, list) else v for k, v in arrays.items()}
        with path.open("wb") as stream:  # savemat would append .mat to other names
            savemat(stream, named, do_compression=kind == "v5-compressed")
    elif kind == "npz":
        with path.open("wb") as stream:
            np.savez(stream, **arrays)
    elif kind == "hdf5":
        write_hdf5(path, arrays)
    else:
        write_v73(path, arrays)
    return path


def cell(values: list) -> np.ndarray:
    """A 1 x n MATLAB cell array."""
    array = np.empty((1, len(values)), object)
    for at, value in enumerate(values):
        array[0, at] = value
    return array


def write_hdf5(path: Path, arrays: dict) -> None:
    """Plain HDF5, as h5py writes it."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            text = np.asarray(value).dtype.kind == "U"
            file.create_dataset(
                name,
                data=value.astype(object) if text else value,
                dtype=h5py.string_dtype() if text else None,
            )


def write_v73(path: Path, arrays: dict) -> None:
    """HDF5 as MATLAB writes it: text header in front, axes reversed, cells as references, chars as uint16."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        references = file.create_group("#refs#")

        def put(group, name, value):
            if isinstance(value, list):
                inner = [put(references, f"{name}{i}", element) for i, element in enumerate(value)]
                made = group.create_dataset(name, (len(inner), 1), h5py.ref_dtype)
                made[:, 0] = [item.ref for item in inner]
                made.attrs["MATLAB_class"] = np.bytes_("cell")
            elif isinstance(value, str):
                codes = np.array([[ord(letter)] for letter in value], np.uint16)
                made = group.create_dataset(name, data=codes)
                made.attrs["MATLAB_class"] = np.bytes_("char")
            elif hasattr(value, "tocsc"):
                made, columns = group.create_group(name), value.tocsc()
                for part in ("data", "indices", "indptr"):
                    made.create_dataset(
                        {"data": "data", "indices": "ir", "indptr": "jc"}[part], data=getattr(columns, part)
                    )
                made.attrs["MATLAB_sparse"] = np.uint64(value.shape[0])
            else:
                made = group.create_dataset(name, data=np.atleast_2d(value).T)
                made.attrs["MATLAB_class"] = np.bytes_("double")
            return made

        for name, value in arrays.items():
            put(file, name, value)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
