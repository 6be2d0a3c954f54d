"""Row alignment: pairs are found by id, unpaired modalities by the named rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.core.data import Modality, Split
from benchmark.core.pairing import class_rows, cycle_rows, left_out, partners, units
from benchmark.errors import DataError, UnsupportedError

CLASSES = 4


def modality(name, labels, ids=None):
    labels = np.asarray(labels, np.int64)
    features = np.arange(len(labels), dtype=np.float32)[:, None]
    return Modality(name, features, labels, None if ids is None else np.asarray(ids, np.int64))


def split(*modalities, classes=CLASSES, form="single"):
    return Split("train", {m.name: m for m in modalities}, classes, form)


def five(rows=(24, 24, 10, 7, 13)):
    """Image and text paired by id but stored in different orders; three unpaired modalities, class-sorted."""
    rng = np.random.default_rng(0)
    labels = np.sort(np.arange(rows[0]) % CLASSES)
    order = rng.permutation(rows[1])
    return split(
        modality("image", labels, np.arange(rows[0]) * 3),
        modality("text", labels[order], np.arange(rows[1])[order] * 3),
        *(
            modality(name, np.sort(np.arange(n) % CLASSES))
            for name, n in zip(("audio", "3d", "video"), rows[2:], strict=True)
        ),
    )


def seed_of(name):
    return len(name) + 17


def pairs_hold(data, table, a="image", b="text"):
    return np.array_equal(data[a].pair_ids[table[a]], data[b].pair_ids[table[b]])


def test_units_are_groups_and_single_modalities():
    parts = units(five())
    assert [part.name for part in parts] == ["image+text", "audio", "3d", "video"]
    assert [part.paired for part in parts] == [True, False, False, False]
    assert [part.size for part in parts] == [24, 10, 7, 13]


def test_two_separate_groups():
    data = split(
        modality("a", [0] * 4, [0, 1, 2, 3]),
        modality("b", [0] * 3, [10, 11, 12]),
        modality("c", [0] * 4, [3, 2, 1, 0]),
        modality("d", [0] * 3, [12, 11, 10]),
    )
    assert [part.name for part in units(data)] == ["a+c", "b+d"]
    table = cycle_rows(data, seed_of)
    assert pairs_hold(data, table, "a", "c")
    assert pairs_hold(data, table, "b", "d")
    assert tuple(table) == ("a", "b", "c", "d")


def test_rows_without_partner_belong_to_no_item():
    data = split(modality("image", [0] * 5, [4, 0, 3, 1, 2]), modality("text", [0] * 4, [9, 2, 4, 1]))
    (group,) = units(data)
    assert group.rows["image"].tolist() == [0, 3, 4]  # ids 4, 1, 2 in the order of the first member
    assert group.rows["text"].tolist() == [2, 3, 1]
    assert left_out(data) == {"image": 2, "text": 1}
    assert left_out(five()) == {}


def test_ids_that_never_meet_make_no_group():
    data = split(modality("image", [0] * 3, [0, 1, 2]), modality("text", [0] * 3, [3, 4, 5]))
    assert [part.name for part in units(data)] == ["image", "text"]


def test_cycle_uses_every_row_and_keeps_pairs_by_id():
    data = five()
    table = cycle_rows(data, seed_of)
    assert {len(rows) for rows in table.values()} == {24}
    assert np.array_equal(table["image"], np.arange(24))
    assert pairs_hold(data, table)
    assert not np.array_equal(table["text"], np.arange(24))  # the files are in different orders
    for name in data.names:
        uses = np.bincount(table[name], minlength=len(data[name]))
        assert uses.min() >= 1
        assert uses.max() - uses.min() <= 1
    again = cycle_rows(data, seed_of)
    other = cycle_rows(data, lambda name: 1)
    assert all(np.array_equal(table[name], again[name]) for name in table)
    assert not np.array_equal(table["audio"], other["audio"])


def test_cycle_when_an_unpaired_modality_is_the_largest():
    data = five((12, 12, 30, 7, 13))
    table = cycle_rows(data, seed_of)
    assert {len(rows) for rows in table.values()} == {30}
    assert np.array_equal(table["image"], np.arange(30) % 12)
    assert pairs_hold(data, table)


def test_all_rules_agree_on_paired_data():
    data = five().restrict(("image", "text"))
    tables = [cycle_rows(data, seed_of), class_rows(data, 5)]
    for table in tables:
        assert np.array_equal(table["image"], np.arange(24))
        assert pairs_hold(data, table)


@given(
    sizes=st.tuples(*[st.integers(4, 40)] * 4),
    seed=st.integers(0, 2**62),
    largest_first=st.booleans(),
)
def test_class_rows_match_classes_and_keep_pairs(sizes, seed, largest_first):
    rng = np.random.default_rng(seed)
    rows = sorted(sizes, reverse=largest_first)
    labels = [rng.permutation(np.arange(n) % CLASSES) for n in rows]
    order = rng.permutation(rows[0])
    data = split(
        modality("image", labels[0], np.arange(rows[0])),
        modality("text", labels[0][order], order),
        *(modality(name, y) for name, y in zip(("audio", "3d", "video"), labels[1:], strict=True)),
    )
    table = class_rows(data, seed)
    assert {len(row) for row in table.values()} == {max(rows)}
    matched = np.stack([data[name].labels[table[name]] for name in data.names])
    assert (matched == matched[0]).all()
    assert pairs_hold(data, table)
    largest = max(data, key=len).name
    assert np.array_equal(np.sort(table[largest]), np.arange(max(rows)))
    for name in data.names:  # rows of one class are used equally often, up to one
        uses = np.bincount(table[name], minlength=len(data[name]))
        spread = [np.ptp(uses[data[name].labels == c]) for c in range(CLASSES)]
        assert max(spread) <= 1


def test_class_rows_depend_on_the_seed_only():
    data = five()
    first, again, other = class_rows(data, 1), class_rows(data, 1), class_rows(data, 2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_class_rows_leave_out_classes_that_a_modality_lacks():
    data = split(modality("image", [0, 1, 2, 3, 0, 1]), modality("audio", [0, 0, 1]))
    table = class_rows(data, 0)
    assert data["image"].labels[table["image"]].tolist() == [0, 1, 0, 1]
    nothing_shared = split(modality("image", [0, 1]), modality("audio", [2]))
    with pytest.raises(DataError, match="no class occurs in all of image, audio"):
        class_rows(nothing_shared, 0)


def test_class_rows_refuse_several_labels_unless_all_rows_are_paired():
    labels = np.eye(3, dtype=np.uint8)
    image = Modality("image", np.zeros((3, 2), np.float32), labels, np.arange(3))
    text = Modality("text", np.zeros((3, 2), np.float32), labels, np.arange(3))
    audio = Modality("audio", np.zeros((3, 2), np.float32), labels)
    with pytest.raises(UnsupportedError, match="one label per item"):
        class_rows(split(image, audio, classes=3, form="multi"), 0)
    assert class_rows(split(image, text, classes=3, form="multi"), 0)["text"].tolist() == [0, 1, 2]


def test_partners_are_found_by_pair_id_wherever_they_stand():
    def shown(*ids):
        return Modality("m", np.zeros((len(ids), 1), np.float32), np.zeros(len(ids), np.int64), np.array(ids))

    first, second = shown(5, 2, 9, 4), shown(4, 7, 5)
    assert partners(first, second).tolist() == [2, -1, -1, 0]
    assert partners(second, first).tolist() == [3, -1, 0]
    alone = Modality("m", first.features, first.labels)
    assert partners(first, alone).tolist() == partners(alone, first).tolist() == [-1] * 4
