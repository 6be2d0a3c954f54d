"""MCCA against reference vectors computed from the definition with a dense generalised eigensolver."""

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.multiset import Problem, couple_joint, principal_axes
from benchmark.methods.mcca import LinearRetriever

from tests.parity.golden import vectors

VECTORS, *_ = vectors("mcca")
TOLERANCE = {"rtol": 1e-8, "atol": 1e-8}


def fit(modalities, table, kappa):
    """Eigenvalues, directions and means of the modalities on the joint rows of an index table."""
    axes, rows, counts = [], [], []
    for number, column in zip(modalities, table, strict=True):
        used, position, uses = np.unique(column, return_inverse=True, return_counts=True)
        features = torch.from_numpy(VECTORS[f"in_train{number}"][used])
        axes.append(principal_axes(features, torch.from_numpy(uses)))
        rows.append(torch.from_numpy(position))
        counts.append(torch.from_numpy(uses))
    values, parts = Problem(axes, couple_joint(rows, counts)).solve(kappa, int(VECTORS["par_k"]))
    return values, parts, [one.mean for one in axes]


@pytest.mark.parametrize(("suffix", "kappa"), [("k0", 0.0), ("k0p1", 0.1), ("k1", 1.0)])
def test_three_modalities(suffix, kappa):
    values, parts, means = fit(range(3), [np.arange(60)] * 3, kappa)
    np.testing.assert_allclose(values, VECTORS[f"out_eigvals_{suffix}"], **TOLERANCE)
    for number, part in enumerate(parts):
        np.testing.assert_allclose(part, VECTORS[f"out_W{number}_{suffix}"], **TOLERANCE)
        model = LinearRetriever({"m": (means[number], part)})
        embedded = model.embed("m", torch.from_numpy(VECTORS[f"in_test{number}"]))
        np.testing.assert_allclose(embedded, VECTORS[f"out_test{number}_{suffix}"], **TOLERANCE)


def test_two_modalities_are_canonical_correlations():
    values, _, _ = fit(range(2), [np.arange(60)] * 2, 0.0)
    np.testing.assert_allclose(values, VECTORS["out_eigvals_two_sets"], **TOLERANCE)
    np.testing.assert_allclose(values, VECTORS["out_canonical_correlations"], **TOLERANCE)


def test_repeated_rows():
    values, parts, _ = fit(range(3), VECTORS["in_cycle_rows"], 0.1)
    np.testing.assert_allclose(values, VECTORS["out_eigvals_cycle"], **TOLERANCE)
    for number, part in enumerate(parts):
        np.testing.assert_allclose(part, VECTORS[f"out_W{number}_cycle"], **TOLERANCE)


def test_every_stored_output_is_compared():
    compared = {"out_eigvals_two_sets", "out_canonical_correlations", "out_eigvals_cycle"}
    compared |= {f"out_W{v}_cycle" for v in range(3)}
    for suffix in ("k0", "k0p1", "k1"):
        compared |= {f"out_eigvals_{suffix}"} | {
            f"out_{x}{v}_{suffix}" for x in ("W", "test") for v in range(3)
        }
    assert {name for name in VECTORS if name.startswith("out_")} == compared
