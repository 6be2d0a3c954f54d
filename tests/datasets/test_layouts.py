"""Every published file layout, in small, gives the same data; everything wrong with a file is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
from benchmark.datasets.nuswide import NusWide
from benchmark.datasets.reading.table1 import SPLITS, TABLE_I, Shape, Table
from benchmark.datasets.websearch import Websearch
from benchmark.datasets.wikipedia import Wikipedia
from benchmark.datasets.xmedia import XMedia
from benchmark.datasets.xmedianet import XMediaNet

from benchmark.core.dataset import DataRequest
from benchmark.core.registry import DATASETS
from benchmark.errors import BenchmarkError, DataError, MissingDataError, UnknownNameError
from tests.datasets.writing import write, write_hdf5

PAIR = Table(2, {"image": Shape(10, 4, 6, 5), "text": Shape(10, 4, 6, 3)})
FIVE = Table(
    2,
    {
        "image": Shape(10, 4, 6, 5),
        "text": Shape(10, 4, 6, 3),
        "audio": Shape(8, 2, 4, 4),
        "3d": Shape(6, 3, 2, 7),
        "video": Shape(9, 4, 4, 5),
    },
)
WORDS = {"train": "train", "val": "valid", "test": "test"}


@pytest.fixture(autouse=True)
def _no_other_data(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)


def truth(table):
    """Random features, and class numbers 0 and 1 in turn, equal for image and text."""
    draw = np.random.default_rng(0)
    x, y = {s: {} for s in SPLITS}, {s: {} for s in SPLITS}
    for m, shape in table.shapes.items():
        for split in SPLITS:
            x[split][m] = draw.normal(size=(shape.rows(split), shape.dim)).astype(np.float32)
            y[split][m] = np.arange(shape.rows(split)) % 2
    return x, y


def together(part, m, *splits):
    return np.concatenate([part[split][m] for split in splits])


def load(dataset, folder, table, **options):
    instance = dataset(table)
    return instance.load(instance.locate(DataRequest("official", folder, **options)))


def check(data, table, modalities=None):
    """The data are the truth, float32 and int64, paired by row where they should be."""
    x, y = truth(table)
    assert data.source == "official"
    assert data.modalities == (modalities or tuple(table.shapes))
    for split in data.splits:
        for m in split:
            np.testing.assert_array_equal(m.features, x[split.name][m.name])
            np.testing.assert_array_equal(m.labels, y[split.name][m.name])
            assert (m.features.dtype, m.labels.dtype) == (np.float32, np.int64)
            paired = m.name in ("image", "text")
            assert (m.pair_ids is not None) == paired
            if paired:
                np.testing.assert_array_equal(m.pair_ids, np.arange(len(m)))


# --- the files, one function per layout ---


def xmedia_arrays(table=FIVE):
    x, y = truth(table)
    names = {"image": "I_{}_CNN", "text": "T_{}_BOW", "audio": "A_{}", "3d": "d3_{}", "video": "V_{}_CNN"}
    labels = {"image": "Img", "text": "Txt", "audio": "Aud", "3d": "3d", "video": "Vid"}
    arrays = {
        "T_tr": np.zeros((10, 3)),
        "T_te": np.zeros((10, 3)),
        "I_tr": np.zeros((10, 5)),
    }  # older features
    for m in table.shapes:
        arrays[names[m].format("tr")] = x["train"][m]
        arrays[names[m].format("te")] = together(x, m, "test", "val")
        arrays[f"tr{labels[m]}Cat"] = y["train"][m][:, None] + 1
        arrays[f"te{labels[m]}Cat"] = together(y, m, "test", "val")[None] + 1
    return arrays


def named_pair(image, text, words, *, base=0, cut=("val", "test")):
    """Image-text arrays; part "test" holds validation too unless a word for it is given."""
    x, y = truth(PAIR)
    arrays = {}
    for part, word in words.items():
        splits = cut if part == "test" and "val" not in words else (part,)
        for m, (features, labels) in {"image": image, "text": text}.items():
            arrays[features.format(word)] = together(x, m, *splits)
            arrays[labels.format(word)] = together(y, m, *splits) + base
    return arrays


IMAGES, TEXT = ("{}_imgs_deep", "{}_imgs_labels"), "{}_texts_labels"
TWO, THREE = {"train": "train", "test": "test"}, {"train": "train", "val": "valid", "test": "test"}


def cells(table, order, base=1):
    x, y = truth(table)
    arrays = {}
    for split, word in WORDS.items():
        arrays[word] = [x[split][m] for m in order]
        arrays[f"{word}_labels"] = [y[split][m] + base for m in order]
    return arrays


@pytest.mark.parametrize("kind", ["v5-compressed", "v7.3"])
@pytest.mark.parametrize("name", ["XMediaFeatures.mat", "XMedia/Features.mat"])
def test_xmedia(kind, name, tmp_path):
    write(tmp_path / "some" / name, xmedia_arrays(), kind)
    check(load(XMedia, tmp_path if "/" not in name else tmp_path / "some", FIVE), FIVE)


CORR, WIKI, NUS = "wiki_deep_doc2vec_data_corr_ae.h5py", "wiki.mat", "nus_wide_deep_doc2vec-corr-ae.h5py"
WEB = {"train": "tr", "val": "val", "test": "te"}


@pytest.mark.parametrize(
    ("dataset", "name", "kind", "arrays"),
    [
        (Wikipedia, WIKI, kind, named_pair(IMAGES, ("{}_texts_doc", TEXT), TWO, base=1))
        for kind in ("v5", "v7.3")
    ]
    + [
        (Wikipedia, CORR, "hdf5", named_pair(IMAGES, (text, TEXT), words, base=1))
        for text in ("{}_text", "{}_texts")
        for words in (TWO, THREE)
    ]
    + [
        (NusWide, NUS, "hdf5", named_pair(IMAGES, ("{}_texts", TEXT), THREE)),
        (
            Websearch,
            "INRIA-Websearch.mat",
            "v5",
            named_pair(("{}_img", "{}_img_lab"), ("{}_txt", "{}_txt_lab"), WEB, base=1),
        ),
        (
            XMediaNet,
            "xmedianet_deep_doc2vec_data.h5py",
            "hdf5",
            named_pair(IMAGES, ("{}_text", TEXT), TWO, base=1),
        ),
    ],
)
def test_image_and_text_in_one_file(dataset, name, kind, arrays, tmp_path):
    write(tmp_path / name, arrays, kind)
    check(load(dataset, tmp_path, FIVE if dataset is XMediaNet else PAIR), PAIR)


@pytest.mark.parametrize(
    "names",
    [
        ("images.mat", "texts.mat", "labels.mat"),
        ("images.vgg19.mat", "texts.wiki.doc2vec.300.mat", "labels.wiki.mat"),
    ],
)
def test_wikipedia_in_three_files(names, tmp_path):
    x, y = truth(PAIR)
    order = ("train", "test", "val")
    values = [together(x, "image", *order), together(x, "text", *order), together(y, "image", *order)]
    for name, variable, value in zip(names, ("images", "texts", "labels"), values, strict=True):
        write(tmp_path / "wiki" / name, {variable: value})
    data = load(Wikipedia, tmp_path, PAIR)
    check(data, PAIR)
    assert "COXI" in data.notes[0]


def test_nuswide_with_one_hot_labels(tmp_path):
    arrays = named_pair(IMAGES, ("{}_texts", TEXT), THREE)
    arrays = {k: np.eye(2)[v] if k.endswith("labels") else v for k, v in arrays.items()}
    write(tmp_path / NUS, arrays, "hdf5")
    check(load(NusWide, tmp_path, PAIR), PAIR)
    arrays["train_imgs_labels"][3] = 1
    write(tmp_path / NUS, arrays, "hdf5")
    with pytest.raises(DataError, match="row 3 has 2 labels"):
        load(NusWide, tmp_path, PAIR)


@pytest.mark.parametrize("kind", ["v5", "v7.3"])
@pytest.mark.parametrize("order", [tuple(FIVE.shapes), ("video", "3d", "audio", "text", "image")])
def test_xmedianet_cells_in_any_order(kind, order, tmp_path):
    write(tmp_path / "XMediaNet5View_Doc2Vec.mat", cells(FIVE, order), kind)
    check(load(XMediaNet, tmp_path, FIVE), FIVE)


def test_xmedianet_with_four_cells(tmp_path):
    order = ("image", "text", "audio", "video")
    write(tmp_path / "XMediaNet4View_pairs.mat", cells(FIVE, order))
    data = load(XMediaNet, tmp_path, FIVE)
    check(data, FIVE, order)
    assert "no 3d features" in data.notes[0]
    arrays = cells(FIVE, order)
    arrays["train"][2] = np.repeat(arrays["train"][2], 2, axis=0)
    write(tmp_path / "XMediaNet4View_pairs.mat", arrays)
    with pytest.raises(DataError, match=r"train\[2\] of shape \(16, 4\) fits no modality"):
        load(XMediaNet, tmp_path, FIVE)


def test_xmedianet_matrices(tmp_path):
    x, y = truth(FIVE)
    letters = {"image": "I", "text": "T", "audio": "A", "3d": "TD", "video": "V"}
    arrays = {}
    for m, letter in letters.items():
        arrays[f"{letter}_tr"], arrays[f"{letter}_te"] = x["train"][m], together(x, m, "val", "test")
        arrays[f"{letter}_labs"] = together(y, m, *SPLITS) + 1
    write(tmp_path / "XMediaNetFeatures.mat", arrays)
    data = load(XMediaNet, tmp_path, FIVE)
    check(data, FIVE)
    assert "first half of its test rows" in data.notes[0]


def test_xmedianet_folder_of_small_files(tmp_path):
    x, y = truth(PAIR)
    for split, word in WORDS.items():
        parts = {"img": x[split]["image"], "text": x[split]["text"], "label": y[split]["image"] + 1}
        for part, value in parts.items():
            write(tmp_path / "XMediaNet" / f"{word}_{part}.mat", {"name": value})
    check(load(XMediaNet, tmp_path, FIVE), PAIR)


# --- what is refused ---


def test_other_data_of_the_same_name_are_refused(tmp_path):
    ones = np.ones((3, 2))
    cases = [
        (
            NusWide,
            "nus_wide_deep_doc2vec_data_42941.h5py",
            ["train_imgs_deep", "train_text", "test_text"],
            "42,941",
        ),
        (NusWide, "nus-wide-tc21.mat", ["img_train", "txt_train", "train_labs"], "21-concept"),
        (NusWide, "train_lab.mat", ["train_lab"], "ALGCN"),
        (NusWide, "train_img_lab.mat", ["train_img_lab"], "DSCMR"),
        (NusWide, "Features.mat", ["I_tr_CNN", "T_tr_BOW"], "COXI"),
        (
            Wikipedia,
            "wiki_deep_idx_data-corr-ae.h5py",
            ["train_imgs_deep", "train_texts_idx"],
            "word indices",
        ),
        (Wikipedia, "data_norzm.mat", ["img_tr", "txt_tr", "label_tr"], "MMSAE"),
        (Wikipedia, "raw_features.mat", ["I_tr", "T_tr", "I_te", "T_te"], "wikipedia-classic"),
        (
            XMediaNet,
            "xmedianet_deep_idx_data_has_valid.h5py",
            ["train_imgs_deep", "wv_matrix"],
            "word indices",
        ),
        (XMedia, "XMediaNetFeatures.mat", ["TD_tr", "TD_te", "I_labs"], "XMediaNet"),
    ]
    for dataset, name, variables, reason in cases:
        path = tmp_path / dataset.info.id / name
        write(path, dict.fromkeys(variables, ones), "hdf5" if path.suffix == ".h5py" else "v5")
        with pytest.raises(
            DataError, match=f"{name}.*not the {dataset.info.id} features of the paper.*{reason}"
        ):
            load(dataset, tmp_path, PAIR, options={"file": str(path)})


def test_other_data_are_mentioned_when_the_right_file_is_missing(tmp_path):
    (tmp_path / "XMediaFeatures_Pairwise.mat").touch()
    with pytest.raises(MissingDataError, match=r"XMediaFeatures_Pairwise.mat was found but is rows repeated"):
        XMedia(FIVE).locate(DataRequest("official", tmp_path))


def broken_xmedia(tmp_path, change):
    arrays = xmedia_arrays()
    change(arrays)
    path = write(tmp_path / "XMediaFeatures.mat", arrays)
    with pytest.raises(DataError) as caught:
        load(XMedia, tmp_path, FIVE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_variable_lists_what_is_inside(tmp_path):
    message = broken_xmedia(tmp_path, lambda a: a.pop("T_tr_BOW"))  # T_tr (LDA) must not step in
    assert "also has T_tr_BOW; inside: T_tr (10, 3)" in message


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("I_tr_CNN", np.ones((10, 6)), "train image (I_tr_CNN): shape (10, 6), expected (10, 5)"),
        ("I_te_CNN", np.ones((9, 5)), "rest image (I_te_CNN): shape (9, 5), expected (10, 5)"),
        ("d3_te", np.array([["no", "numbers"]]), "expected numbers"),
        ("A_tr", np.full((8, 4), np.nan), "train/audio: nan at row 0, column 0"),
        ("A_te", np.full((6, 4), np.inf), "val/audio: inf at row 0"),
        ("A_te", np.full((6, 4), 1e300), "val/audio: inf at row 0"),
        ("trImgCat", np.arange(9) % 2, "10 feature rows but labels of shape (1, 9)"),
        ("trImgCat", np.ones(10), "train image has 1 classes, expected 2"),
        ("trImgCat", np.arange(10) % 3, "train image has 3 classes, expected 2"),
        ("trImgCat", np.arange(10) % 2 + 0.5, "must be whole numbers, found 0.5"),
        ("trVidCat", (np.arange(9) % 2) * 2 + 1, "the class numbers of video are not those of image"),
        ("teVidCat", np.arange(8) % 3 + 1, "test video: label 3 (row 2) does not occur in training (1..2"),
        (
            "trTxtCat",
            np.arange(1, 11) % 2 + 1,
            "image row 0 and text row 0 are a pair (id 0) but their labels differ",
        ),
        ("te3dCat", np.array([1, 1, 2, 2, 2]), "1 of 2 classes have no val 3d"),
    ],
)
def test_a_wrong_array_is_named(name, value, reason, tmp_path):
    assert reason in broken_xmedia(tmp_path, lambda arrays: arrays.update({name: value}))


def test_class_numbers_may_start_anywhere_but_only_that(tmp_path):
    arrays = xmedia_arrays()
    for name in ("trAudCat", "teAudCat"):
        arrays[name] = arrays[name] - 1
    write(tmp_path / "XMediaFeatures.mat", arrays)
    check(load(XMedia, tmp_path, FIVE), FIVE)


def test_a_transposed_array_is_turned(tmp_path):
    arrays = named_pair(IMAGES, ("{}_text", TEXT), TWO)
    arrays = {k: v.T for k, v in arrays.items()}
    write_hdf5(tmp_path / "wiki_deep_doc2vec_data_corr_ae.h5py", arrays)
    check(load(Wikipedia, tmp_path, PAIR), PAIR)


# --- locating ---


def test_official_files_win_over_the_stand_in_and_standin_can_be_asked_for(tmp_path):
    wikipedia = Wikipedia(PAIR)
    assert wikipedia.locate(DataRequest(data_root=tmp_path)).source == "standin"
    path = write(tmp_path / "x/y/wiki.mat", named_pair(IMAGES, ("{}_texts_doc", TEXT), TWO))
    found = wikipedia.locate(DataRequest(data_root=tmp_path))
    assert (found.source, found.files) == ("official", (path,))
    assert str(path) in found.identity
    assert wikipedia.locate(DataRequest("standin", tmp_path)).source == "standin"
    path.write_bytes(path.read_bytes() + b"\0")
    assert wikipedia.locate(DataRequest(data_root=tmp_path)).identity != found.identity


def test_the_environment_variable_is_searched_after_the_data_root(tmp_path, monkeypatch):
    arrays = named_pair(IMAGES, ("{}_texts_doc", TEXT), TWO)
    first, second = (write(tmp_path / name / "wiki.mat", arrays) for name in ("one", "two"))
    monkeypatch.setenv("BENCHMARK_DATA", str(second.parent))
    assert Wikipedia().locate(DataRequest()).files == (second,)
    assert Wikipedia().locate(DataRequest(data_root=first.parent)).files == (first,)


def test_stand_in_options_decide_its_identity():
    def identity(**options):
        return XMedia().locate(DataRequest("standin", options=options)).identity

    assert identity() == identity(seed="0", scale="1")
    assert len({identity(), identity(seed="1"), identity(scale="0.5")}) == 3


def test_a_small_stand_in_is_loaded():
    located = Wikipedia().locate(DataRequest("standin", options={"scale": "0.05"}))
    data = Wikipedia().load(located)
    assert (data.source, data.modalities, data.classes) == ("standin", ("image", "text"), 10)


@pytest.mark.parametrize(
    ("facts", "kind", "reason"),
    [
        ({"options": {"sed": "1"}}, UnknownNameError, "did you mean 'seed'.*Valid: file, scale, seed"),
        ({"options": {"seed": "x"}}, DataError, "whole number"),
        ({"options": {"scale": "2"}}, DataError, r"scale in \(0, 1\]"),
        ({"options": {"file": "absent.mat"}}, MissingDataError, "absent.mat .* does not exist"),
        ({"source": "oficial"}, UnknownNameError, "did you mean 'official'"),
        ({"split": "paper"}, DataError, "one split only"),
        ({"data_root": Path("absent")}, DataError, "data root absent does not exist"),
        ({"source": "official"}, MissingDataError, "benchmark data fetch wikipedia.*put wiki.mat .home page"),
    ],
)
def test_an_impossible_request_is_refused(facts, kind, reason):
    with pytest.raises(kind, match=reason):
        Wikipedia().locate(DataRequest(**facts))


def test_stand_in_options_do_not_go_with_official_files(tmp_path):
    write(tmp_path / "wiki.mat", named_pair(IMAGES, ("{}_texts_doc", TEXT), TWO))
    with pytest.raises(DataError, match="option seed is the stand-in's"):
        Wikipedia().locate(DataRequest(data_root=tmp_path, options={"seed": "1"}))


def test_status_verify_and_fetch_answer_for_each_dataset(tmp_path):
    for entry in DATASETS.entries().values():
        instance = entry.load()()
        status = instance.status(DataRequest())
        shipped = entry.id in ("emoji", "emoji-coarse")
        assert (status["id"], len(status["files"])) == (entry.id, 2 if shipped else 0)
        assert status["fetchable"] == (entry.id in ("xmedia", "wikipedia", "wikipedia-classic"))
        assert status["source"] == ("standin" if entry.info.standin else "official" if shipped else "")
        if not instance.fetchable:
            with pytest.raises(BenchmarkError, match=entry.id):
                instance.fetch(DataRequest())
    write(tmp_path / "wiki.mat", named_pair(IMAGES, ("{}_texts_doc", TEXT), TWO))
    facts = Wikipedia(PAIR).verify(DataRequest(data_root=tmp_path))
    assert facts["files"][0]["published"] is False
    assert "not the published file" in facts["problems"][0]
    assert facts["fingerprint"] == load(Wikipedia, tmp_path, PAIR).fingerprint()
    assert Wikipedia().verify(DataRequest("standin"))["files"] == []


# --- Table I ---


def test_shapes_and_registry_agree_with_the_published_table():
    path = Path(__file__).parents[2] / "results/published/table1_datasets.csv"
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == sum(len(table.shapes) for table in TABLE_I.values())
    for row in rows:
        table = TABLE_I[row["dataset"]]
        info = DATASETS.get(row["dataset"]).info
        numbers = (int(row[key]) for key in ("train", "val", "test", "feature_dim"))
        assert table.shapes[row["modality"]] == Shape(*numbers)
        assert int(row["categories"]) == table.classes == info.classes
        assert tuple(table.shapes) == info.modalities
        assert DATASETS.get(row["dataset"]).load().table is table
