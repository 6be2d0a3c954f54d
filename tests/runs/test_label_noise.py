"""Label noise: the counts and classes it promises, who gets it, and that nothing else changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.core.option import declared
from benchmark.errors import BenchmarkError, UnknownNameError, UnsupportedError
from benchmark.records.store import Store
from benchmark.runs.label_noise import class_map, corrupt, corrupt_split
from benchmark.runs.plan import make_plan
from benchmark.runs.prepare import prepare
from benchmark.runs.reporter import Silent
from benchmark.runs.runner import execute, load
from benchmark.runs.spec import RunSpec
from tests.toy import make_data

MODES = declared(RunSpec)["label_noise_mode"].choices
NOISE = {"label_noise": 0.4, "label_noise_seed": 3}


LABELS = {
    "labels": st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array),
    "ratio": st.floats(0, 1),
    "mode": st.sampled_from(MODES),
    "seed": st.integers(0, 2**40),
    "place": st.integers(0, 4),
}


@given(**LABELS)
def test_an_exact_number_is_drawn_and_the_others_stay(labels, ratio, mode, seed, place):
    noisy, selected = corrupt(labels, 5, ratio, mode, seed, place)
    assert selected.sum() == int(ratio * len(labels))
    np.testing.assert_array_equal(noisy[~selected], labels[~selected])
    assert noisy.min() >= 0
    assert noisy.max() < 5
    again, _ = corrupt(labels, 5, ratio, mode, seed, place)
    np.testing.assert_array_equal(noisy, again)
    if mode == "sym_exclusive":
        assert (noisy[selected] != labels[selected]).all()


@given(classes=st.integers(2, 30), seed=st.integers(0, 1000))
def test_the_map_takes_one_half_of_the_classes_onto_the_other(classes, seed):
    target = class_map(classes, seed)
    moved = np.flatnonzero(target != np.arange(classes))
    assert len(moved) == classes // 2
    assert len(set(target[moved])) == classes // 2
    assert not set(target[moved]) & set(moved)


@pytest.mark.parametrize(("mode", "rate"), [("sym", 0.4 * 9 / 10), ("sym_exclusive", 0.4), ("asym", 0.2)])
def test_the_share_of_wrong_labels_is_the_one_the_docstring_says(mode, rate):
    labels = np.arange(20_000) % 10
    noisy, selected = corrupt(labels, 10, 0.4, mode, 1, 0)
    assert (noisy != labels).mean() == pytest.approx(rate, abs=0.01)
    if mode != "asym":  # uniform over the classes it may give
        counts = np.bincount(noisy[selected], minlength=10)
        assert counts.max() / counts.min() < 1.2


def test_modalities_and_seeds_differ_but_share_one_map():
    labels = np.arange(500) % 6
    first, second, other = (corrupt(labels, 6, 0.5, "asym", *which)[0] for which in ((1, 0), (1, 1), (2, 0)))
    assert (first != second).any()
    assert (first != other).any()
    both = (first != labels) & (second != labels)
    np.testing.assert_array_equal(first[both], second[both])


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="unknown mode of label noise 'pair'"):
        corrupt(np.zeros(3, np.int64), 2, 0.5, "pair", 0, 0)


def test_items_with_several_labels_are_refused():
    data = make_data("multi")
    with pytest.raises(UnsupportedError, match="one label per item"):
        corrupt_split(data.train, data.modalities, 0.4, "sym", 0)


def prepared(modalities=("image", "text", "audio"), **facts):
    spec = RunSpec("toy", "blobs", **{"profile": "paper", **NOISE, **facts})
    data, _, plan = load(make_plan(spec), Silent())
    return data, *prepare(data, plan, modalities)


def test_training_labels_only_and_the_same_in_a_restricted_run(world):
    data, train, val, test, arrays = prepared()
    for name in data.modalities:
        clean, noisy = data.train[name].labels, train[name].labels
        selected = arrays[f"label_noise/{name}/selected"]
        np.testing.assert_array_equal(arrays[f"label_noise/{name}/clean"], clean)
        assert selected.sum() == 480
        np.testing.assert_array_equal(noisy[~selected], clean[~selected])
        assert 0.2 < (noisy != clean).mean() < 0.4
        np.testing.assert_array_equal(val[name].labels, data.val[name].labels)
        np.testing.assert_array_equal(test[name].labels, data.test[name].labels)
        np.testing.assert_array_equal(train[name].features, data.train[name].features)
    _, few, *_ = prepared(("text", "audio"))
    for name in ("text", "audio"):
        np.testing.assert_array_equal(few[name].labels, train[name].labels)


def test_a_subsample_is_that_of_the_clean_labels_and_keeps_pairs(world):
    _, noisy, *_, arrays = prepared(profile="quick")
    _, clean, *_, none = prepared(profile="quick", label_noise=0.0)
    whole = prepared()[1]
    assert none == {}
    for m in noisy:
        assert len(m) == 1000
        np.testing.assert_array_equal(m.pair_ids, clean[m.name].pair_ids)
        np.testing.assert_array_equal(arrays[f"label_noise/{m.name}/clean"], clean[m.name].labels)
        np.testing.assert_array_equal(m.labels, whole[m.name].labels[m.pair_ids])  # ids of blobs are rows
        assert arrays[f"label_noise/{m.name}/selected"].shape == (1000,)


def test_a_noisy_run_is_another_run_and_its_record_says_so(world):
    spec = RunSpec("toy", "blobs", seeds=(1,))
    clean = execute(spec, Store()).run.record
    assert "label_noise" not in {**clean.to_json(), **clean.comparability, **clean.options}
    changes = [NOISE, {**NOISE, "label_noise_mode": "asym"}, {**NOISE, "label_noise_seed": 4}]
    runs = [execute(RunSpec("toy", "blobs", seeds=(1,), **change), Store()).run for change in changes]
    assert len({clean.key, *(run.record.key for run in runs)}) == 4
    record = runs[0].record
    noise = {"ratio": 0.4, "mode": "sym", "seed": 3}
    assert record.options == {"label_noise": noise}
    assert record.words == ("40% of the training labels drawn anew (sym, seed 3)",)
    assert record.comparability["label_noise"] == record.to_json()["label_noise"] == noise
    assert runs[0].arrays("label_noise/audio/selected")["label_noise/audio/selected"].dtype == bool
    off = RunSpec("toy", "blobs", seeds=(1,), label_noise_mode="asym", label_noise_seed=9)
    assert execute(off, Store()).cached
    assert make_plan(spec).training_data() != make_plan(RunSpec("toy", "blobs", **NOISE)).training_data()


@pytest.mark.parametrize(
    ("facts", "error", "part"),
    [
        ({"label_noise": 1.5}, BenchmarkError, "share from 0 to 1"),
        ({"label_noise": float("nan")}, BenchmarkError, "share from 0 to 1"),
        ({"label_noise_mode": "asim"}, UnknownNameError, "did you mean 'asym'"),
        ({"label_noise_seed": -1}, BenchmarkError, "0 or greater"),
    ],
)
def test_impossible_noise_is_refused_in_one_line(facts, error, part):
    with pytest.raises(error, match=part):
        RunSpec("toy", "blobs", **facts)


def test_the_command_line(world, capsys):
    options = ("--label-noise", "0.4", "--label-noise-mode", "sym_exclusive", "--label-noise-seed", "2")
    noise = {"ratio": 0.4, "mode": "sym_exclusive", "seed": 2}
    run = ("run", "--method", "toy", "--dataset", "blobs", *options)
    assert world.json(capsys, *run, "--dry-run")["label_noise"] == noise
    assert world.json(capsys, *run)["label_noise"] == noise
    code, out, _ = world.call(capsys, *run)
    assert code == 0
    assert "40% of the training labels drawn anew (sym_exclusive, seed 2)" in out
    assert "0.4 sym_exclusive seed 2" in " ".join(world.call(capsys, "results")[1].split())
    assert world.json(capsys, "show-config", "toy", "blobs", *options)["label_noise"] == noise
