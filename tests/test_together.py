"""Runs that differ in a number per replica: one fit gives the records of single runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.errors import TrainingError
from benchmark.method import Run
from benchmark.plan import RunSpec
from benchmark.runner import execute
from benchmark.store import Store
from benchmark.together import execute_together, groups
from methods.drcl import DRCL

SMALL = ("hidden=[8]", "dim=40", "epochs=3", "subsample={train=60, val=30}", "q_step=0.5")


def spec(*changes, **options):
    options = {"seeds": (1, 2), "precision": "fp64", "modalities": ("image", "text"), **options}
    return RunSpec("drcl", "emoji", profile="quick", device="cpu", overrides=(*SMALL, *changes), **options)


SPECS = [spec(), spec("alpha=0.7"), spec("eta=0"), spec("beta=0", "alpha=3")]


@pytest.fixture
def stores(tmp_path):
    return Store(tmp_path / "single"), Store(tmp_path / "together")


@pytest.mark.parametrize("replicas", ["together", "alone"])
def test_one_fit_gives_the_records_of_single_runs(stores, replicas):
    single, together = stores
    specs = [replace(one, replicas=replicas) for one in SPECS]
    alone = [execute(one, single) for one in specs]
    [group] = groups(specs, together)
    assert len(group) == 4
    grouped = execute_together(group, together)
    for a, b in zip(alone, grouped, strict=True):
        one, other = a.run.record, b.run.record
        for name in ("key", "recipe", "config", "seeds", "rows", "sizes", "chance"):
            assert one[name] == other[name]
        same_numbers(one["results"], other["results"])
        same_numbers(one["history"], other["history"])
        same_numbers(one["notes"]["prior"]["score"], other["notes"]["prior"]["score"])
        assert one["notes"]["prior"]["selected"] == other["notes"]["prior"]["selected"]
        first, second = a.run.arrays(), b.run.arrays()
        assert set(first) == set(second)
        np.testing.assert_allclose(first["method/prior"], second["method/prior"], rtol=1e-9)
        if replicas == "alone":  # then the bits are the same
            assert one["results"] == other["results"]
            assert one["history"] == other["history"]
            for name, values in first.items():
                np.testing.assert_array_equal(values, second[name])
        assert set(one) ^ set(other) == {"trained_with"}
    assert not any(together.root.joinpath(".partial").iterdir())
    averages = [tuple(each.run.record["averages"]["map@all"]) for each in grouped]
    assert len(set(averages)) == 4  # the changes do something


def same_numbers(a, b):
    if isinstance(a, dict):
        assert set(a) == set(b)
        for name in a:
            same_numbers(a[name], b[name])
    else:
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=1e-7, atol=1e-10)


def test_a_single_run_finds_what_was_trained_in_company(stores):
    store = stores[1]
    execute_together(SPECS[:2], store)
    assert execute(SPECS[1], store).cached
    assert groups(SPECS[:3], store) == []  # one run is left, and that is no group
    assert [len(group) for group in groups(SPECS[:3], store, force=True)] == [3]
    again = execute_together(SPECS[:3], store)
    assert [each.cached for each in again] == [True, True, False]


def test_only_runs_that_differ_in_nothing_else_train_together(stores):
    others = [
        spec("mix=1"), spec("q_fixed=1"), spec("prior=orthogonal"), spec(seeds=(3,)),
        spec(scaling="standardize"),
        spec(precision="fp32"), spec(modalities=("image", "audio")),
    ]  # fmt: skip
    assert groups([spec(), *others], stores[0]) == []
    assert [len(group) for group in groups([spec(), spec("alpha=0.1"), spec("alpha=1")], stores[0])] == [2]


def test_a_method_that_takes_nothing_per_replica_trains_alone(stores, monkeypatch):
    monkeypatch.setattr(DRCL, "per_replica", ())
    assert groups(SPECS, stores[0]) == []


def test_an_interrupted_group_repeats_no_phase(stores):
    class Stop(Exception):  # noqa: N818 - stands for an interruption
        pass

    class Reporter:
        def __init__(self, until):
            self.phases, self.until = [], until

        def say(self, text):
            pass

        warn = say

        def epoch(self, phase, epoch, epochs, numbers):
            if phase == self.until:
                raise Stop
            self.phases.append(phase)

    broken, whole = Reporter("rsc/text"), Reporter("")
    with pytest.raises(Stop):
        execute_together(SPECS[:2], stores[0], broken)
    assert stores[0].all() == ([], [])
    execute_together(SPECS[:2], stores[0], whole)
    assert set(broken.phases) == {"spl/image", "spl/text", "rsc/image"}
    assert set(whole.phases) == {"rsc/text"}
    assert len(stores[0].all()[0]) == 2


def test_a_failing_run_is_named_by_its_own_numbers(stores):
    with pytest.raises(TrainingError, match="alpha=1e\\+308"):
        execute_together([spec(), spec("alpha=1e308", "beta=1e308")], stores[0])


def test_values_per_replica():
    run = Run((1, 1), variants=({"alpha": 0.5}, {}))
    assert torch.equal(run.per_replica("alpha", 0.25), torch.tensor([0.5, 0.25]))
    assert torch.equal(Run((1, 2)).per_replica("alpha", 0.25), torch.tensor([0.25, 0.25]))
    assert [run.member(r) for r in (0, 1)] == ["1 alpha=0.5", "1"]
