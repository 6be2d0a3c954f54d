"""The same arrays come out of every format, and what cannot be read is refused in one line."""

import gzip
import pickle

import numpy as np
import pytest
from scipy.sparse import csc_array

from benchmark.arrays import file_format, open_arrays
from benchmark.errors import DataError
from tests.datasets.writing import FORMATS, write

X = np.random.default_rng(0).normal(size=(7, 5))
Y = np.arange(1, 8, dtype=np.uint8).reshape(7, 1)


@pytest.fixture(params=FORMATS)
def arrays(request, tmp_path):
    return open_arrays(write(tmp_path / FORMATS[request.param], {"X": X, "Y": Y}, request.param))


def test_every_format_gives_the_same_arrays(arrays):
    assert arrays.shapes == {"X": (7, 5), "Y": (7, 1)}
    np.testing.assert_array_equal(arrays.read("X"), X)
    np.testing.assert_array_equal(arrays.read("Y"), Y)
    np.testing.assert_array_equal(arrays.read("X[2:6]"), X[2:6])
    assert "X[2:6]" in arrays
    assert "Z" not in arrays


def test_a_reference_to_nothing_is_refused(arrays):
    for reference, reason in {
        "Z": r"no variable 'Z'; inside: X \(7, 5\), Y \(7, 1\)",
        "X[0]": "no cell array",
        "X[5:9]": "it has 7 rows",
        "X[3:3]": "it has 7 rows",
    }.items():
        with pytest.raises(DataError, match=reason):
            arrays.read(reference)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_format_is_told_by_the_content_and_must_fit_the_extension(kind, tmp_path):
    found = {"v5": "mat5", "v5-compressed": "mat5", "v7.3": "mat73"}.get(kind, kind)
    hdf5 = ("x.mat", "x.h5", "x.h5py", "x.hdf5")
    fitting = {"mat5": ("x.mat",), "mat73": hdf5, "hdf5": hdf5, "npz": ("x.npz",)}[found]
    for name in (*hdf5, "x.npz", "x.features"):
        path = write(tmp_path / name, {"X": X}, kind)
        if name in (*fitting, "x.features"):
            assert file_format(path) == found
            np.testing.assert_array_equal(open_arrays(path).read("X"), X)
        else:
            with pytest.raises(DataError, match=f"is called {path.suffix} but is an? "):
                file_format(path)


@pytest.mark.parametrize("kind", ["v5", "v5-compressed", "v7.3"])
def test_cell_arrays_are_lists(kind, tmp_path):
    parts = [X, X[:3], Y.astype(float)]
    arrays = open_arrays(write(tmp_path / "c.mat", {"train": parts, "words": ["one", "three"]}, kind))
    for found, part in zip(arrays.read("train"), parts, strict=True):
        np.testing.assert_array_equal(found, part)
    np.testing.assert_array_equal(arrays.read("train[1][1:3]"), X[1:3])
    assert [str(word[0]) for word in arrays.read("words")] == ["one", "three"]
    with pytest.raises(DataError, match="a cell array of 3"):
        arrays.read("train[3]")


@pytest.mark.parametrize("kind", ["v5", "v7.3"])
def test_sparse_matrices_become_dense(kind, tmp_path):
    dense = np.where(X > 0.5, X, 0)
    arrays = open_arrays(write(tmp_path / "s.mat", {"S": csc_array(dense)}, kind))
    assert arrays.shapes == {"S": (7, 5)}
    np.testing.assert_array_equal(arrays.read("S"), dense)


def test_strings_in_hdf5(tmp_path):
    arrays = open_arrays(write(tmp_path / "s.h5", {"names": np.array(["a", "bc"])}, "hdf5"))
    assert arrays.read("names").tolist() == ["a", "bc"]


def test_several_files_are_read_as_one(tmp_path):
    paths = [write(tmp_path / f"{name}.mat", {"name": value}) for name, value in {"img": X, "lab": Y}.items()]
    arrays = open_arrays(*paths)
    np.testing.assert_array_equal(arrays.read("img:name"), X)
    np.testing.assert_array_equal(arrays.read("lab:name[0:2]"), Y[:2])
    with pytest.raises(DataError, match="inside: img:name"):
        arrays.read("name")


@pytest.mark.parametrize(
    ("content", "reason"),
    {
        b"": "empty",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "Git LFS pointer",
        b"\n<!DOCTYPE html><html>": "web page",
        pickle.dumps([1]): "pickle",
        gzip.compress(b"x", mtime=0): "gzip",
        b"\x93NUMPY\x01\x00": "single .npy",
        b"just some text": "not a .mat, HDF5 or .npz file",
    }.items(),
)
@pytest.mark.parametrize("name", ["x.mat", "x.npz", "x.h5"])
def test_what_is_not_what_its_name_says_is_refused(name, content, reason, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        open_arrays(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "o.npz", X=np.array([{}], object))
    with pytest.raises(DataError, match="could run code"):
        open_arrays(tmp_path / "o.npz")


def test_structs_and_other_archives_are_refused(tmp_path):
    import zipfile

    struct = open_arrays(write(tmp_path / "s.mat", {"S": {"x": X}}))
    with pytest.raises(DataError, match="struct"):
        struct.read("S")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(DataError, match=r"no \.npz"):
        open_arrays(tmp_path / "a.zip")
    with pytest.raises(DataError, match="cannot be read"):
        open_arrays(tmp_path / "absent.mat")


def contents(path):
    """Everything in a file, or the message that refuses it."""
    try:
        arrays = open_arrays(path)
        return {name: arrays.read(name) for name in arrays.shapes}
    except DataError as error:
        return str(error)


def refuses(found, path):
    return isinstance(found, str) and str(path) in found and "\n" not in found


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_refused_wherever_it_was_cut(kind, tmp_path):
    path = write(tmp_path / FORMATS[kind], {"X": X, "Y": Y}, kind)
    whole = path.read_bytes()
    for size in np.linspace(1, len(whole) - 9, 40).astype(int):  # the last bytes of a format may be padding
        path.write_bytes(whole[:size])
        found = contents(path)
        # v5 has no table of contents: cut exactly between two variables, only the missing one can be noticed
        assert refuses(found, path) or (kind.startswith("v5") and set(found) < {"X", "Y"})


@pytest.mark.parametrize("kind", FORMATS)
def test_overwritten_bytes_cause_nothing_but_a_refusal(kind, tmp_path):
    path = write(tmp_path / FORMATS[kind], {"X": X, "Y": Y}, kind)
    whole, draw, refused = path.read_bytes(), np.random.default_rng(1), 0
    for start in draw.integers(0, len(whole) - 8, 40):
        path.write_bytes(whole[:start] + draw.bytes(8) + whole[start + 8 :])
        found = contents(path)
        assert isinstance(found, dict) or refuses(found, path)
        refused += isinstance(found, str)
    assert refused > 3
