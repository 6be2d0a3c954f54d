"""CMCP: what the mathematics says of it, against full inverses, and its unsafe spots."""

from functools import partial

import numpy as np
import pytest
import torch
from benchmark.methods import cmcp
from benchmark.methods.cmcp import (
    class_correlation,
    neighbours,
    normalised_graph,
    propagate,
    znorm,
)

from benchmark.core.data import Modality, Split
from tests.methods.data import PAIR, make_split, one_hot, rows
from tests.methods.data import fit as fit_method

COUNTS = torch.tensor([7.0, 3.0, 5.0], dtype=torch.float64)


fit = partial(fit_method, "cmcp", k=5)


def features(split, a="image", b="text"):
    return a, torch.from_numpy(split[a].features), b, torch.from_numpy(split[b].features)


@pytest.fixture
def test():
    sizes = {"image": (12, 8), "text": (9, 5)}
    return make_split(sizes, seed=5, name="test")


def close(got, want, tolerance=1e-5):
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


# --- the parts --------------------------------------------------------------------------------------------


def test_signed_matrix_is_balanced_in_every_column():
    a, b = one_hot(np.repeat(np.arange(3), (7, 3, 5)), 3), one_hot([2, 0, 1, 1], 3)
    signed = a @ class_correlation(COUNTS) @ b.T
    same = a @ b.T > 0
    assert torch.equal(signed > 0, same)
    close(signed.sum(0), torch.zeros(4).double(), 1e-12)
    close((signed * same).sum(0), torch.ones(4).double(), 1e-12)


@pytest.mark.parametrize("counts", [[4.0, 0.0, 3.0], [5.0], [0.0, 6.0]])
def test_empty_and_single_classes(counts):
    assert torch.isfinite(class_correlation(torch.tensor(counts))).all()


def test_znorm_equals_two_plain_passes():
    x = rows(9, 4)
    want = x.clone()
    for _ in range(2):
        want = (want - want[:6].mean(0)) / want[:6].std(0, correction=0)
    close(znorm(x.clone(), 6), want, 1e-12)


def test_constant_columns_add_to_all_deviations_and_are_dropped():
    x = rows(9, 4)
    x[:6, 2] = 0.3
    dropped, published = (znorm(x.clone(), 6, rule) for rule in ("drop", "as_published"))
    assert not dropped[:, 2].any()
    close(published[6:, 2], (x[6:, 2] - 0.3) * 1e6, 1e-9)
    others = [0, 1, 3]
    assert torch.equal(dropped[:, others], published[:, others])
    spread = x[:6, 0].std(correction=0)
    first = spread / (spread + 1e-3)
    close(dropped[:6, 0].std(correction=0), first / (first + 1e-3), 1e-12)


@pytest.mark.parametrize("self_match", ["row", "first"])
def test_neighbours_are_those_of_a_full_sort_whatever_the_blocks(self_match, monkeypatch):
    x = rows(30, 6)
    unit = x / x.norm(dim=1, keepdim=True)
    cosine = unit @ unit.T - 9 * torch.eye(30)
    want = cosine.sort(dim=1, descending=True)
    for size in (1, 30 * 8 * 7, 2**20):
        monkeypatch.setattr(cmcp, "CHUNK_BYTES", size)
        values, columns = neighbours(x.clone(), 4, self_match)
        close(values, want.values[:, :4], 1e-12)
        assert torch.equal(columns, want.indices[:, :4])
    assert neighbours(x.clone(), 99, self_match)[1].shape == (30, 29)


def test_duplicates_and_empty_rows():
    x = rows(6, 3)
    x[4], x[5] = x[0], 0
    _, columns = neighbours(x.clone(), 1)
    assert columns[0] == 4
    assert columns[4] == 0
    _, columns = neighbours(x.clone(), 1, "first")
    assert columns[[0, 4]].eq(4).any()  # the first of two equals is left out, so one row keeps itself
    values, _ = neighbours(x.clone(), 5)
    assert not values[5].any()


def random_graph(count=25, k=4, seed=0):
    values, columns = neighbours(rows(count, 6, seed).abs(), k)
    return normalised_graph(values.numpy(), columns.numpy())[0]


def test_negative_weights_stay_until_a_degree_is_not_positive():
    ring = np.array([[1], [2], [0]])
    kept, clipped = normalised_graph(np.array([[0.9], [-0.1], [0.9]]), ring)
    assert clipped == 0
    assert kept.toarray().min() < 0
    graph, clipped = normalised_graph(np.array([[0.5], [-0.9], [0.4]]), ring)
    assert clipped == 2  # an edge is in the matrix twice
    assert graph.toarray().min() == 0
    assert np.isfinite(graph.toarray()).all()
    graph, _ = normalised_graph(np.zeros((3, 1)), ring)
    assert not graph.toarray().any()


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.6, 0.95])
def test_propagation_is_the_closed_form(alpha):
    graph, start = random_graph(), np.random.default_rng(0).normal(size=(25, 3))
    got, steps = propagate(graph, start, alpha, 1e-12)
    want = (1 - alpha) * np.linalg.solve(np.eye(25) - alpha * graph.toarray(), start)
    np.testing.assert_allclose(got, want, atol=1e-10)
    assert steps > 0


def test_propagation_that_does_not_settle_is_solved():
    graph, start = 5 * random_graph(), np.random.default_rng(0).normal(size=(25, 3))
    got, steps = propagate(graph, start, 0.6, 1e-12)
    assert steps == 0
    np.testing.assert_allclose(got - 0.6 * (graph @ got), 0.4 * start, atol=1e-10)


# --- scores -----------------------------------------------------------------------------------------------


def test_scores_are_those_of_full_inverses(test):
    train = make_split({"image": (31, 8), "text": (22, 5)})
    (model,), _ = fit(train)
    spread = {}
    for m in train:
        x = np.concatenate([m.features, test[m.name].features]).astype(np.float64)
        for _ in range(2):
            x = (x - x[: len(m)].mean(0)) / x[: len(m)].std(0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        cosine = x @ x.T - 9 * np.eye(len(x))
        weights = np.where(cosine >= np.sort(cosine, 1)[:, [-5]], cosine, 0)
        weights = (weights + weights.T) / 2
        scale = weights.sum(1) ** -0.5
        inverse = 0.4 * np.linalg.inv(np.eye(len(x)) - 0.6 * scale[:, None] * weights * scale)
        spread[m.name] = inverse[len(m) :, : len(m)]
    for a, b in (("image", "text"), ("text", "image")):
        y, z = train[a].labels, train[b].labels
        same = y[:, None] == z
        counts = np.bincount(y)[z]
        signed = np.where(same, 1 / counts, -1 / (len(y) - counts))
        want = spread[a] @ signed @ spread[b].T
        got = model.similarity(*features(test, a, b))
        np.testing.assert_allclose(got, want / np.abs(want).max(), atol=1e-6)


def test_seeds_share_the_model(test):
    (one, two), log = fit(seeds=(1, 2))
    assert one is two
    assert one.similarity(*features(test)).dtype == torch.float32
    facts = log.notes["graphs"]["image"]
    assert facts | {"rows": 42, "neighbours": 5, "clipped": 0} == facts


def test_a_graph_is_made_once_for_the_same_rows(test, monkeypatch):
    made = []
    monkeypatch.setattr(cmcp, "znorm", lambda x, *rest: made.append(x.shape) or znorm(x, *rest))
    (model,), _ = fit()
    forth = model.similarity(*features(test))
    model.similarity(*features(test, "text", "image"))
    assert made == [(42, 8), (39, 5)]
    a, queries, b, items = features(test)
    changed = queries.clone()
    changed[0] += 1
    other = model.similarity(a, changed, b, items)
    assert len(made) == 3
    assert not torch.equal(other, forth)
    queries[0] += 1  # in place: the same tensor, other values
    assert torch.equal(model.similarity(a, queries, b, items), other)


def test_directions_differ_with_unequal_class_counts(test):
    keep = {"image": np.r_[0:30:3, 1:30:3, 2:6:3], "text": np.arange(30)}
    whole = make_split()
    parts = {m: whole[m].take(each) for m, each in keep.items()}
    (model,), _ = fit(Split("train", parts, 3))
    forth, back = model.similarity(*features(test)), model.similarity(*features(test, "text", "image"))
    assert (forth - back.T).abs().max() > 0.05


def test_order_of_rows_does_not_matter(test):
    train = make_split(PAIR)
    (model,), _ = fit(train)
    a, queries, b, items = features(test)
    want = model.similarity(a, queries, b, items)
    first, second = torch.randperm(12), torch.randperm(9)
    close(model.similarity(a, queries[first], b, items[second]), want[first][:, second])
    order = np.random.default_rng(0).permutation(30)
    moved = {m.name: m.take(order if m.name == "text" else order[::-1]) for m in train}
    (model,), _ = fit(Split("train", moved, 3))
    close(model.similarity(a, queries, b, items), want)


def test_positive_affine_maps_of_a_feature_do_not_matter(test):
    train = make_split(PAIR)
    (model,), _ = fit(train)
    want = model.similarity(*features(test))
    factor = np.float32(2.0) ** np.arange(-4, 4, dtype=np.float32)

    def moved(split):
        m = split["image"]
        return Modality("image", m.features * factor, m.labels)

    (model,), _ = fit(Split("train", {"image": moved(train), "text": train["text"]}, 3))
    mapped = Split("test", {"image": moved(test), "text": test["text"]}, 3)
    close(model.similarity(*features(mapped)), want)
    x = rows(9, 4)
    close(znorm(3 * x + 5, 6), znorm(x.clone(), 6), 1e-9)


def test_without_propagation_no_label_reaches_a_test_row(test):
    (model,), _ = fit(alpha=0.0)
    assert not model.similarity(*features(test)).any()


def test_a_modality_against_itself(test):
    (model,), _ = fit()
    x = torch.from_numpy(test["image"].features)
    scores = model.similarity("image", x, "image", x)
    assert (test["image"].labels[scores.argmax(1)] == test["image"].labels).mean() > 0.8
    with pytest.raises(NotImplementedError, match="similarity"):
        model.embed("image", x)
