"""Properties of MRL."""

import math

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.clustering import late_cosine, unit_classes
from benchmark.methods.blocks.layers import unit_rows
from benchmark.methods.blocks.losses import repeated_pairs, robust_clustering, tuple_contrast

from benchmark.core.method import FitLog, RunContext
from benchmark.training import Model, train_phase
from tests.methods.data import build, make_split, one_hot, rows, started


def unit(m, n, d, seed=0):
    return unit_rows(rows(m * n, d, seed)).reshape(m, n, d)


def test_clustering_of_equal_logits():
    got = robust_clustering(torch.zeros(6, 4, dtype=torch.float64), one_hot(np.arange(6) % 4, 4))
    assert got.item() == pytest.approx(math.log(1 - 1 / 4))


def test_clustering_gradient_is_largest_where_a_row_is_right():
    logits, y = (3 * rows(5, 4)).requires_grad_(), one_hot([0, 1, 2, 3, 0], 4)
    gradient = torch.autograd.grad(robust_clustering(logits, y) * 5, logits)[0]
    p = logits.detach().softmax(dim=-1)
    own = (p * y).sum(dim=-1, keepdim=True)
    torch.testing.assert_close(gradient, torch.where(y > 0, -own, p * own / (1 - own)))


def test_clustering_stays_finite_where_a_row_is_certain():
    logits = torch.tensor([[400.0, 0.0, 1.0]], requires_grad=True)
    value = robust_clustering(logits, torch.eye(3)[:1])
    assert value.item() == pytest.approx(math.log(1 + math.e) - 400, rel=1e-5)
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


@pytest.mark.parametrize("m", [2, 5])
def test_contrast_of_equal_rows(m):
    z = torch.nn.functional.normalize(torch.ones(m, 6, 4, dtype=torch.float64), dim=-1)
    assert tuple_contrast(z, 0.3).item() == pytest.approx(2 * math.log((m * 6 - 1) / (m - 1)))
    assert tuple_contrast(z, 0.3, form="paper").item() == pytest.approx(m * math.log(6))


@pytest.mark.parametrize("form", ["code", "paper"])
def test_contrast_does_not_change_under(form):
    z = unit(3, 5, 6)
    wanted = tuple_contrast(z, 0.5, form=form)
    for got in (z @ torch.linalg.qr(rows(6, 6, 2)).Q, z[:, [3, 0, 4, 1, 2]], z[[2, 0, 1]]):
        torch.testing.assert_close(tuple_contrast(got, 0.5, form=form), wanted)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_contrast_against_a_loop(form):
    z, dropped = unit(3, 4, 6), repeated_pairs(torch.tensor([[0, 1, 2, 3], [0, 0, 1, 2], [5, 4, 5, 3]]))
    flat, total = z.reshape(12, 6), 0.0
    for a in range(12):
        share, every = 0.0, 0.0
        for b in range(12):
            if (a == b and form == "code") or dropped[a, b]:
                continue
            e = math.exp((flat[a] @ flat[b]).item() / 0.5)
            every += e
            share += e if a % 4 == b % 4 else 0
        total -= math.log(share / every)
    got = tuple_contrast(z, 0.5, form=form, dropped=dropped).item()
    assert got == pytest.approx(2 * total / 12 if form == "code" else total / 4)


def test_repeated_items_and_their_partners_are_no_negatives():
    table = torch.tensor([[0, 1, 2], [7, 7, 8]])  # image rows, and a text served twice
    dropped = repeated_pairs(table)
    tuples = {tuple(pair) for pair in table.T.tolist()}
    for a in range(6):
        for b in range(6):
            (v, j), (w, k) = divmod(a, 3), divmod(b, 3)
            one = v == w and table[v, j] == table[w, k]
            pair = (
                (table[v, j].item(), table[w, k].item())
                if v < w
                else (table[w, k].item(), table[v, j].item())
            )
            assert dropped[a, b] == (j != k and bool(one or (v != w and pair in tuples)))
    assert not repeated_pairs(torch.arange(6).reshape(2, 3)).any()


@pytest.mark.parametrize("form", ["code", "paper"])
def test_gradients(form):
    z, y = rows(12, 5).requires_grad_(), one_hot(np.arange(12) % 3, 3)
    dropped = repeated_pairs(torch.tensor([[0, 1, 2, 3], [0, 0, 1, 2], [5, 4, 5, 3]]))
    assert torch.autograd.gradcheck(lambda t: robust_clustering(t[:, :3], y), z)
    assert torch.autograd.gradcheck(
        lambda t: tuple_contrast(unit_rows(t).reshape(3, 4, 5), 0.5, form=form, dropped=dropped), z
    )


def test_a_single_tuple_has_no_contrast():
    z = unit(2, 1, 4).requires_grad_()
    value = tuple_contrast(z, 1.0)
    assert value.item() == pytest.approx(0)
    assert torch.autograd.grad(value, z)[0].isfinite().all()


def test_columns_of_c_have_unit_length_in_every_step_and_start_orthogonal():
    run = RunContext((1, 2), precision="fp64", replicas="together")
    phase, start = started(build("mrl", lr=0.1), make_split(), run)
    for c in start["classes"]:
        torch.testing.assert_close(c.T @ c, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-6)
    assert phase.before is unit_classes
    trained = train_phase(phase, start, run, FitLog()).params["classes"]
    assert (trained.norm(dim=1) - 1).abs().max() > 1e-3
    brought_back = unit_classes(Model(None, {"classes": trained[0]}), {})["classes"]
    torch.testing.assert_close(brought_back.norm(dim=0), torch.ones(3, dtype=torch.float64))


def test_the_rate_follows_the_epoch():
    wanted = [1, 1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0]
    assert [late_cosine(4)(e, 0) for e in range(6)] == pytest.approx(wanted)
    phase, _ = started(build("mrl", epochs=4), make_split())
    assert [phase.objectives[0].factor(e, 99) for e in range(6)] == pytest.approx(wanted)
