"""Average ranks against the worked example of Demšar (2006), scipy, and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from benchmark.errors import BenchmarkError
from benchmark.stats.ranks import block_ranks, critical_difference, friedman, joined, rank_methods

# Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006), Table 6: AUC of four
# variants of C4.5 on 14 data sets. "voting" is printed 0.975 twice but ranked 2 and 3; a digit makes it so.
METHODS = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
AUC = np.array(
    [
        (0.763, 0.768, 0.771, 0.798),
        (0.599, 0.591, 0.590, 0.569),
        (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657),
        (0.882, 0.888, 0.886, 0.898),
        (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685),
        (0.583, 0.583, 0.563, 0.625),
        (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000),
        (0.940, 0.962, 0.965, 0.962),
        (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.9751, 0.975),
        (0.957, 0.978, 0.946, 0.970),
    ]
)


def test_the_worked_example():
    found = rank_methods(METHODS, AUC)
    assert found.methods == ("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")
    assert found.average == pytest.approx((1.964, 2.000, 2.893, 3.143), abs=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert critical_difference(4, 14, 0.10) == pytest.approx(1.12, abs=5e-3)
    # the paper's chi square, 9.28, is not corrected for ties: three pairs and one block of four here
    ties = 3 * (2**3 - 2) + (4**3 - 4)
    uncorrected = found.statistic * (1 - ties / (14 * (4**3 - 4)))
    assert uncorrected == pytest.approx(9.28, abs=5e-3)
    assert found.p < 0.05
    # at 0.05 no two differ by 1.25; at 0.10 the paper finds C4.5 worse than both with m
    assert found.groups == (found.methods,)
    assert rank_methods(METHODS, AUC, alpha=0.10).groups == (found.methods[:3], found.methods[2:])


@pytest.mark.parametrize(
    ("methods", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)]
)
def test_critical_values_of_the_table(methods, quantile):
    scale = np.sqrt(methods * (methods + 1) / (6 * 20))
    assert critical_difference(methods, 20) / scale == pytest.approx(quantile, abs=2e-3)


def test_the_critical_value_is_a_quantile_of_the_range_of_normals():
    range_ = np.ptp(np.random.default_rng(0).normal(size=(200_000, 6)), axis=1)
    scale = np.sqrt(6 * 7 / (6 * 11)) / np.sqrt(2)
    assert critical_difference(6, 11) == pytest.approx(np.quantile(range_, 0.95) * scale, rel=5e-3)


TABLES = arrays(np.float64, (5, 4), elements=st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]))


@given(TABLES)
def test_ranks_count_who_is_better(scores):
    slow = [[sum(b > a for b in row) + (sum(b == a for b in row) + 1) / 2 for a in row] for row in scores]
    np.testing.assert_array_equal(block_ranks(scores), slow)


@given(TABLES)
def test_friedman_is_that_of_scipy(scores):
    statistic, p = friedman(block_ranks(scores))
    if (scores == scores[:, :1]).all():
        assert (statistic, p) == (0, 1)
    else:
        assert (statistic, p) == pytest.approx(tuple(stats.friedmanchisquare(*scores.T)), abs=1e-9)


@given(st.lists(st.floats(1, 5), min_size=2, max_size=7), st.floats(0.1, 3))
def test_groups_hold_exactly_the_pairs_that_do_not_differ(places, difference):
    places = np.sort(places)
    groups = joined(places, difference)
    close = {(i, j) for j in range(len(places)) for i in range(j) if places[j] - places[i] < difference}
    assert {(i, j) for a, b in groups for j in range(a, b + 1) for i in range(a, j)} == close
    assert not any(a <= c and d <= b for a, b in groups for c, d in groups if (a, b) != (c, d))


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(BenchmarkError, match="two methods and two blocks, got 1 and 3"):
        rank_methods(["a"], np.zeros((3, 1)))
    with pytest.raises(BenchmarkError, match="b has no score in 2 of 3 blocks"):
        rank_methods(["a", "b"], [(0.1, np.nan), (0.1, 0.2), (0.1, np.inf)])
    with pytest.raises(ValueError, match="3 methods"):
        rank_methods(["a", "b", "c"], np.zeros((3, 2)))
