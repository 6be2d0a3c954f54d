"""Properties of MAN."""

import math

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.eigen import generalized_eigenvalues
from benchmark.methods.blocks.layers import MLP
from benchmark.methods.man import compressed, discriminant, expected_classes, modality_errors, scatters

from benchmark.core.method import RunContext
from benchmark.training import Model
from tests.methods.data import fit, one_hot, rows


def points(n=24, d=5, classes=4, seed=0):
    y = one_hot(np.arange(n) % classes, classes)
    return rows(n, d, seed) + 2 * (y @ rows(classes, d, seed + 1)), y


@pytest.mark.parametrize(("d", "classes"), [(5, 4), (3, 6)])
def test_discriminant_has_the_gradient_of_its_values(d, classes):
    x, y = points(16, d, classes)
    assert torch.autograd.gradcheck(lambda t: discriminant(t, y), x.requires_grad_())
    some = torch.cat([y[:, :2], torch.zeros(16, 3, dtype=torch.float64)], dim=1)
    some[:, 1] = 1 - some[:, 0]
    assert torch.autograd.gradcheck(lambda t: discriminant(t, some), x)


def test_discriminant_does_not_change_under():
    x, y = points()
    wanted = discriminant(x, y)
    order, signs = (
        torch.randperm(24, generator=torch.Generator().manual_seed(0)),
        torch.tensor([1, -1, 1, -1, 1]),
    )
    for name, got in {
        "a common translation": discriminant(x + rows(1, 5, 9), y),
        "another order of rows": discriminant(x[order], y[order]),
        "permuted coordinates": discriminant(x[:, [3, 0, 4, 1, 2]], y),
        "flipped coordinates": discriminant(x * signs, y),
        "permuted classes": discriminant(x, y[:, [2, 0, 3, 1]]),
        "repeated rows": discriminant(x.repeat(3, 1), y.repeat(3, 1), 3e-3),
    }.items():
        torch.testing.assert_close(got, wanted, msg=name)
    turned = discriminant(x @ torch.linalg.qr(rows(5, 5, 2)).Q, y)
    assert not torch.isclose(turned, wanted), "gaps are compressed coordinate by coordinate"


def test_compression_has_slope_one_at_zero():
    t = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    got = compressed(t)
    torch.testing.assert_close(got, t.sign() * (1 + t.abs()).log())
    torch.testing.assert_close(torch.autograd.grad(got.sum(), t)[0], 1 / (1 + t.detach().abs()))


def test_all_classes_present_the_rules_agree():
    x, y = points()
    x.requires_grad_()
    a, b = discriminant(x, y, rank="guard"), discriminant(x, y, rank="official")
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(torch.autograd.grad(a, x)[0], torch.autograd.grad(b, x)[0])


def test_missing_classes():
    x, y = points()
    wide = torch.cat([y, torch.zeros(24, 6, dtype=torch.float64)], dim=1)  # ten classes, four in the batch
    single = x.float().requires_grad_()
    guarded = discriminant(single, wide.float())
    torch.testing.assert_close(guarded, discriminant(x, y).float())
    lone = one_hot(np.zeros(24, int), 4)
    value = discriminant(single, lone.float())
    assert value == 0
    assert not torch.autograd.grad(value, single)[0].any()
    assert discriminant(x, lone, rank="official").isfinite()


def test_the_official_rule_is_ruled_by_rounding_where_classes_are_missing():
    labels = torch.randint(100, (100,), generator=torch.Generator().manual_seed(0)).repeat(2)
    y = torch.eye(100)[labels]
    x = rows(200, 100).float().requires_grad_()
    kept, noisy = (torch.autograd.grad(discriminant(x, y, rank=rule), x)[0] for rule in ("guard", "official"))
    assert (noisy - kept).norm() > kept.norm()


def test_a_scatter_that_is_not_positive_definite_gets_a_larger_diagonal():
    between = rows(4, 3)
    broken = torch.diag(torch.tensor([1.0, 2.0, -0.05], dtype=torch.float64))
    fixed = broken + 0.1 * torch.eye(3, dtype=torch.float64)  # the first of 0.01, 0.1, ... that suffices
    got = generalized_eigenvalues(broken, between, 1e-3)
    torch.testing.assert_close(got, generalized_eigenvalues(fixed, between, 1e-3))
    assert (got > 0).all()


def test_rows_that_are_not_finite_do_not_stop_the_solver():
    x, y = points()
    x[0, 0] = torch.inf
    assert discriminant(x, y).shape == ()


def test_scatter_between_classes_lacks_classes_without_rows():
    x, y = points()
    _, between = scatters(x, torch.cat([y, torch.zeros(24, 1, dtype=torch.float64)], dim=1), 1e-3)
    assert between.shape == (5, 5)
    assert not between[4].any()
    assert between[:4].any(dim=1).all()


@pytest.mark.parametrize("m", [2, 5])
def test_errors_of_a_discriminator_that_knows_nothing(m):
    net = MLP(4, (3,), m).double()
    ignorant = Model(net, {n: torch.zeros_like(p) for n, p in net.named_parameters()})
    z = [rows(6 + k, 4, k) for k in range(m)]
    wanted = torch.full((m,), 1.0, dtype=torch.float64)
    torch.testing.assert_close(modality_errors(ignorant, z, fooled=False), wanted * (m - 1) / (2 * m))
    torch.testing.assert_close(modality_errors(ignorant, z, fooled=True), wanted / (2 * m * (m - 1)))


def test_expected_classes():
    y = one_hot(np.arange(1000) % 100, 100)
    assert expected_classes(y, 100) == pytest.approx(100 * (1 - 0.99**100))
    assert fit("man")[1].notes["classes_per_batch"] == pytest.approx(3 * (1 - (2 / 3) ** 12))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("rank", ["guard", "official"])
def test_lower_precision_trains(precision, rank):
    run = RunContext((1, 2), precision=precision, replicas="together")
    model = fit("man", run=run, mda_rank=rank, epochs=1)[0][0]
    assert model.embed("image", rows(5, 8).float()).isfinite().all()


def test_each_side_moves_its_own_part():
    history = fit("man", epochs=12, lr=1e-2)[1].history["man"]
    assert history["train/discriminant"][-1][0] < history["train/discriminant"][0][0]
    assert history["train/discriminator"][0][0] == pytest.approx(3 * 2 / 6, rel=0.2)  # near ignorance
    assert math.isfinite(history["train/total"][-1][0])
