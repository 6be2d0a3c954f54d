"""Runs whose numbers mean different things are told apart, and by what."""

import copy

import pytest

from benchmark.errors import BenchmarkError
from benchmark.records.comparable import BLOCK, IncomparableError, comparable


def record(**changes):
    made = {
        "key": "ab" * 32,
        "method": {"id": "toy"},
        "dataset": {"id": "blobs", "source": "official", "split": "", "splits": ["even", "odd"]},
        "profile": "paper",
        "modalities": ["image", "text"],
        "comparability": {"fingerprint": "f" * 64, "metric_version": 1, "schema": 1},
    }
    made = copy.deepcopy(made)
    for path, value in changes.items():
        *folders, name = path.split("__")
        place = made
        for folder in folders:
            place = place[folder]
        place[name] = value
    return made


DIFFERENT = {
    "dataset": {"dataset__id": "balls"},
    "source": {"dataset__source": "standin"},
    "profile": {"profile": "quick"},
    "split": {"dataset__split": "odd"},
    "modalities": {"modalities": ["image"]},
    "fingerprint": {"comparability__fingerprint": "e" * 64},
    "metric_version": {"comparability__metric_version": 2},
    "schema": {"comparability__schema": 2},
    "leave_own_out": {"comparability__leave_own_out": True},
    "label_noise": {"comparability__label_noise": {"ratio": 0.2, "mode": "sym", "seed": 0}},
}


@pytest.mark.parametrize("field", DIFFERENT)
def test_the_field_that_differs_is_named(field):
    other = record(key="cd" * 32, **DIFFERENT[field])
    with pytest.raises(IncomparableError) as caught:
        comparable([record(), record(), other])
    line = str(caught.value)
    assert f"differ in {field} (" in line
    assert "abababababababab (toy on blobs)" in line
    assert "cdcdcdcdcdcdcdcd" in line
    assert "\n" not in line
    if field in BLOCK:
        assert field not in comparable([record(), other], ignore=BLOCK)
    else:
        with pytest.raises(IncomparableError, match=field):
            comparable([record(), other], ignore=BLOCK)


def test_what_does_not_touch_the_measure_may_differ():
    common = comparable(
        [
            record(),
            record(method__id="other", seeds=[1, 2, 3], precision="tf32", comparability__protocol="paired"),
            record(dataset__split="even"),  # the default by its name
            record(comparability__protocol="paired-free"),  # written by earlier versions
        ]
    )
    assert (common["split"], common["leave_own_out"], common["label_noise"]) == ("even", False, {})
    assert "protocol" not in common


def test_nothing_is_not_comparable():
    with pytest.raises(BenchmarkError, match="no runs"):
        comparable([])
