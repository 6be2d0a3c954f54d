"""Runs whose numbers mean different things are told apart, and by what."""

from itertools import permutations

import pytest

from benchmark.errors import BenchmarkError
from benchmark.records.comparable import (
    FOLDS,
    IncomparableError,
    changes,
    common_words,
    comparable,
    difference,
)
from tests.stored import make_record as record

NOISE = {"ratio": 0.2, "mode": "sym", "seed": 3}
THREE = {f"{a}->{b}": [0.5, 0.4] for a, b in permutations(("image", "text", "audio"), 2)}
DIFFERENT = {
    "dataset": {"dataset__id": "balls"},
    "source": {"dataset__source": "standin"},
    "profile": {"profile": "quick"},
    "split": {"dataset__split": "odd"},
    "modalities": {"results": {"map@all": THREE, "map@50": THREE}},
    "fingerprint": {"comparability__fingerprint": "e" * 64, "dataset__fingerprint": "e" * 64},
    "metric_version": {"comparability__metric_version": 2},
    "leave_own_out": {"comparability__leave_own_out": True},
    "label_noise": {"comparability__label_noise": NOISE},
}


@pytest.mark.parametrize("field", DIFFERENT)
def test_the_field_that_differs_is_named(field):
    other = record("b", **DIFFERENT[field])
    with pytest.raises(IncomparableError) as caught:
        comparable([record(), record(), other])
    line = str(caught.value)
    assert f"differ in {field} (" in line
    assert f"{record().name} (toy on blobs)" in line
    assert other.name in line
    assert "\n" not in line
    assert difference(record(), other, FOLDS) == ("" if field in FOLDS else field)


def test_what_does_not_touch_the_measure_may_differ():
    common = comparable(
        [
            record(),
            record(method="other", seeds=[4, 5], options={"precision": "tf32", "pairwise": True}),
            record(recipe__ridge__value=3.0),
            record(dataset__split="even"),  # the default by its name
        ]
    )
    assert (common["split"], common["fingerprint"]) == ("even", record().dataset.fingerprint)
    assert not {"method", "recipe", "seeds", "precision", "pairwise"} & set(common)


def test_nothing_is_not_comparable():
    with pytest.raises(BenchmarkError, match="no runs"):
        comparable([])


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ""),
        ({"recipe__ridge__origin": "--set"}, "ridge=2.0"),
        ({"dataset__split": "even"}, ""),
        ({"dataset__split": "odd"}, "split odd"),
        ({"dataset__modalities": ["image", "text", "audio"]}, "image+text"),
        ({"options": {"leave_own_out": True, "scaling": "standardize"}}, "leave-own-out standardize"),
        ({"options": {"label_noise": NOISE}}, "label-noise ratio 0.2 sym seed 3"),
        ({"options": {"folds": 3, "parts": ["a", "b"]}}, "folds 3 parts a+b"),
    ],
)
def test_what_sets_a_run_apart_is_said_in_short(facts, words):
    assert changes(record(**facts)) == words


def test_captions_say_what_all_runs_have_in_common():
    runs = [record(words=["a", "b", "c"]), record(words=["c", "a"])]
    assert common_words(runs) == ["a", "c"]
    assert common_words([]) == []
