"""MMSAE against reference vectors computed from its formulas with a general Sylvester solver."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.multiset import principal_basis
from benchmark.methods.mmsae import MMSAE, MMSAEConfig, Preparation, View, alternate, semantic_codes

from benchmark.core.method import FitLog, RunContext
from benchmark.evaluation.metrics import evaluate_one
from tests.parity.golden import numbers, paired, vectors

GOLDEN, golden, _ = vectors("mmsae")
CASES = ("c1", "c2", "c3")
NAMES = {"A": "image", "B": "text"}
CLOSE = {"rtol": 1e-8, "atol": 1e-9}


def features(side, part):
    return torch.from_numpy(GOLDEN[f"in_{side}_{part}"]).double()


def basis(side):
    x = Preparation.of(features(side, "train"), "none")(features(side, "train"))
    return principal_basis(x, float(GOLDEN["par_pca_ratio"]))


def config(case):
    whole = {ours: int(GOLDEN[f"par_{case}_{name}"]) for ours, name in {"h": "h", "passes": "iters"}.items()}
    weights = numbers(GOLDEN, "alpha", "beta", prefix=f"par_{case}_")
    return MMSAEConfig(prepare="none", **numbers(GOLDEN, "ridge", energy="pca_ratio"), **weights, **whole)


def views():
    return [View.of(features(side, "train") @ basis(side)) for side in "AB"]


def codes(case):
    y = torch.eye(4, dtype=torch.float64)[torch.from_numpy(GOLDEN["in_labels_train"])]
    return semantic_codes(views(), y, config(case).h, config(case).ridge)


def split(part):
    features = {name: GOLDEN[f"in_{side}_{part}"] for side, name in NAMES.items()}
    return paired(GOLDEN[f"in_labels_{part}"], 4, **features)


@pytest.mark.parametrize("side", ["A", "B"])
def test_principal_axes(side):
    got = basis(side)
    assert got.shape[1] == GOLDEN[f"out_pca_dim_{side}"]
    np.testing.assert_allclose(got @ got.T, GOLDEN[f"out_pca_projector_{side}"], **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_first_stage(case):
    semantic, spectrum = codes(case)
    np.testing.assert_allclose(spectrum, GOLDEN[f"out_{case}_code_spectrum"], **CLOSE)
    np.testing.assert_allclose(semantic @ semantic.T, GOLDEN[f"out_{case}_code_gram"], **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_second_stage(case):
    _, u, trace = alternate(views(), codes(case)[0], config(case))
    np.testing.assert_allclose(trace, GOLDEN[f"out_{case}_objective_trace"], **CLOSE)
    np.testing.assert_allclose(u @ u.T, GOLDEN[f"out_{case}_U_gram"], **CLOSE)


def test_second_stage_alone():
    parts = [View.of(torch.from_numpy(GOLDEN[f"in_s2_{m}"]).double().T) for m in "VT"]
    semantic = torch.from_numpy(GOLDEN["in_s2_S"]).double().T
    names = {"alpha": "alpha", "beta": "beta", "passes": "iters"}
    weights = replace(config("c1"), **{ours: GOLDEN[f"par_s2_{n}"].item() for ours, n in names.items()})
    np.testing.assert_allclose(parts[0].encoder(semantic, weights.alpha), GOLDEN["out_s2_first_P_V"], **CLOSE)
    encoders, u, trace = alternate(parts, semantic, weights)
    np.testing.assert_allclose(encoders[0], GOLDEN["out_s2_P_V"], **CLOSE)
    np.testing.assert_allclose(encoders[1], GOLDEN["out_s2_P_T"], **CLOSE)
    np.testing.assert_allclose(u.T, GOLDEN["out_s2_U"], **CLOSE)
    np.testing.assert_allclose(trace, GOLDEN["out_s2_objective_trace"], **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_the_method_from_features_to_map(case):
    log = FitLog()
    (model,) = MMSAE(config(case)).fit(split("train"), split("test"), RunContext(), log)
    trace = log.notes["fits"][0]["objective"]
    np.testing.assert_allclose(trace, GOLDEN[f"out_{case}_objective_trace"], **CLOSE)
    x = {side: features(side, "test") for side in "AB"}
    y = torch.from_numpy(GOLDEN["in_labels_test"])
    forth = model.similarity("image", x["A"], "text", x["B"])
    np.testing.assert_allclose(forth, GOLDEN[f"out_{case}_similarity"], **CLOSE)
    back = model.similarity("text", x["B"], "image", x["A"])
    for scores, direction in ((forth, "AB"), (back, "BA")):
        found = evaluate_one(None, y, None, y, similarity=scores, metrics=("map@all",))
        assert found.mean("map@all") == pytest.approx(float(GOLDEN[f"out_{case}_map_{direction}"]), abs=1e-6)


def test_every_stored_output_is_compared():
    compared = {f"out_pca_{x}_{side}" for x in ("dim", "projector") for side in "AB"}
    compared |= {f"out_s2_{x}" for x in ("first_P_V", "P_V", "P_T", "U", "objective_trace")}
    each = ("code_spectrum", "code_gram", "objective_trace", "U_gram", "similarity", "map_AB", "map_BA")
    compared |= {f"out_{case}_{x}" for case in CASES for x in each}
    assert {name for name in GOLDEN if name.startswith("out_")} == compared
