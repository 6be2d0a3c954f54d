"""The data model: its views, what a fingerprint covers, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.core.data import Item, Modality, MultimodalData, Split
from benchmark.core.validate import check_names, validate
from benchmark.errors import DataError
from tests.toy import CLASSES, WIDTHS, edit, edited, make_data, modality

# --- names


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        (" image", "begins or ends with a space"),
        ("x" * 65, "has 65 characters"),
        ("im\tage", "cannot be printed"),
        ("im\x1b[31mage", "cannot be printed"),
        ("\ud800", "cannot be printed"),
        ("/x/abs", "has '/' in it"),
        ("..\\esc", "has"),
        ("image->text", "has '->' in it"),
        ("a+b", r"has '\+' in it"),
        ("a,b", "has ',' in it"),
    ],
)
def test_a_name_that_would_be_mistaken_is_refused(name, problem):
    modalities = {name: replace(modality("image"), name=name), "text": modality("text")}
    splits = [Split(split, modalities, CLASSES) for split in ("train", "val", "test")]
    with pytest.raises(DataError, match=f"toy: modality name .* {problem}.*; choose another"):
        validate(MultimodalData("toy", "user", *splits))


def test_a_name_may_be_in_any_script():
    check_names(("图像", "a b", "a_b", "3d", "x" * 64), "")
    with pytest.raises(DataError, match="'image' occurs twice"):
        check_names(("image", "text", "image"), "")


# --- views


def test_label_matrix_is_one_hot_or_the_labels_themselves():
    single, multi = make_data().train, make_data("multi").train
    matrix = single.label_matrix("image")
    assert matrix.dtype == np.float32
    assert matrix.shape == (9, CLASSES)
    assert (matrix.sum(axis=1) == 1).all()
    assert (matrix.argmax(axis=1) == single["image"].labels).all()
    assert multi.label_matrix("text").dtype == np.float32
    assert (multi.label_matrix("text") == multi["text"].labels).all()


def test_restrict_keeps_canonical_order_and_drops_the_rest():
    data = make_data(items={"image": (Item("a"),) * 6, "text": (Item("b", "β"),) * 6})
    assert data.restrict(("text", "image")).modalities == ("image", "text")
    only = data.restrict(("text",))
    assert [split.names for split in only.splits] == [("text",)] * 3
    assert list(only.items) == ["text"]
    assert only.test["text"] is data.test["text"]


def test_take_moves_features_labels_and_pairs_together():
    image = make_data().train["image"]
    rows = np.array([4, 0, 4])
    taken = image.take(rows)
    assert (taken.features == image.features[rows]).all()
    assert (taken.labels == image.labels[rows]).all()
    assert (taken.pair_ids == rows).all()


def test_a_split_cannot_be_changed_through_the_mapping_it_was_made_from():
    modalities = {"image": modality("image")}
    split = Split("train", modalities, CLASSES)
    modalities["text"] = modality("text")
    assert split.names == ("image",)
    with pytest.raises(TypeError):
        split.modalities["text"] = modality("text")


# --- fingerprint


def test_fingerprint_is_reproducible_and_ignores_memory_layout():
    data = make_data()
    fortran = edit(data, "train/image", features=np.asfortranarray(data.train["image"].features))
    assert data.fingerprint() == make_data().fingerprint() == fortran.fingerprint()
    assert len(data.fingerprint()) == 64


@given(
    split=st.sampled_from(["train", "val", "test"]),
    name=st.sampled_from(list(WIDTHS)),
    field=st.sampled_from(["features", "labels", "pair_ids"]),
    place=st.integers(0, 3),
    form=st.sampled_from(["single", "multi"]),
)
def test_fingerprint_changes_with_any_single_value(split, name, field, place, form):
    data = make_data(form)
    array = getattr(getattr(data, split)[name], field)
    index = (place, -1) if array.ndim == 2 else place
    value = np.nextafter(array[index], np.float32(9)) if field == "features" else array[index] ^ 1
    changed = edit(data, f"{split}/{name}", **{field: edited(array, index, value)})
    assert changed.fingerprint() != data.fingerprint()


@given(split=st.sampled_from(["train", "val", "test"]), order=st.permutations(range(4)))
def test_fingerprint_changes_with_the_order_of_rows(split, order):
    data = make_data()
    image = getattr(data, split)["image"]
    rows = np.array([*order, *range(4, len(image))])
    changed = edit(data, f"{split}/image", **vars(image.take(rows)))
    assert (changed.fingerprint() == data.fingerprint()) == (list(order) == [0, 1, 2, 3])


def test_fingerprint_covers_everything_that_is_not_an_array():
    data = make_data()
    one_class_more = {s.name: replace(s, classes=CLASSES + 1) for s in data.splits}
    swapped = {s.name: replace(s, modalities=dict(reversed(s.modalities.items()))) for s in data.splits}
    others = [
        replace(data, name="other"),
        replace(data, version="2"),
        replace(data, **one_class_more),
        replace(data, **swapped),
        replace(data, val=replace(data.test, name="val"), test=replace(data.val, name="test")),
        edit(data, "train/image", pair_ids=None),
        data.restrict(("image",)),
    ]
    seen = [each.fingerprint() for each in (data, *others)]
    assert len(set(seen)) == len(seen)


def test_moving_bytes_from_one_array_to_the_next_changes_the_fingerprint():
    joined = np.arange(12, dtype=np.float32)

    def data(rows):
        blocks = joined[: 2 * rows].reshape(rows, 2), joined[2 * rows :].reshape(6 - rows, 2)
        splits = [
            Split(name, {"text": Modality("text", block, np.zeros(len(block), np.int64))}, 1)
            for name, block in zip(("train", "val", "test"), (*blocks, blocks[0]), strict=True)
        ]
        return MultimodalData("toy", "user", *splits)

    assert data(2).fingerprint() != data(4).fingerprint()


def test_a_fixed_fingerprint_is_reported_as_it_is():
    assert make_data(fixed_fingerprint="generated-1").fingerprint() == "generated-1"


# --- validate


@pytest.mark.parametrize(
    ("items", "part"),
    [
        ({"image": (Item("a"),) * 5}, "5 items of image for 6 test rows"),
        ({"imag": (Item("a"),) * 6}, "items of 'imag', which is no modality (image, text)"),
    ],
)
def test_items_that_are_not_those_of_the_test_rows_are_refused(items, part):
    with pytest.raises(DataError) as caught:
        validate(make_data(items=items))
    assert part in str(caught.value)


def test_items_may_be_known_for_some_modalities_only():
    data = make_data(items={"image": (Item("a", "α"),) * 6, "text": ()})
    assert validate(data) is data


@pytest.mark.parametrize("form", ["single", "multi"])
def test_good_data_pass_unchanged(form):
    data = make_data(form)
    assert validate(data) is data
    unpaired = edit(data, "train/image", pair_ids=None)
    assert validate(unpaired) is unpaired


def image(data):
    return data.train["image"]


BAD = {
    "one_dimension": (lambda d: {"features": image(d).features[:, 0]}, r"shape \(9,\)"),
    "no_rows": (lambda d: vars(image(d).take(np.array([], np.int64))), r"empty.*\(0, 4\)"),
    "no_columns": (lambda d: {"features": image(d).features[:, :0]}, r"empty.*\(9, 0\)"),
    "float64": (lambda d: {"features": image(d).features.astype(np.float64)}, "float64.*float32"),
    "nan": (lambda d: {"features": edited(image(d).features, (2, 1), np.nan)}, "nan at row 2, column 1"),
    "infinite": (
        lambda d: {"features": edited(image(d).features, (0, 3), -np.inf)},
        "-inf at row 0, column 3",
    ),
    "labels_short": (lambda d: {"labels": image(d).labels[:-1]}, "9 feature rows but 8 labels"),
    "labels_one_hot": (lambda d: {"labels": np.eye(9, 3)}, r"one integer per row.*float64 \(9, 3\)"),
    "labels_float": (
        lambda d: {"labels": image(d).labels.astype(np.float32)},
        "one integer per row.*float32",
    ),
    "label_high": (lambda d: {"labels": edited(image(d).labels, 5, 3)}, r"label 3 is outside 0\.\.2"),
    "label_negative": (lambda d: {"labels": edited(image(d).labels, 5, -1)}, r"label -1 is outside"),
    "pairs_short": (lambda d: {"pair_ids": np.arange(8)}, r"pair ids.* 9 rows, got int64 \(8,\)"),
    "pairs_shape": (lambda d: {"pair_ids": np.zeros((9, 1), np.int64)}, r"pair ids.*\(9, 1\)"),
    "pairs_type": (lambda d: {"pair_ids": np.arange(9.0)}, "pair ids.*float64"),
    "pairs_twice": (lambda d: {"pair_ids": edited(np.arange(9), 8, 0)}, "pair id .*twice"),
    "pair_disagrees": (
        lambda d: {"labels": edited(image(d).labels, 4, 2)},
        r"image row 4 and text row 4 are a pair \(id 4\)",
    ),
}


def refused(data, match, where="file.mat"):
    with pytest.raises(DataError, match=match) as caught:
        validate(data, where)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{where}: " if where else "toy: ")


@pytest.mark.parametrize(("change", "match"), BAD.values(), ids=BAD)
def test_bad_rows_are_refused_in_one_line_that_says_where(change, match):
    data = make_data()
    refused(edit(data, "train/image", **change(data)), f"train.*{match}")


MULTI_BAD = {
    "single_labels": (lambda y: y.argmax(axis=1), r"labels have shape \(9,\), expected \(9, 3\)"),
    "too_wide": (lambda y: np.c_[y, y], r"shape \(9, 6\), expected \(9, 3\)"),
    "counts": (lambda y: edited(y, (1, 1), 2), "0 and 1 only"),
    "pair_disagrees": (lambda y: edited(y, 3, 1 - y[3]), "image row 3 and text row 3"),
}


@pytest.mark.parametrize(("change", "match"), MULTI_BAD.values(), ids=MULTI_BAD)
def test_bad_multi_hot_labels_are_refused(change, match):
    data = make_data("multi")
    refused(edit(data, "train/image", labels=change(image(data).labels)), match)


def test_splits_that_do_not_fit_together_are_refused():
    data = make_data()
    text_only = data.restrict(("text",))
    refused(replace(data, test=text_only.test), r"test has \['text'\], train has \['image', 'text'\]", "")
    wider = edit(data, "val/text", features=np.zeros((4, 5), np.float32))
    refused(wider, "val/text has 5 columns, train has 2", "")
    refused(replace(data, val=replace(data.val, classes=2)), "val has 2 classes.*train has 3", "")
    refused(replace(data, val=replace(data.val, label_form="multi")), "val.*multi.*train.*single", "")
    refused(data.restrict(()), "no modality", "")


def test_a_disagreeing_pair_is_found_between_any_two_modalities():
    """Also where the modality between the two is unpaired, or shares no id with them."""
    rows = np.arange(3)
    features = np.zeros((3, 2), np.float32)
    ends = {"first": rows, "last": np.array([0, 1, 0])}
    for middle in (None, rows + 10):
        modalities = {name: Modality(name, features, labels, rows) for name, labels in ends.items()}
        modalities = {
            "first": modalities["first"],
            "middle": Modality("middle", features, rows, middle),
            "last": modalities["last"],
        }
        split = Split("train", modalities, 3)
        others = [
            replace(split, name=n, modalities=dict.fromkeys(modalities, modalities["first"]))
            for n in ("val", "test")
        ]
        refused(MultimodalData("toy", "user", split, *others), "first row 2 and last row 2 are a pair")
