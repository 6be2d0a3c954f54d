"""Metrics against an independent slow computation, and properties of the definitions."""

import math
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.errors import BenchmarkError, DataError
from benchmark.evaluation.metrics import (
    DirectionScores,
    evaluate,
    evaluate_one,
    expected_random_ap,
    interpolated_precision,
    parse_metric,
    precision_recall,
)
from benchmark.evaluation.ranking import _tie_positions
from tests.metric_vectors import SINGLE, golden

# ---- an independent slow computation -------------------------------------------------------------------


def slow_order(scores):
    """Database rows by falling score: stable argsort of the permuted database, for one query."""
    permuted = np.argsort(_tie_positions(len(scores)).numpy())
    return permuted[np.argsort(-scores[permuted], kind="stable")]


def slow_ap(hits, k, of_all=False):
    total = found = 0
    for rank, hit in enumerate(hits[:k], 1):
        if hit:
            found += 1
            total += found / rank
    divisor = min(k, hits.sum()) if of_all else found
    return total / divisor if divisor else 0.0


def slow_curves(all_hits):
    precision = [np.cumsum(h) / np.arange(1, len(h) + 1) for h in all_hits]
    recall = [np.cumsum(h) / max(h.sum(), 1) for h in all_hits]
    return np.mean(precision, axis=0), np.mean(recall, axis=0)


def slow_interpolated(hits, levels):
    if not hits.any():
        return np.zeros(levels)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    reached = [int(h) * (levels - 1) for h in np.cumsum(hits)]  # recall, in units of 1/(R (levels-1))
    values = [
        [p for p, r in zip(precision, reached, strict=True) if r >= j * hits.sum()] for j in range(levels)
    ]
    return np.array([max(v) for v in values])


def relevance(labels_a, labels_b):
    if labels_a.ndim == 1:
        return labels_a[:, None] == labels_b[None]
    return labels_a @ labels_b.T > 0


@st.composite
def cases(draw):
    """Scores with many or few ties, single or multi-label, classes missing on either side, exclusions."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_a, n_b = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    levels = draw(st.sampled_from([1, 2, 4, 1000]))
    scores = (rng.integers(0, levels, (n_a, n_b)) - levels // 2).astype(np.float32) / 8
    scores = np.where(rng.random(scores.shape) < 0.2, -scores, scores)  # brings in -0
    classes = draw(st.integers(1, 4))
    if draw(st.booleans()):
        labels = rng.integers(0, classes, n_a), rng.integers(0, classes, n_b) + draw(st.integers(0, 1))
    else:
        labels = tuple((rng.random((n, classes)) < 0.4).astype(np.int64) for n in (n_a, n_b))
    exclude = rng.integers(-1, n_b, n_a) if draw(st.booleans()) else None
    return scores, *labels, exclude


@given(cases(), st.integers(1, 12), st.integers(0, 12), st.sampled_from([1, 10**6]))
@settings(max_examples=200)
def test_equals_the_slow_computation(case, k, top, budget):
    scores, labels_a, labels_b, exclude = case
    metrics = ("map@all", f"map@{k}", f"map_min@{k}")
    results = evaluate(
        None,
        torch.from_numpy(labels_a),
        None,
        torch.from_numpy(labels_b),
        metrics=metrics,
        similarity=torch.from_numpy(scores),
        exclude=None if exclude is None else torch.from_numpy(exclude),
        top=top,
        budget=budget,
    )
    pairs = set() if exclude is None else {(i, int(j)) for i, j in enumerate(exclude) if j >= 0}
    both = (
        (scores, relevance(labels_a, labels_b), pairs),
        (
            scores.T,
            relevance(labels_b, labels_a),
            {(j, i) for i, j in pairs},
        ),
    )
    for result, (rows, relevant, gone) in zip(results, both, strict=True):
        kept = [[j for j in slow_order(row) if (i, j) not in gone] for i, row in enumerate(rows)]
        hits = [relevant[i, order] if order else np.zeros(0, bool) for i, order in enumerate(kept)]
        expected = {
            "map@all": [slow_ap(h, 10**6) for h in hits],
            f"map@{k}": [slow_ap(h, k) for h in hits],
            f"map_min@{k}": [slow_ap(h, k, of_all=True) for h in hits],
        }
        for name, values in expected.items():
            np.testing.assert_allclose(result.ap[name].numpy(), values, atol=1e-6)
            assert result.mean(name) == pytest.approx(np.mean(values), abs=1e-6)
        tied = [
            any(relevant[i, j] and any(rows[i, j] == rows[i, m] for m in kept[i] if m != j) for j in kept[i])
            for i in range(len(rows))
        ]
        assert result.ties == pytest.approx(np.mean(tied))
        assert (result.queries, result.database) == rows.shape
        chances = [expected_random_ap(torch.tensor([int(h.sum())]), len(h)).item() for h in hits]
        assert result.chance == pytest.approx(np.mean(chances))
        assert (result.first.shape, result.first.dtype) == ((len(rows), top), torch.int32)
        for i, (first, values) in enumerate(zip(result.first, result.first_scores, strict=True)):
            best = kept[i][:top]
            assert first.tolist() == best + [-1] * (top - len(best))
            np.testing.assert_array_equal(values.numpy(), [*rows[i, best], *[np.nan] * (top - len(best))])


@given(cases(), st.sampled_from(["zero", "skip"]), st.integers(2, 13))
@settings(max_examples=60)
def test_curves_equal_the_slow_computation(case, empty, levels):
    scores, labels_a, labels_b, _ = case
    arguments = None, torch.from_numpy(labels_a), None, torch.from_numpy(labels_b)
    options = {"similarity": torch.from_numpy(scores), "empty": empty, "budget": 1}
    relevant = relevance(labels_a, labels_b)
    hits = [relevant[i, slow_order(row)] for i, row in enumerate(scores)]
    hits = [h for h in hits if empty == "zero" or h.any()] or [np.zeros(scores.shape[1], bool)]
    precision, recall = slow_curves(hits)
    ours = precision_recall(*arguments, **options)
    np.testing.assert_allclose(ours[0], precision, atol=1e-12)
    np.testing.assert_allclose(ours[1], recall, atol=1e-12)
    expected = np.mean([slow_interpolated(h, levels) for h in hits], axis=0)
    np.testing.assert_allclose(
        interpolated_precision(*arguments, levels=levels, **options), expected, atol=1e-12
    )


# ---- ties ------------------------------------------------------------------------------------------------


def test_order_of_equal_scores_is_fixed_for_all_time():
    """Part of the metric's definition: numbers stored under one METRIC_VERSION must stay comparable."""
    assert _tie_positions(10).tolist() == [0, 4, 6, 1, 7, 8, 2, 9, 3, 5]
    assert sorted(_tie_positions(1000).tolist()) == list(range(1000))


def test_a_database_sorted_by_class_gains_nothing_from_ties(device):
    labels = torch.arange(10).repeat_interleave(100).to(device)
    same = torch.ones(1000, 4, device=device)
    scores = evaluate_one(same, labels, same, labels, metrics=["map@all"])
    assert scores.ties == 1
    assert scores.mean("map@all") == pytest.approx(scores.chance, abs=0.01)
    assert scores.chance == pytest.approx(0.1, abs=0.01)


def test_warning_only_above_one_percent():
    def scores(ties):
        nothing = torch.empty(1000, 0)
        return DirectionScores({}, ties, 1000, 10, 0.1, nothing, nothing, nothing)

    assert not scores(0.01).warning()
    assert "1.1%" in scores(0.011).warning()
    assert "\n" not in scores(1.0).warning()


# ---- where the scores come from --------------------------------------------------------------------------


def random_case(device="cpu", n_a=37, n_b=53, dim=4, classes=5):
    generator = torch.Generator().manual_seed(3)
    signs = [torch.randint(2, (n, dim), generator=generator) * 2.0 - 1 for n in (n_a, n_b)]  # exact cosines
    labels = [torch.randint(classes, (n,), generator=generator) for n in (n_a, n_b)]
    return [x.to(device) for x in (signs[0], labels[0], signs[1], labels[1])]


def same_scores(one, other):
    for mine, theirs in zip(one, other, strict=True):
        assert mine.ties == theirs.ties
        assert mine.chance == pytest.approx(theirs.chance, abs=1e-12)
        for name, values in mine.ap.items():
            torch.testing.assert_close(values, theirs.ap[name], atol=0, rtol=0)


def test_blocks_of_any_size_give_the_same_scores(device):
    case = random_case(device)
    whole = evaluate(*case)
    for budget in (1, 20_000, 100_000):
        same_scores(evaluate(*case, budget=budget), whole)


@pytest.mark.parametrize("budget", [1, 2**20])
def test_a_similarity_function_is_asked_once_for_every_row(budget, device):
    a, labels_a, b, labels_b = random_case(device)
    cosine = a @ b.T / 4
    asked = []

    def similarity(rows):
        asked.extend(range(rows.start, rows.stop))
        return cosine[rows]

    ours = evaluate(None, labels_a, None, labels_b, similarity=similarity, budget=budget)
    assert asked == list(range(len(a)))
    same_scores(ours, evaluate(None, labels_a, None, labels_b, similarity=cosine))
    same_scores(ours[1:], [evaluate_one(None, labels_b, None, labels_a, similarity=cosine.T)])


def test_inputs_stay_as_they_are(device):
    case = random_case(device)
    before = [x.clone() for x in case]
    similarity = case[0] @ case[2].T
    kept = similarity.clone()
    exclude = torch.zeros(len(case[0]), dtype=torch.int64, device=device)
    evaluate(*case, exclude=exclude)
    evaluate(*case, similarity=similarity, exclude=exclude)
    assert all(torch.equal(x, y) for x, y in zip(case, before, strict=True))
    assert torch.equal(similarity, kept)


def test_cosine_ignores_the_length_of_rows_however_extreme(device):
    query, labels, base, base_labels = golden(SINGLE, device)
    lengths = torch.logspace(-30, 30, len(base), device=device)[:, None]
    ours = evaluate(query.requires_grad_(), labels, base * lengths, base_labels)
    same = evaluate(query.double(), labels, base.double(), base_labels)
    for one, other in zip(ours, same, strict=True):
        torch.testing.assert_close(one.ap["map@all"], other.ap["map@all"], atol=1e-6, rtol=0)


def test_a_zero_row_has_cosine_zero_with_everything(device):
    a, labels_a, b, labels_b = random_case(device)
    a[3], b[5] = 0, 0
    cosine = a @ b.T  # unit length up to the common factor 4
    same_scores(
        evaluate(a, labels_a, b, labels_b), evaluate(None, labels_a, None, labels_b, similarity=cosine)
    )


def test_products_are_true_float32_whatever_training_allowed(device):
    case = golden(SINGLE, device)
    expected = evaluate(*case)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            same_scores(evaluate(*case), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
def test_memory_above_the_inputs():
    """Peak resident memory of a fresh process during the evaluation, minus what it holds before."""
    code = """
import torch
from benchmark.evaluation.metrics import evaluate
def status(key):
    return next(int(l.split()[1]) / 1024 for l in open("/proc/self/status") if l.startswith(key))
n = 4000
labels = torch.randint(200, (n,))
a, b = torch.randn(n, 512), torch.randn(n, 512)
evaluate(a[:20], labels[:20], b[:20], labels[:20])
before = status("VmRSS")
evaluate(a, labels, b, labels)
print(status("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 60 < float(done.stdout) < 200  # the similarity alone is 61 MiB


# ---- chance ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", range(1, 8))
def test_chance_is_the_mean_over_all_rankings(items):
    for relevant in range(items + 1):
        aps = []
        for places in combinations(range(items), relevant):
            hits = np.isin(np.arange(items), places)
            aps.append(slow_ap(hits, items))
        closed = expected_random_ap(torch.tensor([relevant]), items)
        assert closed.item() == pytest.approx(math.fsum(aps) / len(aps), abs=1e-12)


# ---- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["map", "map@0", "map@-1", "map@5.0", "map@", "ndcg@5", "map@ 5", "MAP@5", "map@٥"]
)
def test_an_unknown_measure_is_refused(name):
    with pytest.raises(BenchmarkError, match="map_min@K"):
        parse_metric(name)


def test_a_rank_beyond_the_database_means_all():
    one = evaluate_one(*golden(SINGLE), metrics=["map@all", f"map@{10**30}"])
    assert torch.equal(*one.ap.values())


def nan_at(x, row):
    x = x.clone()
    x[row, 0] = math.nan
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, ql, d, dl: (q[:3], ql, d, dl), "do not fit 40 labels"),
        (lambda q, ql, d, dl: (q[:, :3], ql, d, dl), "3 and of 8 columns"),
        (lambda q, ql, d, dl: (q[:, :0], ql, d[:, :0], dl), "expected"),
        (lambda q, ql, d, dl: (nan_at(q, 7), ql, d, dl), "row 7"),
        (lambda q, ql, d, dl: (q, ql, d[:0], dl[:0]), "nothing to rank"),
        (lambda q, ql, d, dl: (q, ql[:, None], d, dl), "cannot be compared"),
        (lambda q, ql, d, dl: (q, torch.ones(40, 3), d, torch.ones(80, 4)), "cannot be compared"),
        (lambda q, ql, d, dl: (None, ql, d, dl), "give the embeddings"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    with pytest.raises(DataError, match=message) as caught:
        evaluate(*change(*golden(SINGLE)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": torch.zeros(40, 79)}, r"\(40, 79\)"),
        ({"similarity": torch.full((40, 80), math.inf)}, "not finite"),
        ({"similarity": nan_at(torch.zeros(40, 80), 39)}, "not finite"),
        ({"similarity": lambda rows: torch.zeros(1, 80)}, "rows 0"),
        ({"exclude": torch.zeros(3, dtype=torch.int64)}, "exclude must hold 40"),
        ({"exclude": torch.full((40,), 80)}, "exclude must hold 40"),
        ({"exclude": torch.full((40,), -2)}, "exclude must hold 40"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        evaluate(*golden(SINGLE), **options)


def test_wrong_curve_options_are_refused():
    with pytest.raises(BenchmarkError, match="'zero' or 'skip'"):
        precision_recall(*golden(SINGLE), empty="drop")
    with pytest.raises(BenchmarkError, match="at least 2"):
        interpolated_precision(*golden(SINGLE), levels=1)


def test_a_directions_curve_is_the_interpolated_precision():
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(15, 4, generator=generator), torch.randn(22, 4, generator=generator)
    labels_a, labels_b = torch.arange(15) % 4, torch.arange(22) % 3  # class 3 has nothing relevant
    forth, back = evaluate(a, labels_a, b, labels_b)
    for found, sides in ((forth, (a, labels_a, b, labels_b)), (back, (b, labels_b, a, labels_a))):
        torch.testing.assert_close(found.precision, interpolated_precision(*sides, levels=101))
    assert evaluate(a, labels_a, b, labels_a.new_full((22,), 9))[0].precision.eq(0).all()
