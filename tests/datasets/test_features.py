"""The user's own features: what a description can say, and what is refused."""

import numpy as np
import pytest
from benchmark.datasets.features import Features
from benchmark.datasets.reading.holdout import hold_out

from benchmark.arrays import open_arrays
from benchmark.core.data import Modality, Split
from benchmark.core.dataset import DataRequest
from benchmark.errors import DataError, MissingDataError, UnknownNameError
from benchmark.inspection.describe import describe
from tests.datasets.writing import FORMATS, write

draw = np.random.default_rng(0)
ROWS = {"train": 12, "val": 4, "test": 6}
X = {
    s: {m: draw.normal(size=(n, d)).astype(np.float32) for m, d in (("a", 3), ("b", 2))}
    for s, n in ROWS.items()
}
Y = {split: np.arange(n) % 3 for split, n in ROWS.items()}


def usual(splits=("train", "val", "test")):
    """Arrays under their usual names."""
    arrays = {f"{s}_{m}": X[s][m] for s in splits for m in ("a", "b")}
    return arrays | {f"{s}_{m}_labels": Y[s] for s in splits for m in ("a", "b")}


def load(folder, arrays, text="", kind="npz", head=""):
    name = FORMATS[kind]
    if arrays is not None:
        write(folder / name, arrays, kind)
    description = folder / "mine.toml"
    description.write_text(f'{head}\nfile = "{name}"\n{text}')
    request = DataRequest(description=description)
    return Features().load(Features().locate(request))


@pytest.mark.parametrize("kind", FORMATS)
def test_the_usual_names_need_no_listing(kind, tmp_path):
    data = load(tmp_path, usual(), kind=kind)
    assert (data.name, data.source, data.classes) == ("mine", "user", 3)
    assert data.modalities == ("a", "b")
    assert data.class_names == ("0", "1", "2")
    for split in data.splits:
        for m in split:
            np.testing.assert_array_equal(m.features, X[split.name][m.name])
            np.testing.assert_array_equal(m.labels, Y[split.name])
            assert m.pair_ids is None


def test_everything_a_description_can_say(tmp_path):
    text = """
        name = "flowers"
        modalities = ["b", "a"]
        labels = "single"
        pairs = "rows"
        classes = 3
        class_names = ["rose", "tulip", "lily"]
        notes = ["from the garden"]
    """
    data = load(tmp_path, usual(), text)
    assert (data.name, data.modalities, data.notes) == ("flowers", ("b", "a"), ("from the garden",))
    assert data.class_names == ("rose", "tulip", "lily")
    assert all((m.pair_ids == np.arange(len(m))).all() for split in data.splits for m in split)


def test_arrays_of_other_names_cells_and_row_ranges(tmp_path):
    stacked = [np.concatenate([X[s][m] for s in ROWS]) for m in ("a", "b")]
    arrays = {"X": stacked, "Y": np.concatenate(list(Y.values()))[:, None] + 1}
    text = "modalities = ['a', 'b']\n"
    for split, rows in {"train": "0:12", "val": "12:16", "test": "16:22"}.items():
        text += f'[{split}]\na = "X[0][{rows}]"\nb = "X[1][{rows}]"\nlabels = "Y[{rows}]"\n'
    for kind in ("v5", "v7.3"):
        data = load(tmp_path, arrays, text, kind)
        for split in data.splits:
            np.testing.assert_array_equal(split["b"].features, X[split.name]["b"])
            np.testing.assert_array_equal(split["a"].labels, Y[split.name])


@pytest.mark.parametrize("values", [np.array([-7, 100, 4000]), np.array(["ant", "bee", "cat"])])
def test_labels_may_be_any_numbers_or_strings(values, tmp_path):
    arrays = usual() | {f"{s}_{m}_labels": values[Y[s]] for s in ROWS for m in ("a", "b")}
    data = load(tmp_path, arrays)
    assert data.class_names == tuple(map(str, values))
    np.testing.assert_array_equal(data.test["a"].labels, Y["test"])


def test_strings_in_a_matlab_cell_array(tmp_path):
    names = np.array(["ant", "bee", "cat"])
    arrays = {k: v for k, v in usual().items() if not k.endswith("labels")}
    arrays |= {f"{s}_labels": names[Y[s]].tolist() for s in ROWS}
    for kind in ("v5", "v7.3"):
        data = load(tmp_path, arrays, kind=kind)
        assert data.class_names == ("ant", "bee", "cat")
        np.testing.assert_array_equal(data.val["b"].labels, Y["val"])


def test_several_labels_per_row(tmp_path):
    hot = {s: (draw.random((n, 4)) < 0.5).astype(float) for s, n in ROWS.items()}
    arrays = usual() | {f"{s}_{m}_labels": hot[s] for s in ROWS for m in ("a", "b")}
    data = load(tmp_path, arrays, 'labels = "multi"\npairs = ["a", "b"]')
    assert (data.label_form, data.classes) == ("multi", 4)
    np.testing.assert_array_equal(data.test["b"].labels, hot["test"])
    assert data.test["b"].labels.dtype == np.uint8
    with pytest.raises(DataError, match="0 and 1 only"):
        load(tmp_path, arrays | {"val_a_labels": hot["val"] + 1}, 'labels = "multi"')
    with pytest.raises(DataError, match="4 rows of 0 and 1"):
        load(tmp_path, arrays | {"val_a_labels": Y["val"]}, 'labels = "multi"')
    with pytest.raises(DataError, match="this dataset needs exactly one per row"):
        load(tmp_path, arrays)


def test_pair_ids_in_the_file(tmp_path):
    ids = {"train": np.arange(12) + 500, "val": np.arange(4), "test": np.arange(6)}
    order = draw.permutation(12)
    arrays = usual() | {"train_b": X["train"]["b"][order], "train_b_labels": Y["train"][order]}
    for m in ("a", "b"):
        arrays |= {f"{s}_{m}_pair_ids": ids[s] for s in ROWS}
    arrays["train_b_pair_ids"] = ids["train"][order]
    train = load(tmp_path, arrays).train
    back = np.argsort(train["b"].pair_ids)
    np.testing.assert_array_equal(train["b"].features[back], X["train"]["b"][np.argsort(train["a"].pair_ids)])


def test_one_vector_of_pair_ids_covers_the_splits_in_order(tmp_path):
    data = load(tmp_path, usual() | {"pair_ids": np.arange(22)})
    for split in data.splits:
        np.testing.assert_array_equal(split["a"].pair_ids, np.arange(ROWS[split.name]))
        np.testing.assert_array_equal(split["b"].pair_ids, np.arange(ROWS[split.name]))


def test_a_share_is_held_out_when_there_is_no_validation_part(tmp_path):
    arrays = usual(("train", "test"))
    data = load(tmp_path, arrays, "validation_share = 0.25\nseed = 3\npairs = 'rows'")
    assert (len(data.train["a"]), len(data.val["a"])) == (9, 3)
    np.testing.assert_array_equal(np.bincount(data.val["a"].labels), [1, 1, 1])
    assert "0.25 of the training rows" in data.notes[0]
    rows = np.concatenate([data.train["a"].pair_ids, data.val["a"].pair_ids])
    np.testing.assert_array_equal(np.sort(rows), np.arange(12))
    np.testing.assert_array_equal(data.val["b"].features, X["train"]["b"][data.val["a"].pair_ids])
    other = load(tmp_path, arrays, "validation_share = 0.25\nseed = 4\npairs = 'rows'")
    assert other.fingerprint() != data.fingerprint()
    assert (
        load(tmp_path, arrays, "validation_share = 0.25\nseed = 3\npairs = 'rows'").fingerprint()
        == data.fingerprint()
    )


def test_partly_paired_items_stay_together_when_held_out():
    labels = np.repeat(np.arange(5), 8)
    a = Modality("a", np.zeros((40, 1), np.float32), labels, np.arange(40))
    keep = np.arange(1, 40, 2)
    b = Modality("b", np.zeros((20, 1), np.float32), labels[keep], keep)
    c = Modality("c", np.zeros((10, 1), np.float32), np.arange(10) % 5)
    train, val = hold_out(Split("train", {"a": a, "b": b, "c": c}, 5), 0.25, 0)
    assert set(train["a"].pair_ids).isdisjoint(val["a"].pair_ids)
    assert set(train["b"].pair_ids).isdisjoint(val["a"].pair_ids)
    assert set(val["b"].pair_ids) <= set(val["a"].pair_ids)
    np.testing.assert_array_equal(np.bincount(val["a"].labels), [2] * 5)
    np.testing.assert_array_equal(np.bincount(val["c"].labels), [1] * 5)
    assert [len(train[m]) + len(val[m]) for m in "abc"] == [40, 20, 10]


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("validation_share = 0.1", DataError, "there is a validation part"),
        ("validation_share = 2.0", DataError, "between 0 and 1"),
        ("labels = 'many'", DataError, '"single" or "multi"'),
        ("lables = 'single'", UnknownNameError, "did you mean 'labels'"),
        ("classes = 'three'", DataError, "classes must be int"),
        ("classes = 4", DataError, "3 classes, .* says 4"),
        ("class_names = ['x']", DataError, "1 class_names for 3 classes"),
        ("class_names = [1, 2, 3]", DataError, "must hold strings"),
        ("pairs = ['a', 'c']", DataError, "pairs must be"),
        ("modalities = ['a', 'c']", DataError, "train_c is missing; inside: train_a"),
        ("seed = -1", DataError, "negative"),
        ("[train]\nc = 'X'\n[test]\nd = 'X'", UnknownNameError, "unknown key in .test. .*'d'"),
        ("[train]\na = 'Q'", DataError, "no variable 'Q'"),
        ("not toml", DataError, "cannot be read as TOML"),
    ],
)
def test_a_wrong_description_is_refused(text, kind, reason, tmp_path):
    with pytest.raises(kind, match=reason) as caught:
        load(tmp_path, usual(), text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"val_a_labels": np.array([0, 1, 2, 9])}, r"val/a: label 9 \(row 3\) does not occur in training"),
        ({"val_a_labels": np.array([0.5, 1, 2, 0])}, "whole numbers"),
        ({"val_a_labels": np.array([0, 1, 2, 1e300])}, r"0\.0 to 1e\+300; no class has such a number"),
        ({"val_a_labels": np.array([0, 1, 2, 2**64 - 1], np.uint64)}, "no class has such a number"),
        ({"val_a_labels": np.array([b"a", b"b", b"c", b"\xff"])}, "no UTF-8 text"),
        ({"val_a_labels": np.zeros(5)}, "4 feature rows but labels of shape"),
        ({"test_b": np.ones((6, 3))}, "test/b has 3 columns, train has 2"),
        ({"test_b": np.ones(6)}, r"float64 of shape \(6,\), expected numbers"),
        ({"train_a": np.full((12, 3), np.nan)}, "train/a: nan at row 0"),
        ({"train_b_labels": Y["train"][::-1]}, "a row 0 and b row 0 are a pair"),
        ({"train_b": X["train"]["b"][:5], "train_b_labels": Y["train"][:5]}, "train rows differ: a 12, b 5"),
    ],
)
def test_a_wrong_array_is_refused(change, reason, tmp_path):
    with pytest.raises(DataError, match=reason) as caught:
        load(tmp_path, usual() | change, 'pairs = ["a", "b"]')
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no validation part \(val_a\); add validation_share"):
        load(tmp_path, usual(("train", "test")))
    with pytest.raises(DataError, match="train_b_labels is missing; inside"):
        load(tmp_path, {k: v for k, v in usual().items() if k != "train_b_labels"})
    with pytest.raises(DataError, match="no train_<modality> array"):
        load(tmp_path, {"X": X["train"]["a"]})
    (tmp_path / FORMATS["npz"]).unlink()
    with pytest.raises(MissingDataError, match="does not exist"):
        load(tmp_path, None)
    with pytest.raises(DataError, match="give a description"):
        Features().locate(DataRequest())


def test_the_identity_follows_description_and_file(tmp_path):
    load(tmp_path, usual())
    request = DataRequest(description=tmp_path / "mine.toml")
    before = Features().locate(request).identity
    assert Features().locate(request).identity == before
    request.description.write_text(request.description.read_text() + "pairs = 'rows'\n")
    assert Features().locate(request).identity != before


@pytest.mark.real_data
def test_one_hundred_leaves(data_folder, tmp_path):
    """Real data: 1600 leaves, three views, split by position within the class."""
    source = data_folder("leaves100") / "100Leaves.mat"
    content = open_arrays(source)
    place = np.arange(1600) % 16 % 8
    rows = {"train": np.isin(place, (0, 1, 2, 4, 5)), "val": place == 6, "test": np.isin(place, (3, 7))}
    arrays = {}
    for split, mask in rows.items():
        arrays[f"{split}_labels"] = content.read("Y")[mask]
        for number, m in enumerate(("margin", "shape", "texture")):
            arrays[f"{split}_{m}"] = content.read(f"X[{number}]")[mask]
    data = load(tmp_path, arrays, 'name = "leaves100"\npairs = "rows"\nclasses = 100')
    facts = describe(data)
    assert data.modalities == ("margin", "shape", "texture")
    assert [len(split["shape"]) for split in data.splits] == [1000, 200, 400]
    counts = [set(part["texture"]["class_counts"]) for part in facts["splits"].values()]
    assert counts == [{10}, {2}, {4}]
    assert data.class_names[99] == "100"
    assert facts["splits"]["train"]["margin"]["zeros"] == pytest.approx(0.24, abs=0.01)
    assert max(part["margin"]["max"] for part in facts["splits"].values()) == pytest.approx(0.416, abs=1e-3)
    assert facts["problems"] == []


def test_names_of_modalities_are_checked(tmp_path):
    with pytest.raises(DataError, match=r"mine\.toml: modality name 'a' occurs twice"):
        load(tmp_path, usual(), 'modalities = ["a", "a"]')
    with pytest.raises(DataError, match=r"mine\.toml: modality name '\.\./a' has '/' in it"):
        load(tmp_path, usual(), 'modalities = ["../a", "b"]')
    with pytest.raises(DataError, match=r"modality name 'a\+b' has"):
        load(tmp_path, usual() | {"train_a+b": X["train"]["a"]})
