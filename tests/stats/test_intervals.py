"""Intervals, verdicts and corrections against textbook numbers and slow computations of their own."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from benchmark.errors import BenchmarkError
from benchmark.stats.intervals import equivalence, holm, interval


def test_interval_of_three_seeds_by_hand():
    found = interval([0.50, 0.52, 0.54])
    half = 4.302652729911275 * 0.02 / math.sqrt(3)  # t table: 0.975, two degrees of freedom
    assert found.mean == pytest.approx(0.52)
    assert found.deviation == pytest.approx(0.02)
    assert (found.low, found.high) == pytest.approx((0.52 - half, 0.52 + half))
    assert (found.seeds, found.level) == (3, 0.95)


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = [f.low <= 3 <= f.high for f in (interval(rng.normal(3, 2, 4), 0.8) for _ in range(2000))]
    assert np.mean(covered) == pytest.approx(0.8, abs=0.03)


def test_one_seed_has_no_interval_and_equal_seeds_an_empty_one():
    one = interval([0.4])
    assert (one.mean, one.deviation, one.low, one.high) == (0.4, None, None, None)
    same = interval([0.25, 0.25])
    assert (same.low, same.high, same.deviation) == (0.25, 0.25, 0.0)


@pytest.mark.parametrize("values", [[], [math.nan], [[0.1, 0.2]]])
def test_what_is_not_one_value_per_seed_is_refused(values):
    with pytest.raises(ValueError, match="one finite value per seed"):
        interval(values)
    with pytest.raises(ValueError, match="one finite value per seed"):
        equivalence(values, 0.5)


def test_an_impossible_level_is_refused():
    with pytest.raises(ValueError, match="level"):
        interval([0.1, 0.2], 95)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.529, 0.531, 0.530], "equivalent"),
        ([0.532, 0.533, 0.5335], "equivalent"),  # surely higher, and as surely inside the margin
        ([0.560, 0.562, 0.561], "different (higher)"),
        ([0.500, 0.502, 0.501], "different (lower)"),
        ([0.500, 0.530, 0.560], "undecided"),
        ([0.538, 0.5395, 0.541], "different (higher)"),  # inside the margin, but not surely
        ([0.531], "one seed: no verdict"),
    ],
)
def test_verdicts(values, verdict):
    found = equivalence(values, 0.530)
    assert found.verdict == verdict
    assert found.difference == pytest.approx(np.mean(values) - 0.530)
    assert (found.p_equivalent is None) == (found.p_different is None) == (len(values) == 1)


@settings(max_examples=25)
@given(
    st.lists(st.floats(0.48, 0.52), min_size=2, max_size=6).filter(lambda v: np.std(v) > 1e-6),
    st.floats(0.002, 0.03),
)
def test_p_values_are_those_of_the_worst_value_that_is_printed_so(values, margin):
    found = equivalence(values, 0.5, margin)
    possible = 0.5 + np.linspace(-0.0005, 0.0005, 11)
    tost = [
        max(
            stats.ttest_1samp(values, true - margin, alternative="greater").pvalue,
            stats.ttest_1samp(values, true + margin, alternative="less").pvalue,
        )
        for true in possible
    ]
    assert found.p_equivalent == pytest.approx(max(tost), rel=1e-6, abs=1e-12)
    zero = [stats.ttest_1samp(values, true).pvalue for true in possible]
    assert found.p_different >= max(zero) - 1e-12
    if abs(np.mean(values) - 0.5) > 0.0005:
        assert found.p_different == pytest.approx(max(zero), rel=1e-6, abs=1e-12)
    else:
        assert found.p_different == 1


def test_the_tail_is_that_of_students_t_by_integration():
    values, freedom = np.array([0.52, 0.53, 0.535]), 2
    t = (values.mean() - 0.5 - 0.0005) / (values.std(ddof=1) / math.sqrt(3))
    scale = math.gamma((freedom + 1) / 2) / math.sqrt(freedom * math.pi) / math.gamma(freedom / 2)
    area, _ = integrate.quad(lambda x: scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2), t, math.inf)
    assert equivalence(values, 0.5).p_different == pytest.approx(2 * area)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (0.5004, "equivalent"),
        (0.5094, "equivalent"),
        (0.5096, "different (higher)"),  # some value printed 0.500 is farther than the margin
        (0.4, "different (lower)"),
    ],
)
def test_seeds_that_agree_exactly_are_judged_by_the_difference(value, verdict):
    found = equivalence([value] * 3, 0.5)
    assert found.verdict == verdict
    assert {found.p_equivalent, found.p_different} <= {0.0, 1.0}
    nearly = equivalence([value - 1e-9, value, value + 1e-9], 0.5)
    assert nearly.verdict == verdict


def test_a_margin_below_the_rounding_is_refused():
    with pytest.raises(BenchmarkError, match=r"margin 0\.0004: must be greater than 0\.0005"):
        equivalence([0.5, 0.51], 0.5, 0.0004)
    with pytest.raises(ValueError, match="finite"):
        equivalence([0.5, 0.51], math.nan)


def test_a_method_outside_the_margin_is_seldom_called_equivalent():
    rng = np.random.default_rng(1)
    edge = 0.5 + 0.0005 + 0.01  # farthest from a value printed 0.500 that is still inside for one of them
    called = [equivalence(rng.normal(edge, 0.003, 3), 0.5).verdict == "equivalent" for _ in range(2000)]
    assert np.mean(called) < 0.05


def test_holm_by_hand():
    # smallest times four, next times three, ..., never below an earlier one
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(values, alpha):
    waiting, rejected = sorted(range(len(values)), key=values.__getitem__), set()
    while waiting and values[waiting[0]] * len(waiting) <= alpha:
        rejected.add(waiting.pop(0))
    assert {i for i, p in enumerate(holm(values)) if p <= alpha} == rejected


def test_holm_refuses_what_is_no_p_value():
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            holm([0.5, value])
