"""Paired comparisons against plain loops, exact enumeration and what chance allows."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
from scipy import stats

from benchmark.errors import BenchmarkError
from benchmark.stats import paired as module
from benchmark.stats.paired import bootstrap, compare_pairs, correct, signed_rank


def runs(queries=60, seed=0, **shifts):
    """Runs whose queries are equally hard for all, each better by its shift on average."""
    rng = np.random.default_rng(seed)
    hard = rng.uniform(0.1, 0.7, queries)
    return {name: hard + shift + 0.05 * rng.normal(size=(3, queries)) for name, shift in shifts.items()}


def paired(a, b):
    """One comparison."""
    return compare_pairs({"a": a, "b": b})[0]


def test_a_clear_difference_is_found_and_none_is_not():
    made = runs(a=0.05, b=0.0, c=0.0)
    better, same = paired(made["a"], made["b"]), paired(made["b"], made["c"])
    assert better.difference == pytest.approx((made["a"].mean(0) - made["b"].mean(0)).mean())
    assert 0 < better.low < better.difference < better.high
    assert better.p < 1e-6
    assert same.low < 0 < same.high
    assert same.p > 0.05
    assert (better.a, better.b, better.queries, better.p_holm) == ("a", "b", 60, None)


def test_bootstrap_is_the_percentile_interval_of_a_plain_loop(monkeypatch):
    values = np.random.default_rng(0).normal(size=(2, 7))
    rng = np.random.default_rng(5)
    drawn = [rng.integers(7, size=7) for _ in range(40)]
    slow = np.quantile([[row[d].mean() for row in values] for d in drawn], [0.05, 0.95], axis=0).T
    np.testing.assert_allclose(bootstrap(values, level=0.9, resamples=40, seed=5), slow, atol=1e-12)
    monkeypatch.setattr(module, "CELLS", 15)  # two resamples at a time
    np.testing.assert_allclose(bootstrap(values, level=0.9, resamples=40, seed=5), slow, atol=1e-12)


def test_bootstrap_agrees_with_theory_and_is_repeatable():
    values = np.random.default_rng(1).normal(0.1, 0.2, size=(1, 2000))
    (low, high), error = bootstrap(values)[0], values.std() / np.sqrt(2000)
    assert (low, high) == pytest.approx(values.mean() + 1.96 * error * np.array([-1, 1]), abs=0.1 * error)
    once, again, other = (bootstrap(values[:, :50], resamples=100, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert (once != other).all()


def test_memory_stays_small():
    values = np.random.default_rng(0).normal(size=(3, 20_000))
    tracemalloc.start()
    bootstrap(values, resamples=500)  # 80 MB per copy if drawn at once
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6


def test_a_pair_does_not_depend_on_the_others():
    made = runs(a=0.02, b=0.0, c=0.01)
    alone = paired(made["a"], made["c"])
    [together] = [each for each in compare_pairs(made) if (each.a, each.b) == ("a", "c")]
    assert together.p == alone.p
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    assert [(e.a, e.b) for e in compare_pairs(made)] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert compare_pairs(made, []) == []


def test_numbers_of_seeds_may_differ():
    made = runs(a=0.0, b=0.0)
    one = paired(made["a"][:1], made["b"])
    assert one.difference == pytest.approx((made["a"][0] - made["b"].mean(0)).mean())


def test_signed_rank_is_exact_for_few_queries():
    values = np.array([0.5, -0.1, 0.3, 0.25, 0.4, -0.05, 0.6])
    ranks = stats.rankdata(abs(values))
    all_sums = [
        sum(r for r, plus in zip(ranks, signs, strict=True) if plus) for signs in product((0, 1), repeat=7)
    ]
    statistic = min(ranks[values > 0].sum(), ranks[values < 0].sum())
    assert signed_rank(values) == pytest.approx(2 * np.mean([s <= statistic for s in all_sums]))


def test_equal_runs_differ_in_nothing():
    same = runs(a=0.0)["a"]
    found = paired(same, same)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert signed_rank([0.0, 0.0, 0.3]) == 1.0  # one query left: nothing can be said


def test_correction_counts_the_family():
    family = correct(compare_pairs(runs(a=0.03, b=0.0, c=0.0)))
    smallest = min(family, key=lambda each: each.p)
    assert smallest.p_holm == pytest.approx(3 * smallest.p)
    assert all(each.p_holm >= each.p for each in family)


def test_runs_on_other_queries_are_refused():
    with pytest.raises(BenchmarkError, match="mars has 5 queries, drcl has 6"):
        compare_pairs({"mars": np.zeros((1, 5)), "drcl": np.zeros((1, 6))})
    for wrong in (np.zeros(5), np.full((1, 5), np.nan), np.zeros((0, 5))):
        with pytest.raises(ValueError, match="a: expected finite average precisions"):
            paired(wrong, np.zeros((1, 5)))
    with pytest.raises(ValueError, match="cannot resample"):
        bootstrap(np.zeros((1, 5)), level=95)
