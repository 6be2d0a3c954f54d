"""Embedding files: what is recognised, what is refused, and the scores of every pair."""

import contextlib
import json
import pickle

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

from benchmark.errors import BenchmarkError, DataError
from benchmark.evaluation.files import read_embeddings, score_files
from benchmark.evaluation.metrics import evaluate

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 8)).astype(np.float32)
Y = np.arange(30) % 5
ONE_HOT = np.eye(5)[Y]


def save(path, **variables):
    """Write variables as .npz, .mat (v5) or, for a name with ``v73``, as MATLAB writes HDF5."""
    if path.suffix == ".npz":
        np.savez(path, **variables)
    elif "v73" in path.name:
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, value in variables.items():
                file[name] = np.atleast_2d(value).T  # MATLAB's order of axes
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file")
    else:
        savemat(path, variables)
    return path


@pytest.mark.parametrize("file", ["a.npz", "a.mat", "a_v73.mat"])
@pytest.mark.parametrize("names", [("test_fea", "test_lab"), ("embeddings", "labels"), ("emb", "label")])
@pytest.mark.parametrize("shape", [(30,), (1, 30), (30, 1)])
def test_one_modality(tmp_path, file, names, shape):
    labels = Y.reshape(shape).astype(float)
    path = save(
        tmp_path / file, **dict(zip(names, (X.astype(float), labels), strict=True)), other=np.zeros(3)
    )
    (found,) = read_embeddings(path)
    assert found.name == path.stem
    assert found.embeddings.dtype == np.float32
    np.testing.assert_array_equal(found.embeddings, X)
    np.testing.assert_array_equal(found.labels, Y)


@pytest.mark.parametrize("file", ["a.npz", "a.mat", "a_v73.mat"])
@pytest.mark.parametrize("form", ["image", "image_embeddings"])
def test_several_modalities_and_label_rows(tmp_path, file, form):
    text = {"text": X[::-1], "text_labels": ONE_HOT[::-1]}
    path = save(tmp_path / file, **{form: X}, image_labels=Y, **text)
    found = {modality.name: modality for modality in read_embeddings(path)}
    assert set(found) == {"image", "text"}
    np.testing.assert_array_equal(found["image"].labels, Y)
    np.testing.assert_array_equal(found["text"].labels, ONE_HOT[::-1])
    np.testing.assert_array_equal(found["text"].embeddings, X[::-1])


def test_single_row(tmp_path):
    (found,) = read_embeddings(save(tmp_path / "a.mat", emb=X[:1], labels=Y[:1]))
    assert found.embeddings.shape == (1, 8)
    assert found.labels.shape == (1,)
    (found,) = read_embeddings(save(tmp_path / "b.mat", emb=X[:1], labels=ONE_HOT[:1]))
    assert found.labels.shape == (1, 5)


def with_value(value):
    changed = X.astype(float)
    changed[3, 2] = value
    return changed


@pytest.mark.parametrize("file", ["a.npz", "a.mat", "a_v73.mat"])
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"features": X, "classes": Y}, r"inside: .*classes \("),
        ({"features": X, "labels": Y[:-1]}, r"labels has shape .*29.* 30 rows"),
        ({"features": X.T, "labels": ONE_HOT}, r"\(30, 5\), the embeddings have 8 rows"),
        ({"features": X, "labels": ONE_HOT.T}, "transposed"),
        ({"features": X, "labels": ONE_HOT * 2}, "rows of 0 and 1"),
        ({"features": X, "labels": Y + 0.5}, "whole numbers"),
        ({"features": X, "labels": Y + 1e300}, "no class has such a number"),
        ({"features": with_value(np.nan), "labels": Y}, "nan at row 3, column 2"),
        ({"features": with_value(-np.inf), "labels": Y}, "-inf at row 3, column 2"),
        ({"features": with_value(1e300), "labels": Y}, r"1e\+300 at row 3"),
        ({"features": np.zeros((2, 3, 4)), "labels": Y}, "expected \\(rows, columns\\)"),
    ],
)
def test_unusable_variables_are_refused_in_one_line(tmp_path, file, variables, message):
    path = save(tmp_path / file, **variables)
    with pytest.raises(DataError, match=message) as caught:
        read_embeddings(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_strings_are_no_labels(tmp_path):
    path = save(tmp_path / "a.npz", embeddings=X, labels=np.array(["cat", "dog"] * 15))
    with pytest.raises(DataError, match=r"labels \(not numeric"):
        read_embeddings(path)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_pickles_are_never_executed(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, embeddings=X, labels=np.array([Bomb()] * 30, object))
    with pytest.raises(DataError, match="labels holds Python objects, which could run code"):
        read_embeddings(path)
    for suffix in ("pkl", "npz", "mat"):
        whole = tmp_path / f"whole.{suffix}"
        whole.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(DataError, match="pickle"):
            read_embeddings(whole)


@pytest.mark.parametrize("file", ["a.npz", "a.mat", "a_v73.mat"])
def test_truncated_files_are_refused(tmp_path, file):
    path = save(tmp_path / file, embeddings=X, labels=Y)
    content, intact = path.read_bytes(), 0
    for length in np.linspace(0, len(content) - 1, 60).astype(int):
        path.write_bytes(content[:length])
        with contextlib.suppress(DataError):  # if it can be read, what was cut carried no information
            (found,) = read_embeddings(path)
            np.testing.assert_array_equal(found.embeddings, X)
            np.testing.assert_array_equal(found.labels, Y)
            intact += 1
    assert intact < 5


def test_a_wrong_extension_is_named(tmp_path):
    mat, npz = save(tmp_path / "a.mat", emb=X, labels=Y), save(tmp_path / "b.npz", emb=X, labels=Y)
    as_npz, as_mat, as_text = (tmp_path / name for name in ("c.npz", "d.mat", "e.txt"))
    as_npz.write_bytes(mat.read_bytes())
    as_mat.write_bytes(npz.read_bytes())
    as_text.write_bytes(b"1 2 3")
    for path, message in [
        (as_npz, "called .npz but is a MATLAB v5 file"),
        (as_mat, "called .mat but is an .npz file"),
        (as_text, "not a .mat, HDF5 or .npz file"),
        (tmp_path / "none.mat", "No such file"),
        (tmp_path, "Is a directory"),
    ]:
        with pytest.raises(DataError, match=message):
            read_embeddings(path)


def test_scores_are_those_of_the_metrics(tmp_path):
    other = RNG.normal(size=(20, 8)).astype(np.float32)
    labels = np.arange(20) % 5
    paths = [
        save(tmp_path / "image.mat", test_fea=X, test_lab=Y),
        save(tmp_path / "t.npz", emb=other, labels=labels),
    ]
    metrics = ("map@all", "map_min@3")
    result = score_files([paths[0], f"text={paths[1]}"], metrics)
    json.dumps(result)
    tensors = [torch.from_numpy(array) for array in (X, Y, other, labels)]
    expected = evaluate(*tensors, metrics=metrics)
    names = [("image", "text", 30, 20), ("text", "image", 20, 30)]
    for row, scores, (query, database, queries, items) in zip(
        result["directions"], expected, names, strict=True
    ):
        assert (row["query"], row["database"], row["queries"], row["items"]) == (
            query,
            database,
            queries,
            items,
        )
        assert row["chance"] == scores.chance
        assert row["ties"] == scores.ties
        for metric in metrics:
            assert row[metric] == scores.mean(metric)
    for metric in metrics:
        assert result["average"][metric] == pytest.approx(np.mean([s.mean(metric) for s in expected]))
    assert result["warnings"] == []


def test_label_forms_do_not_matter(tmp_path):
    rows = save(tmp_path / "rows.npz", image=X, image_labels=ONE_HOT, text=X[::-1], text_labels=ONE_HOT[::-1])
    mixed = save(tmp_path / "mixed.npz", image=X, image_labels=Y, text=X[::-1], text_labels=ONE_HOT[::-1])
    plain = save(tmp_path / "plain.npz", image=X, image_labels=Y, text=X[::-1], text_labels=Y[::-1])
    results = [score_files([path])["directions"] for path in (rows, mixed, plain)]
    assert results[0] == results[1] == results[2]


def test_every_ordered_pair_is_scored(tmp_path):
    path = save(tmp_path / "all.npz", **dict.fromkeys("abc", X), **{f"{n}_labels": Y for n in "abc"})
    extra = save(tmp_path / "d.mat", emb=X, labels=Y)
    rows = score_files([f"run={path}", extra])["directions"]
    assert len({(row["query"], row["database"]) for row in rows}) == len(rows) == 12
    assert {row["query"] for row in rows} == {"run/a", "run/b", "run/c", "d"}


def test_warnings(tmp_path):
    same = save(tmp_path / "same.npz", a=np.ones((30, 4)), a_labels=Y, b=np.ones((30, 4)), b_labels=Y + 1)
    ties, back, classes = sorted(score_files([same])["warnings"], key=lambda line: "class" in line)
    assert ties.startswith("a -> b: 80.0%")  # class 0 has no relevant item, so no tie at one
    assert back.startswith("b -> a: 80.0%")
    assert classes == "a and b: class 0, 5 occurs in one of the two only"


def test_what_cannot_be_scored_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    one = save(tmp_path / "a.mat", emb=X, labels=Y)
    twin = save(tmp_path / "other" / "a.mat", emb=X, labels=Y)
    narrow = save(tmp_path / "n.npz", emb=X[:, :3], labels=Y)
    rows = save(tmp_path / "r.npz", emb=X, labels=np.eye(4)[Y % 4])
    wide = save(tmp_path / "w.npz", emb=X, labels=np.eye(6)[Y])
    for paths, message in [
        ([one], "at least two"),
        ([one, twin], "name them"),
        ([one, narrow], "8 columns, n of 3"),
        ([one, rows], "class numbers 0..4"),
        ([rows, wide], "4 label columns"),
        ([one, "=x.mat"], "name=file"),
    ]:
        with pytest.raises(DataError, match=message):
            score_files(paths)
    with pytest.raises(BenchmarkError, match="unknown metric"):
        score_files([one, twin], ["ndcg@5"])


@pytest.mark.real_data
def test_published_drcl_outputs(data_folder):
    folder = data_folder("drcl_official_wikipedia")
    result = score_files([f"image={folder / 'wiki_0.mat'}", f"text={folder / 'wiki_1.mat'}"])
    forward, backward = result["directions"]
    assert forward["map@all"] == pytest.approx(0.5619, abs=1.5e-4)
    assert backward["map@all"] == pytest.approx(0.5376, abs=1.5e-4)
    assert forward["map@50"] == pytest.approx(0.5599, abs=1.5e-4)
    assert backward["map@50"] == pytest.approx(0.6848, abs=1.5e-4)
    assert len(result["warnings"]) == 2
