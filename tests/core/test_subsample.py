"""Scaling with training statistics, and class-balanced subsamples that keep pairs together."""

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmark.core.data import Modality, Split
from benchmark.core.subsample import subsample
from benchmark.runs.prepare import standardize
from tests.toy import CLASSES, edit, edited, make_data, modality

# --- standardize


def test_standardize_uses_training_statistics_only():
    data = make_data()
    scaled = standardize(data)
    for name in data.modalities:
        train = data.train[name].features.astype(np.float64)
        for before, after in zip(data.splits, scaled.splits, strict=True):
            expected = (before[name].features - train.mean(axis=0)) / train.std(axis=0)
            np.testing.assert_allclose(after[name].features, expected, rtol=1e-5, atol=1e-6)
            assert after[name].features.dtype == np.float32
    assert np.abs(scaled.test["image"].features.mean(axis=0)).max() > 1e-3


@given(value=st.floats(-1e6, 1e6, width=32), exponent=st.integers(-6, 6))
def test_standardize_sends_constant_columns_to_zero_and_forgets_scale(value, exponent):
    data = make_data()
    features = edited(data.train["image"].features * np.float32(10.0**exponent), (slice(None), 0), value)
    scaled = standardize(edit(data, "train/image", features=features)).train["image"].features
    assert (scaled[:, 0] == 0).all()
    np.testing.assert_allclose(scaled[:, 1:].std(axis=0), 1, rtol=1e-4)


def test_standardized_data_keep_the_fingerprint_of_what_was_scaled():
    """The scaling is recorded beside the fingerprint; a float32 rounding must not change the identity."""
    data = make_data()
    assert standardize(data).fingerprint() == data.fingerprint()
    assert standardize(
        edit(data, "test/text", labels=edited(data.test["text"].labels, 0, 1))
    ).fingerprint() != (data.fingerprint())


# --- subsample


@st.composite
def labelled(draw):
    """A paired image/text split with uneven classes, plus how many rows to keep."""
    labels = np.array(draw(st.lists(st.integers(0, 4), min_size=2, max_size=40)))
    order = np.array(draw(st.permutations(range(len(labels)))))
    features = np.arange(len(labels), dtype=np.float32)[:, None]
    split = Split(
        "train",
        {
            "image": Modality("image", features, labels, np.arange(len(labels))),
            "text": Modality("text", features[order], labels[order], order),
        },
        5,
    )
    return split, draw(st.integers(1, 45)), draw(st.integers(0, 3))


@given(case=labelled())
def test_subsample_keeps_every_class_balanced_in_order_and_paired(case):
    split, rows, seed = case
    kept = subsample(split, rows, seed)
    for before, after in zip(split, kept, strict=True):
        have, left = Counter(before.labels.tolist()), Counter(after.labels.tolist())
        assert set(left) == set(have)
        assert len(after) == min(len(before), max(rows, len(have)))
        most = max(left.values())
        assert all(left[c] >= min(have[c], most - 1) for c in have)
        positions = [before.pair_ids.tolist().index(i) for i in after.pair_ids]
        assert positions == sorted(positions)
        assert (after.features == before.features[positions]).all()
    assert set(kept["image"].pair_ids) == set(kept["text"].pair_ids)
    again = subsample(split, rows, seed)
    assert all((a.pair_ids == b.pair_ids).all() for a, b in zip(kept, again, strict=True))


def test_subsample_draws_other_rows_for_another_seed():
    split = Split("train", {"image": modality("image", 60)}, CLASSES)
    draws = {tuple(subsample(split, 12, seed)["image"].pair_ids) for seed in range(5)}
    assert len(draws) == 5


def test_subsample_serves_unpaired_and_multi_hot_modalities():
    split = Split("train", {"image": modality("image", 60, paired=False, form="multi")}, CLASSES, "multi")
    kept = subsample(split, 12)["image"]
    assert len(kept) == 12
    assert kept.pair_ids is None
    assert (kept.labels.sum(axis=0) > 0).all()


def test_subsample_takes_pair_ids_of_any_size_and_sign():
    """Published ids are file numbers, not positions."""
    ids = np.arange(30) * 10**15 - 10**16
    split = Split(
        "train",
        {
            "image": replace(modality("image", 30), pair_ids=ids),
            "text": replace(
                modality("text", 30), pair_ids=ids[::-1].copy(), labels=(np.arange(30) % 3)[::-1].copy()
            ),
        },
        CLASSES,
    )
    kept = subsample(split, 9)
    assert len(kept["image"]) == 9
    assert set(kept["image"].pair_ids) == set(kept["text"].pair_ids)


def test_subsample_returns_small_modalities_as_they_are():
    split = make_data().train
    assert subsample(split, 9)["image"] is split["image"]
