"""CMCP against reference vectors computed from its formulas with full inverses."""

import numpy as np
import pytest
import torch
from benchmark.methods.cmcp import (
    CMCPRetriever,
    class_correlation,
    neighbours,
    normalised_graph,
    propagate,
    znorm,
)

from benchmark.evaluation.metrics import evaluate_one
from tests.methods.data import published
from tests.parity.golden import vectors

GOLDEN, golden, _ = vectors("cmcp")
CASES = ("c1", "c2", "c3")
CLOSE = {"rtol": 1e-10, "atol": 1e-14}


def rows(case, side, part):
    own = f"in_{case}_{side}_{part}"
    return torch.from_numpy(GOLDEN[own if own in GOLDEN else f"in_{side}_{part}"]).double()


def one_hot(side):
    return torch.eye(3, dtype=torch.float64)[torch.from_numpy(GOLDEN[f"in_labels_{side}_train"])]


def config(case):
    assert GOLDEN[f"par_{case}_beta"] == 1
    alpha, k = GOLDEN[f"par_{case}_alpha"], GOLDEN[f"par_{case}_k"]
    return published("cmcp", alpha=float(alpha), k=int(k), tolerance=1e-15)


@pytest.mark.parametrize(("a", "b"), ["AB", "BA"])
def test_signed_matrix(a, b):
    whole = one_hot(a) @ class_correlation(one_hot(a).sum(0)) @ one_hot(b).T
    np.testing.assert_allclose(whole, GOLDEN[f"out_L_{a}{b}"], **CLOSE)


def test_two_passes_with_a_constant_column():
    train = rows("c3", "A", "train")
    got = znorm(torch.cat([train, rows("c3", "A", "test")]), len(train), "as_published")
    np.testing.assert_allclose(got[: len(train)], GOLDEN["out_c3_zA_train"], **CLOSE)
    np.testing.assert_allclose(got[len(train) :], GOLDEN["out_c3_zA_test"], **CLOSE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize(("constants", "self_match"), [("drop", "row"), ("as_published", "first")])
def test_graph_and_propagation(case, side, constants, self_match):
    values, train = config(case), rows(case, side, "train")
    x = znorm(torch.cat([train, rows(case, side, "test")]), len(train), constants)
    graph, clipped = normalised_graph(*(part.numpy() for part in neighbours(x, values.k, self_match)))
    assert clipped == 0
    np.testing.assert_allclose(graph.toarray(), GOLDEN[f"out_{case}_S_{side}"], **CLOSE)
    start = np.zeros((len(x), 3))
    start[: len(train)] = one_hot(side)
    spread, _ = propagate(graph, start, values.alpha, values.tolerance)
    np.testing.assert_allclose(spread, GOLDEN[f"out_{case}_G_{side}"], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("a", "b"), ["AB", "BA"])
def test_scores_and_their_map(case, a, b):
    model = CMCPRetriever(config(case), {s: (rows(case, s, "train"), one_hot(s)) for s in "AB"}, {})
    expected = GOLDEN[f"out_{case}_R_{a}{b}"]
    spread = {s: model.spread(s, rows(case, s, "test")) for s in "AB"}
    scores = spread[a] @ class_correlation(one_hot(a).sum(0)) @ spread[b].T
    np.testing.assert_allclose(scores, expected, rtol=1e-10, atol=1e-12 * np.abs(expected).max())
    scaled = model.similarity(a, rows(case, a, "test"), b, rows(case, b, "test"))
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled, expected / np.abs(expected).max(), rtol=1e-6, atol=1e-7)
    y = {s: torch.from_numpy(GOLDEN[f"in_labels_{s}_test"]) for s in "AB"}
    found = evaluate_one(None, y[a], None, y[b], similarity=scaled, metrics=("map@all",))
    assert found.mean("map@all") == pytest.approx(float(GOLDEN[f"out_{case}_map_{a}{b}"]), abs=1e-6)


def test_every_stored_output_is_compared():
    compared = {"out_L_AB", "out_L_BA", "out_c3_zA_train", "out_c3_zA_test"}
    for case in CASES:
        compared |= {f"out_{case}_{x}_{s}" for x in "SG" for s in "AB"}
        compared |= {f"out_{case}_{x}_{direction}" for x in ("R", "map") for direction in ("AB", "BA")}
    assert {name for name in GOLDEN if name.startswith("out_")} == compared
