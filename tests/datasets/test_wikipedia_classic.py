"""The 2010 Wikipedia features: real numbers where the files are here, refusals on damaged copies."""

import shutil

import numpy as np
import pytest
from benchmark.datasets.wikipedia_classic import BLOBS, WikipediaClassic
from scipy.io import loadmat, savemat

from benchmark.core.dataset import DataRequest
from benchmark.errors import DataError, MissingDataError, UnknownNameError
from benchmark.inspection.describe import describe

pytestmark = pytest.mark.real_data
CLASSES = "art biology geography history literature media music royalty sport warfare"


def load(folder, split=""):
    dataset = WikipediaClassic()
    return dataset.load(dataset.locate(DataRequest("official", folder, split)))


@pytest.fixture(scope="module")
def paper(data_folder):
    return load(data_folder("wikipedia_classic"))


@pytest.fixture
def copy(data_folder, tmp_path):
    for name in BLOBS:
        shutil.copyfile(data_folder("wikipedia_classic") / name, tmp_path / name)
    return tmp_path


def counts(split):
    return np.bincount(split["text"].labels, minlength=10).tolist()


def test_split_of_the_paper(paper):
    assert counts(paper.train) == [138, 272, 244, 248, 202, 178, 186, 144, 214, 347]
    assert counts(paper.val) == [11, 33, 34, 27, 16, 18, 16, 15, 21, 40]
    assert counts(paper.test) == [23, 55, 62, 58, 49, 40, 35, 26, 50, 64]
    assert " ".join(paper.class_names) == CLASSES
    assert (paper.source, paper.train["image"].dim, paper.train["text"].dim) == ("official", 128, 10)
    assert {m: len(names) for m, names in paper.items.items()} == {"image": 462, "text": 462}


def test_split_of_the_literature_keeps_the_test_rows_out_of_validation(data_folder, paper):
    data = load(data_folder("wikipedia_classic"), "literature")
    assert counts(data.test) == [34, 88, 96, 85, 65, 58, 51, 41, 71, 104]
    assert counts(data.train) == counts(paper.train)
    assert sum(counts(data.val)) == 231
    assert set(counts(data.val)) == {23, 24}
    rows = data.val["image"].pair_ids
    np.testing.assert_array_equal(data.val["text"].features, data.train["text"].features[rows])
    np.testing.assert_array_equal(data.test["text"].features[231:], paper.test["text"].features)
    assert data.items["image"][231:] == paper.items["image"]
    assert "stay in training" in data.notes[0]
    assert data.fingerprint() != paper.fingerprint()


def test_values_are_the_known_ones(paper):
    facts = describe(paper)
    image, text = (facts["splits"]["train"][m] for m in ("image", "text"))
    assert image["zeros"] == pytest.approx(0.37, abs=0.005)
    assert (image["max"], text["max"]) == (pytest.approx(0.60, abs=0.005), pytest.approx(0.85, abs=0.005))
    assert (image["row_norm"], text["row_norm"]) == (
        pytest.approx(0.18, abs=0.005),
        pytest.approx(0.48, abs=0.005),
    )
    assert (text["zeros"], text["min"]) == (0, pytest.approx(0.0097, abs=1e-4))
    assert image["copies"] == 7
    for split in paper.splits:
        for m in split:
            np.testing.assert_allclose(m.features.sum(axis=1), 1, atol=1e-3)


def ridge_map(data, query, database):
    """MAP@all of ridge regression (1000) to centred one-hot on z-scored features, cosine, in plain numpy."""
    scores = {}
    for m in ("image", "text"):
        x = data.train[m].features.astype(float)
        mean, deviation = x.mean(0), x.std(0)
        z, test = (x - mean) / deviation, (data.test[m].features - mean) / deviation
        y = np.eye(10)[data.train[m].labels]
        w = np.linalg.solve(z.T @ z + 1000 * np.eye(z.shape[1]), z.T @ (y - y.mean(0)))
        embedded = test @ w
        scores[m] = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    order = np.argsort(-(scores[query] @ scores[database].T), axis=1, kind="stable")
    relevant = data.test[query].labels[:, None] == data.test[database].labels[order]
    precision = relevant.cumsum(1) / np.arange(1, relevant.shape[1] + 1)
    return ((precision * relevant).sum(1) / relevant.sum(1)).mean()


def test_known_results_of_a_linear_method(data_folder, paper):
    """Rows, labels and pairing are right: the reference numbers of these features come out."""
    assert ridge_map(paper, "image", "text") == pytest.approx(0.279, abs=0.01)
    assert ridge_map(paper, "text", "image") == pytest.approx(0.226, abs=0.01)
    literature = load(data_folder("wikipedia_classic"), "literature")
    assert ridge_map(literature, "image", "text") == pytest.approx(0.274, abs=0.01)
    assert ridge_map(literature, "text", "image") == pytest.approx(0.223, abs=0.01)


def test_the_published_files_are_known(data_folder):
    facts = WikipediaClassic().verify(DataRequest(data_root=data_folder("wikipedia_classic")))
    assert [entry["published"] for entry in facts["files"]] == [True] * 4
    assert facts["problems"] == []
    fetched = WikipediaClassic().fetch(DataRequest(data_root=data_folder("wikipedia_classic")))
    assert [path.name for path in fetched] == list(BLOBS)  # here already: nothing is downloaded


def test_an_incomplete_folder_is_not_taken(copy, monkeypatch):
    monkeypatch.setenv("BENCHMARK_DATA", str(copy))
    monkeypatch.setenv("BENCHMARK_CACHE", str(copy / "cache"))
    (copy / "categories.list").unlink()
    with pytest.raises(MissingDataError, match="data fetch wikipedia-classic"):
        WikipediaClassic().locate(DataRequest())


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("trainset_txt_img_cat.list", lambda text: text + "a\tb\t1\n", "2174 lines, expected 2173"),
        (
            "trainset_txt_img_cat.list",
            lambda text: text.replace("\t6\n", "\t11\n", 1),
            "line 1 has class '11'",
        ),
        ("testset_txt_img_cat.list", lambda text: text.replace("\t", " ", 1), "line 1 is not text id"),
        ("categories.list", lambda text: text.replace("warfare\n", ""), "expected 1..9"),
    ],
)
def test_damaged_lists_are_refused(name, change, reason, copy):
    (copy / name).write_text(change((copy / name).read_text()))
    with pytest.raises(DataError, match=reason) as caught:
        load(copy)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"I_te": np.ones((693, 127))}, r"I_te has shape \(693, 127\), expected \(693, 128\)"),
        ({"T_tr": np.full((2173, 10), np.nan)}, "train/text: nan at row 0"),
        ({"I_tr": None}, "no variable 'I_tr'; inside: I_te"),
    ],
)
def test_damaged_features_are_refused(change, reason, copy):
    names = ("I_te", "I_tr", "T_tr", "T_te")
    content = {name: loadmat(copy / "raw_features.mat")[name] for name in names} | change
    savemat(copy / "raw_features.mat", {k: v for k, v in content.items() if v is not None})
    with pytest.raises(DataError, match=reason):
        load(copy)


def test_unknown_requests_are_refused(copy):
    with pytest.raises(UnknownNameError, match="Valid: literature, paper"):
        load(copy, "papers")
    with pytest.raises(DataError, match="no stand-in"):
        WikipediaClassic().locate(DataRequest("standin"))
    with pytest.raises(UnknownNameError):
        WikipediaClassic().locate(DataRequest(data_root=copy, options={"seed": "1"}))
