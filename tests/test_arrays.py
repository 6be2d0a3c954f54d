"""The same arrays come out of every format, and what cannot be read is refused in one line."""

import gzip
import os
import pickle
import zipfile
from pathlib import Path

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


HEADER = "{{'descr': '<f8', 'fortran_order': False, 'shape': {}, }}"


@pytest.mark.parametrize(
    "shape",
    {
        "a bracket that is not closed": "(3,",
        "brackets in brackets": "(" * 4000 + ")" * 4000,
        "a number of 400 digits": f"({'9' * 400},)",
        "a number of 5,000 digits": f"({'9' * 5000},)",
        "a number that Python cannot write": f"(0x{'f' * 5000},)",
        "less than nothing": "(-1, 3)",
        "more than there is": "(1000000, 3)",
    }.values(),
    ids=lambda shape: shape[:12],
)
@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_an_impossible_header_in_npz_is_refused(shape, packing, tmp_path):
    header = HEADER.format(shape).encode()
    with zipfile.ZipFile(tmp_path / "a.npz", "w", packing) as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert refuses(contents(tmp_path / "a.npz"), tmp_path / "a.npz")


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_inside_a_packed_npz_is_refused(packing, tmp_path):
    np.savez(tmp_path / "plain.npz", X=X)
    with (
        zipfile.ZipFile(tmp_path / "plain.npz") as plain,
        zipfile.ZipFile(tmp_path / "a.npz", "w", packing) as archive,
    ):
        archive.writestr("X.npy", plain.read("X.npy"))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[:45] + b"\xff" * 20 + content[65:])
    assert refuses(contents(tmp_path / "a.npz"), tmp_path / "a.npz")


def test_only_regular_files_of_some_size_are_opened(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    for path in (tmp_path / "a.npz", Path("/dev/zero")):
        with pytest.raises(DataError, match="cannot be read: not a regular file"):
            open_arrays(path)
    with (tmp_path / "b.npz").open("wb") as stream:
        stream.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(DataError, match="1,099,511,627,776 bytes, more than"):
        open_arrays(tmp_path / "b.npz")


# --- HDF5 ---


@pytest.fixture
def secret(tmp_path):
    import h5py

    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["X"] = X
    (tmp_path / "secret.bin").write_bytes(X.tobytes())
    return tmp_path


@pytest.fixture
def hdf5(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        yield file


def test_hdf5_is_read_out_of_one_file(secret, hdf5):
    import h5py

    def external(file):
        file.create_dataset("X", X.shape, X.dtype, external=[(secret / "secret.bin", 0, h5py.h5f.UNLIMITED)])

    def virtual(file):
        layout = h5py.VirtualLayout(X.shape, X.dtype)
        layout[:] = h5py.VirtualSource(secret / "secret.h5", "X", X.shape)
        file.create_virtual_dataset("X", layout)

    def link(file):
        file["X"] = h5py.ExternalLink(secret / "secret.h5", "X")

    def sparse_part(file):
        group = file.create_group("X")
        group.attrs["MATLAB_sparse"] = np.uint64(7)
        group["jc"] = np.zeros(2, np.int64)
        group["data"] = h5py.ExternalLink(secret / "secret.h5", "X")
        group["ir"] = np.zeros(0, np.int64)

    for make in (external, virtual, link, sparse_part):
        path = secret / f"{make.__name__}.h5"
        with h5py.File(path, "w") as file:
            make(file)
        found = contents(path)
        assert refuses(found, path), make.__name__
        assert "copy it" in found


def test_groups_of_hdf5_have_a_bounded_depth(hdf5):
    group = hdf5
    for _ in range(5000):
        group = group.create_group("g")
    group["X"] = X
    hdf5.flush()
    found = contents(Path(hdf5.filename))
    assert "groups lie more than 32 deep" in found


def test_groups_of_hdf5_are_walked_once_and_in_order(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w", track_order=True) as file:
        for name in ("b/z", "b/a", "a", "c/d/e"):
            file[name] = Y
        file["c/d/again"] = file["c"]
        file["soft"] = h5py.SoftLink("/a")
        file["none"] = h5py.Empty("f8")
    assert list(open_arrays(tmp_path / "a.h5").shapes) == ["a", "b/a", "b/z", "c/d/e"]


@pytest.mark.parametrize(
    ("starts", "where"),
    {
        "a row that is not there": ([0, 1], [1 << 20]),
        "columns that begin nowhere": ([0, 1 << 20, 0], [0]),
        "more entries than there are": ([0, 5], [0]),
        "entries before the first": ([0, 1], [-1]),
    }.values(),
)
def test_sparse_indices_of_hdf5_stay_in_their_matrix(starts, where, hdf5):
    group = hdf5.create_group("X")
    group.attrs["MATLAB_sparse"] = np.uint64(7)
    group["jc"], group["ir"], group["data"] = np.array(starts), np.array(where), np.ones(len(where))
    hdf5.flush()
    assert "truncated or damaged" in contents(Path(hdf5.filename))


def test_cells_of_hdf5_that_hold_themselves_end(hdf5):
    import h5py

    cell = hdf5.create_dataset("X", (2, 1), h5py.ref_dtype)
    cell[:, 0] = [cell.ref, cell.ref]
    hdf5.flush()
    assert "lies too deep in cells" in contents(Path(hdf5.filename))


def test_an_array_that_the_file_cannot_hold_is_refused(hdf5):
    hdf5.create_dataset("X", (1 << 13, 1 << 13), "f8", chunks=(1, 1))
    hdf5.create_dataset("E", data=np.array([1 << 40, 1 << 40])).attrs["MATLAB_empty"] = 1
    hdf5.flush()
    arrays = open_arrays(Path(hdf5.filename))
    for name in "XE":
        with pytest.raises(DataError, match="truncated or damaged"):
            arrays.read(name)
