"""One array of a stored run, taken out for other programs and for ``--set prior=file:PATH``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.disk import whole
from benchmark.errors import BenchmarkError, UnknownNameError
from benchmark.records.store import StoredRun

FORMATS = (".npz", ".npy", ".mat")


def stored_array(run: StoredRun, name: str, seed: int | None = None) -> NDArray[Any]:
    """One array of a run, or what it holds of one seed.

    Args:
        run: The run.
        name: Of the array, ``method/prior`` and so on.
        seed: One of the run's seeds; ``None`` for the array as it is stored, all of them.

    Raises:
        UnknownNameError: The run has no such array.
        BenchmarkError: It has no such seed, or the array is the same for all.
        DamagedRecordError: The arrays cannot be read.
    """
    arrays = run.arrays()
    if name not in arrays:
        raise UnknownNameError("array", name, list(arrays))
    array, seeds = arrays[name], run.record.seeds
    if seed is None:
        return array
    if seed not in seeds:
        raise BenchmarkError(f"--seed {seed}: the run has seeds {', '.join(map(str, seeds))}")
    if array.shape[:1] != (len(seeds),):
        raise BenchmarkError(f"{name} {array.shape} has no axis of seeds; leave out --seed")
    replica: NDArray[Any] = array[seeds.index(seed)]
    return replica


def write_array(file: Path, array: NDArray[Any]) -> None:
    """Write an array as the file's extension says, whole or not at all.

    Args:
        file: ``.npy``, or ``.npz`` or ``.mat``, where any array is called ``W``, as a prior is in the files
            of the public code; replaced if it exists.
        array: Of numbers.

    Raises:
        BenchmarkError: Another extension, or the file cannot be written.
    """
    if file.suffix not in FORMATS:
        raise BenchmarkError(f"{file}: an array is written as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    try:
        with whole(file) as stream:
            if file.suffix == ".npy":
                np.save(stream, array)
            elif file.suffix == ".npz":
                np.savez(stream, W=array)
            else:
                from scipy.io import savemat

                savemat(stream, {"W": array})
    except OSError as error:
        raise BenchmarkError(f"{file}: cannot be written ({error.strerror or error})") from None
