"""Properties of DSCMR."""

import math
from functools import partial

import pytest
import torch
from benchmark.methods.blocks.losses import half_cosine_likelihood
from benchmark.methods.blocks.two_branch import TwoBranch
from benchmark.methods.dscmr import DSCMRNet, distance, objective_terms

from tests.methods.data import one_hot, published, rows

Y = one_hot([0, 1, 2, 0, 1], 3)


def terms_of(u, v, p, q, y=Y, **values):
    return objective_terms((u, v), (p, q), (y, y), published("dscmr", **values))


def inputs():
    return rows(5, 4, 1), rows(5, 4, 2), rows(5, 3, 3), rows(5, 3, 4)


@pytest.mark.parametrize("term", ["total", "label", "common", "invariance"])
@pytest.mark.parametrize("values", [{}, {"norm": "frobenius"}])
def test_gradients(term, values):
    given = [x.requires_grad_() for x in inputs()]
    assert torch.autograd.gradcheck(lambda *x: terms_of(*x, alpha=1.0, beta=0.5, **values)[term], given)


def test_the_common_space_term_reads_directions_only():
    u, v, _, _ = inputs()
    scale = torch.tensor([0.1, 2.0, 30.0, 1.0, 5.0], dtype=torch.float64)[:, None]
    stretched = half_cosine_likelihood(scale * u, v / scale, Y, Y)
    torch.testing.assert_close(stretched, half_cosine_likelihood(u, v, Y, Y))


def test_the_order_of_pairs_does_not_matter():
    order = torch.tensor([3, 1, 4, 0, 2])
    plain, moved = terms_of(*inputs()), terms_of(*(x[order] for x in inputs()), Y[order])
    for name, value in plain.items():
        torch.testing.assert_close(moved[name], value)


def test_equal_modalities():
    u, _, p, q = inputs()
    terms = terms_of(u, u, p, q)
    assert terms["invariance"] == 0
    torch.testing.assert_close(terms["common"], 3 * half_cosine_likelihood(u, u, Y, Y))


def test_the_least_value_of_the_common_space_term():
    floor = 3 * (math.log(1 + math.exp(0.5)) - 0.5)
    assert terms_of(*inputs())["common"] > floor
    same = one_hot([1, 1, 1], 3)
    met = torch.ones(3, 4, dtype=torch.float64)
    assert terms_of(met, met, same, same, same)["common"].item() == pytest.approx(floor)


@pytest.mark.parametrize("norm", ["row", "frobenius"])
def test_no_infinite_slope_where_a_distance_is_zero(norm):
    u = rows(5, 4).requires_grad_()
    v = u.detach().clone().requires_grad_()
    p, q = Y.clone().requires_grad_(), Y.clone().requires_grad_()
    zero = torch.zeros(5, 4, dtype=torch.float64, requires_grad=True)
    for a, b in ((u, v), (zero, v)):
        total = terms_of(a, b, p, q, norm=norm)["total"]
        assert all(g.isfinite().all() for g in torch.autograd.grad(total, (a, b, p, q)))


def test_matrix_norms_shrink_with_the_batch_and_row_norms_do_not():
    a, b = rows(6, 4), rows(6, 4, 1)
    twice = torch.cat([a, a]), torch.cat([b, b])
    torch.testing.assert_close(distance(*twice), distance(a, b))
    torch.testing.assert_close(distance(*twice, "frobenius"), distance(a, b, "frobenius") / math.sqrt(2))


def test_shared_layers_hear_both_modalities():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = DSCMRNet({"image": 4, "text": 6}, 8, 5, 3).double()
    for h in net.encoder({"image": rows(5, 4), "text": rows(5, 6, 1)}).values():
        out = net.classifier(h)
        gradients = torch.autograd.grad(
            h.sum() + out.sum(), (net.encoder.common[0].weight, net.classifier.weight), retain_graph=True
        )
        assert all(g.abs().max() > 0 for g in gradients)


def test_encoder_of_some_modalities_and_with_layers_of_their_own():
    make = partial(TwoBranch, {"image": 4, "text": 6}, 8, 5)
    shared, own = make().double(), make(share_last=False).double()
    x, z = rows(5, 4), rows(3, 6, 1)
    for net in (shared, own):
        both = net({"image": x, "text": z})
        torch.testing.assert_close(net({"text": z})["text"], both["text"])
        torch.testing.assert_close(net({"image": x})["image"], both["image"])
    last = own.common[1](own.branches[1](z).relu())
    torch.testing.assert_close(own({"text": z})["text"], last)
    assert len(list(shared.parameters())) == 6
    assert len(list(own.parameters())) == 8
