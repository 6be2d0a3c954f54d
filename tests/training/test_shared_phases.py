"""Phases that several runs share: trained once, and a run that finds one gives the very same bits."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.layers import UnitMLP
from benchmark.methods.blocks.prior import spl_phase

from benchmark.core.data import Modality, Split
from benchmark.core.method import FitLog, RunContext
from benchmark.errors import RecipeError
from benchmark.records.store import Store
from benchmark.runs.plan import by_content
from benchmark.training import RowSampler, train_phase
from benchmark.training.checkpoint import shared_name
from tests.methods.data import build
from tests.training.test_training import small_phase


def make_split(name, seed):
    draw, centres = np.random.default_rng(seed), np.random.default_rng(9).normal(size=(3, 6))
    labels = np.arange(24) % 3
    x = {m: (centres[labels] + draw.normal(size=(24, 6))).astype(np.float32) for m in ("image", "text")}
    return Split(name, {m: Modality(m, rows, labels) for m, rows in x.items()}, 3, "single")


TRAIN, VAL = make_split("train", 0), make_split("val", 1)


def fit(shared, seeds=(1,), **values):
    run, log = RunContext(seeds, replicas="alone", shared=shared), FitLog()
    models = build("drcl", **values).fit(TRAIN, VAL, run, log)
    return [
        torch.cat([m.embed(n, torch.as_tensor(TRAIN[n].features)) for n in TRAIN.names]) for m in models
    ], log


def files(folder):
    return sorted(file.name for file in folder.glob("*"))


def test_a_run_that_finds_phases_gives_the_same_bits(tmp_path):
    fit(tmp_path)
    kept = files(tmp_path)
    assert len(kept) == 2  # SPL of both modalities; RSC is not shared
    found, log = fit(tmp_path, alpha=0.7)
    alone, plain = fit(None, alpha=0.7)
    assert log.notes["shared_phases_found"] == {"spl/image": [1], "spl/text": [1]}
    assert torch.equal(found[0], alone[0])
    assert log.history == plain.history
    assert np.array_equal(log.arrays["prior"], plain.arrays["prior"])
    assert files(tmp_path) == kept


def test_seeds_are_found_one_by_one(tmp_path):
    fit(tmp_path, seeds=(2,))
    found, log = fit(tmp_path, seeds=(1, 2, 3))
    alone, plain = fit(None, seeds=(1, 2, 3))
    assert log.notes["shared_phases_found"]["spl/text"] == [2]
    assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))
    assert log.history == plain.history
    assert len(files(tmp_path)) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"lr_spl": 1e-3},
        {"epochs": 5},
        {"q_step": 0.2},
        {"batch": 12},
        {"dim": 17},
        {"prior_seed": 3},
        {"spl_q0": "ce"},
        {"spl_snapshot": "best"},
    ],
)
def test_what_determines_a_phase_tells_it_apart(tmp_path, change):
    fit(tmp_path)
    _, log = fit(tmp_path, **change)
    assert log.notes["shared_phases_found"] == {"spl/image": [], "spl/text": []}


@pytest.mark.parametrize("change", [{"eta": 0.0}, {"recast": "transpose"}, {"mix": 1.0}, {"q_fixed": 2.0}])
def test_what_concerns_the_second_stage_only_does_not(tmp_path, change):
    fit(tmp_path)
    _, log = fit(tmp_path, **change)
    assert log.notes["shared_phases_found"] == {"spl/image": [1], "spl/text": [1]}


def test_a_phase_is_shared_only_if_it_says_so(tmp_path):
    run = RunContext((1, 2), replicas="alone", shared=tmp_path)
    train_phase(*small_phase(run), run, FitLog())
    assert files(tmp_path) == []
    phase, params = small_phase(run)
    train_phase(replace(phase, shared="small"), params, run, FitLog())
    assert len(files(tmp_path)) == 2


def test_initial_values_are_part_of_the_name():
    weights = {"w": torch.ones(3)}
    assert shared_name("t", 1, weights) == shared_name("t", 1, {"w": torch.ones(3)})
    others = [
        ("u", 1, weights),
        ("t", 2, weights),
        ("t", 1, {"w": torch.zeros(3)}),
        ("t", 1, {"v": torch.ones(3)}),
    ]
    assert len({shared_name(*other) for other in [("t", 1, weights), *others]}) == 5


def test_the_folder_of_shared_phases_is_not_a_run(tmp_path):
    store = Store(tmp_path)
    folder = store.shared("some data")
    folder.mkdir(parents=True)
    assert store.all() == ([], [])
    assert folder != store.shared("other data")


def test_a_file_is_known_by_its_content(tmp_path):
    a, b = tmp_path / "a.mat", tmp_path / "b.mat"
    a.write_bytes(b"one")
    b.write_bytes(b"one")
    assert by_content(f"file:{a}") == by_content(f"file:{b}")
    b.write_bytes(b"two")
    assert by_content(f"file:{a}") != by_content(f"file:{b}")
    assert by_content("selected") == "selected"
    with pytest.raises(RecipeError, match="not a regular file"):
        by_content("file:/dev/zero")  # has no end
    assert by_content(3) == 3
    with pytest.raises(RecipeError, match="No such file"):
        by_content(f"file:{tmp_path / 'none.mat'}")


def test_another_host_of_the_prior_finds_it(tmp_path):
    """SDML on a prior learned as DRCL learns it, at the same width."""
    _, log = fit(tmp_path)
    run, other = RunContext((1,), replicas="alone", shared=tmp_path), FitLog()
    host = build("sdml", prior="selected", prior_scale="none", spl=asdict(build("drcl").spl()))
    host.fit(TRAIN, VAL, run, other)
    assert other.notes["shared_phases_found"] == {"spl/image": [1], "spl/text": [1]}
    assert np.array_equal(other.arrays["prior"], log.arrays["prior"])


def test_spl_names_every_hyper_parameter_in_its_phase():
    spl = build("drcl").spl()
    rows = torch.zeros(1, 3)
    phase = spl_phase(spl, UnitMLP(3, (4,), 2), RowSampler(rows, rows, 1), "spl/x")
    assert all(f'"{name}"' in phase.shared for name in asdict(spl))
