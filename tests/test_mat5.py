"""MATLAB v5 files: all that scipy reads passes, and no damage to a file ends the process that reads it."""

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.io.matlab
from scipy.io import loadmat
from scipy.sparse import csc_array

from benchmark.arrays import open_arrays
from benchmark.errors import DataError
from tests.datasets.writing import write
from tests.mutated import mutated, packed, read_all


def is_v5(path):
    head = path.read_bytes()[:128]
    return 0 not in head[:4] and head[126:] in (b"IM", b"MI") and not head.startswith(b"MATLAB 7.3")


SCIPYS = sorted(filter(is_v5, Path(scipy.io.matlab.__file__).parent.glob("tests/data/*.mat")))
DAMAGED = ("bad_miuint32", "bad_miutf8_array_name", "corrupted_zlib_checksum", "corrupted_zlib_data")
DAMAGED += ("malformed1", "testhdf5_7.4_GLNX86")
"""Those of them that scipy is tested to refuse."""
CONTENT = {
    "X": np.arange(35.0).reshape(7, 5),
    "Z": np.arange(6).reshape(2, 3) * 1j,
    "S": csc_array(np.eye(6, 4)),
    "c": [np.eye(2), "ab", np.zeros((0, 3))],
    "s": {"x": 1.0, "y": "word"},
    "b": np.eye(3, dtype=bool),
}


@pytest.mark.skipif(not SCIPYS, reason="scipy is installed without the data of its tests")
@pytest.mark.parametrize("path", [p for p in SCIPYS if p.stem not in DAMAGED], ids=lambda path: path.stem)
def test_what_scipy_reads_is_read(path):
    """But for structs, which have no place in a dataset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy tells of names that occur twice
        known = loadmat(path)
        arrays = open_arrays(path)
        for name in arrays.shapes:
            try:
                value = arrays.read(name)
            except DataError as error:
                assert "struct" in str(error)  # noqa: PT017 - not all of them
            else:
                assert isinstance(value, list) or value.size == np.prod(known[name].shape)


@pytest.mark.parametrize("kind", ["v5", "v5-compressed"])
def test_no_mutation_ends_the_process(kind, tmp_path):
    """Two hundred of each, in four processes with a limit of memory and time."""
    content = write(tmp_path / "a.mat", CONTENT, "v5").read_bytes()
    draw, folders = np.random.default_rng(len(kind)), [tmp_path / name for name in "0123"]
    for folder in folders:
        folder.mkdir()
        for i in range(50):
            changed = mutated(content, draw)
            (folder / f"{i:02}.mat").write_bytes(packed(changed) if kind == "v5-compressed" else changed)
    counted, died = read_all(folders, seconds=120)
    assert not died
    assert counted["read"] + counted["refused"] == 200
    assert min(counted.values()) > 10


def tag(kind, content=b"", size=None):
    size = len(content) if size is None else size
    return struct.pack("<II", kind, size) + content + bytes(-len(content) % 8)


def array(kind, shape, *parts, name=b"X"):
    head = tag(6, struct.pack("<II", kind, 0)), tag(5, struct.pack(f"<{len(shape)}i", *shape)), tag(1, name)
    return tag(14, b"".join([*head, *parts]))


def nested(depth):
    inner = array(6, (1, 1), tag(9, bytes(8)), name=b"")
    for _ in range(depth):
        inner = array(1, (1, 1), inner, name=b"")
    return array(1, (1, 1), inner)


def places(starts, rows):
    return [tag(5, struct.pack(f"<{len(each)}i", *each)) for each in (rows, starts)]


BAD = {
    "a type that does not exist": array(6, (1, 1), tag(99, bytes(8))),
    "a type that has no size": array(6, (1, 1), tag(0, bytes(8))),
    "more numbers than its dimensions": array(6, (1, 1), tag(9, bytes(16))),
    "dimensions that overflow": array(6, (1 << 30, 1 << 30, 1 << 4), tag(9, bytes(8))),
    "a negative dimension": array(6, (-1, -1), tag(9, bytes(8))),
    "one dimension": array(6, (1,), tag(9, bytes(8))),
    "more bytes than the file": array(6, (1, 1), tag(9, bytes(8), size=1 << 31)),
    "a part that outgrows what is around it": tag(14, array(6, (1, 1), tag(9, bytes(8)))[8:], size=48),
    "text without letters": array(4, (1, 1 << 30), tag(16)),
    "names of no length": array(2, (1, 1), tag(5, bytes(4)), tag(1, b"a\0")),
    "structs without fields": array(2, (1 << 30, 1 << 30), tag(5, b"\4\0\0\0"), tag(1)),
    "cells without end": array(1, (1 << 30, 1 << 30)),
    "cells too deep": nested(20_000),
    "a row that is not there": array(5, (2, 1), *places([0, 1], [1 << 20]), tag(9, bytes(8))),
    "columns that begin nowhere": array(5, (2, 2), *places([0, 1 << 20, 0], [0]), tag(9, bytes(8))),
    "a dense matrix of any size": array(5, (1 << 30, 4), *places([0] * 5, []), tag(9)),
    "an unknown class": array(77, (1, 1), tag(9, bytes(8))),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("what", BAD)
def test_what_scipy_would_believe_is_refused(what, compressed, tmp_path):
    content = b"MATLAB 5.0".ljust(124) + b"\0\1IM" + BAD[what]
    (tmp_path / "bad.mat").write_bytes(packed(content) if compressed else content)
    with pytest.raises(DataError, match=r"bad\.mat: truncated or damaged") as caught:
        open_arrays(tmp_path / "bad.mat")
    assert "\n" not in str(caught.value)


def test_a_sound_file_made_by_hand_passes(tmp_path):
    """The helper that makes the bad ones makes good ones."""
    sparse = array(5, (2, 2), *places([0, 1, 1], [1]), tag(9, struct.pack("<d", 3)), name=b"S")
    content = array(6, (1, 1), tag(9, struct.pack("<d", 2))) + nested(5).replace(b"X", b"c", 1) + sparse
    (tmp_path / "good.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + content)
    arrays = open_arrays(tmp_path / "good.mat")
    assert arrays.read("X").tolist() == [[2]]
    assert arrays.read("S").tolist() == [[0, 0], [3, 0]]


def test_a_compressed_part_is_whole(tmp_path):
    path = write(tmp_path / "a.mat", CONTENT, "v5-compressed")
    whole = path.read_bytes()
    size = struct.unpack_from("<I", whole, 132)[0]
    wrong_sum = bytearray(whole)
    wrong_sum[136 + size - 1] ^= 1
    for content in (bytes(wrong_sum), whole[:136] + whole[140:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="truncated or damaged"):
            open_arrays(path)
