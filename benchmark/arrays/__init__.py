"""Arrays out of .mat (v5 and v7.3), HDF5 and .npz files, as they are and nothing else."""

from benchmark.arrays.hdf5 import Value
from benchmark.arrays.reading import Arrays, Folder, file_format, open_arrays

__all__ = ["Arrays", "Folder", "Value", "file_format", "open_arrays"]
