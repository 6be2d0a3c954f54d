"""Noise that depends on keys alone, dropout, batch normalisation, reversed gradients."""

import pytest
import torch
from benchmark.methods.blocks.layers import BatchNorm, dropout, reverse_gradient, uniform
from torch import nn

from tests.methods.data import rows

KEYS = torch.randint(2**62, (3000,), generator=torch.Generator().manual_seed(0))


def test_numbers_are_uniform_and_uncorrelated():
    u = uniform(KEYS, 64).double()
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 0.003
    assert abs(12 * u.var() - 1) < 0.01
    between_columns = torch.corrcoef(u.T).fill_diagonal_(0).abs().max()
    between_rows = torch.corrcoef(u[:64]).fill_diagonal_(0).abs().max()
    streams = torch.corrcoef(torch.stack([u.flatten(), uniform(KEYS, 64, 1).double().flatten()]))[0, 1]
    assert between_columns < 5 / 3000**0.5
    assert between_rows < 5 / 64**0.5
    assert abs(streams) < 0.01


def test_numbers_depend_on_the_key_alone():
    whole = uniform(KEYS, 8, 3)
    assert torch.equal(whole[5:9], uniform(KEYS[5:9], 8, 3))
    assert torch.equal(whole[:, :4], uniform(KEYS, 4, 3))
    assert torch.equal(torch.vmap(lambda k: uniform(k, 8, 3))(KEYS.reshape(6, 500)).reshape(3000, 8), whole)
    neighbours = uniform(torch.arange(4), 1).flatten().tolist()
    assert len(set(neighbours)) == 4  # keys that follow each other are as good as random ones


def test_dropout_keeps_the_mean_and_scales_the_rest():
    x = torch.ones(3000, 16)
    dropped = dropout(x, 0.1, KEYS, 1)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.9])
    assert abs((dropped == 0).float().mean() - 0.1) < 0.005
    assert dropout(x, 0.0, KEYS, 1) is x
    assert not torch.equal(dropped, dropout(x, 0.1, KEYS, 2))


def test_batch_norm_is_torchs():
    ours, theirs = BatchNorm(4).double(), nn.BatchNorm1d(4).double()
    x = 3 + 2 * torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, running = ours.train_rows(x)
    torch.testing.assert_close(found, theirs(x))
    torch.testing.assert_close(running["running_mean"], theirs.running_mean)
    torch.testing.assert_close(running["running_var"], theirs.running_var)
    assert ours.running_mean.eq(0).all()  # nothing is written in place
    ours.load_state_dict({**ours.state_dict(), **running})
    torch.testing.assert_close(ours(x), theirs.eval()(x))


def test_batch_norm_of_one_row_is_finite():
    found, running = BatchNorm(4).train_rows(torch.ones(1, 4))
    assert torch.isfinite(found).all()
    assert torch.isfinite(running["running_var"]).all()


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_the_gradient_is_exactly_reversed(factor):
    x, weight = rows(3, 4).requires_grad_(), rows(3, 4, 1)
    y = reverse_gradient(x, factor)
    assert torch.equal(y, x)
    assert torch.equal(torch.autograd.grad((y * weight).sum(), x)[0], -factor * weight)
