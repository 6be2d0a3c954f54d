"""Properties of COXI."""

import math

import pytest
import torch
from benchmark.methods.coxi import COXI, COXINet, objective_terms, proxy_loss, smoothed_labels
from torch import nn

from benchmark.training import SGD, Adam
from tests.methods.data import one_hot, published, rows

Y = one_hot([0, 1, 2, 0, 1], 3)
CONSTANTS = published("coxi", margin=0.5, scale=6.0, smoothing=0.1)


def inputs():
    """Both embeddings, both logits and proxies."""
    return [rows(5, 4, 1), rows(5, 4, 2), rows(5, 3, 3), rows(5, 3, 4), rows(3, 4, 5)]


def terms_of(f1, f2, a, b, proxies, y=Y, **values):
    return objective_terms((f1, f2), (a, b), (y, y), proxies, published("coxi", **values))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_proxy_loss_in_its_published_form(classes):
    """Squared distances of rows of length 3 to proxies of length 1, with the margin on the label's."""
    x, proxies = rows(6, 4), rows(classes, 4, 1)
    labels = torch.arange(6) % classes
    unit = torch.nn.functional.normalize
    total = 0.0
    for i in range(6):
        distances = [
            ((3 * unit(x[i], dim=0) - unit(proxies[c], dim=0)) ** 2).sum() + 0.5 * (c == labels[i])
            for c in range(classes)
        ]
        log_p = torch.log_softmax(-torch.stack(distances), dim=0)
        for c in range(classes):
            total -= (0.9 if c == labels[i] else 0.1 / (classes - 1)) * log_p[c] / 6
    torch.testing.assert_close(proxy_loss(x, one_hot(labels, classes), proxies, CONSTANTS), total)


def test_smoothed_labels_sum_to_one():
    for classes in (2, 3, 200):
        q = smoothed_labels(one_hot([0, 1], classes), 0.1)
        torch.testing.assert_close(q.sum(dim=1), torch.ones(2).double())
        torch.testing.assert_close(q[:, :2].diagonal(), torch.full((2,), 0.9).double())
        assert q[0, 1].item() == pytest.approx(0.1 / (classes - 1))


def test_a_margin_raises_the_loss():
    x, proxies = inputs()[0], inputs()[4]
    settings = [published("coxi", margin=m) for m in (0, 0.1, 0.5, 1.0)]
    values = [proxy_loss(x, Y, proxies, each).item() for each in settings]
    assert values == sorted(values)
    assert len(set(values)) == 4


def test_lengths_do_not_matter_so_gradients_are_orthogonal():
    x, proxies = inputs()[0].requires_grad_(), inputs()[4].requires_grad_()
    loss = proxy_loss(x, Y, proxies, CONSTANTS)
    scale = torch.tensor([0.1, 2.0, 30.0, 1.0, 5.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(proxy_loss(scale * x, Y, scale[:3] * proxies, CONSTANTS), loss)
    for each, gradient in zip((x, proxies), torch.autograd.grad(loss, (x, proxies)), strict=True):
        torch.testing.assert_close((each * gradient).sum(1), torch.zeros(len(each)).double())


def test_names_of_classes_and_order_of_modalities_do_not_matter():
    f1, f2, a, b, proxies = inputs()
    plain = terms_of(f1, f2, a, b, proxies)
    swapped = terms_of(f2, f1, b, a, proxies)
    classes = torch.tensor([2, 0, 1])
    renamed = terms_of(f1, f2, a[:, classes], b[:, classes], proxies[classes], Y[:, classes])
    for other in (swapped, renamed):
        for name, value in plain.items():
            torch.testing.assert_close(other[name], value)


def test_no_infinite_slope_where_modalities_agree_or_a_row_has_no_length():
    given = inputs()
    given[1] = given[0].clone()
    given[0][1] = given[1][1] = 0
    given = [x.requires_grad_() for x in given]
    terms = terms_of(*given)
    assert terms["distance"] == 0
    assert all(g.isfinite().all() for g in torch.autograd.grad(terms["total"], given))


def test_the_scale_keeps_smoothed_labels_of_many_classes_out_of_reach():
    """With orthogonal proxies a row on its proxy has logits that differ by the scale alone."""
    for classes, reached in ((10, True), (200, False)):
        proxies = torch.eye(classes, dtype=torch.float64)
        gap = math.log(9 * (classes - 1))
        assert (gap < 6.0) == reached
        y = one_hot([0], classes)
        at_best = proxy_loss(proxies[:1], y, proxies, published("coxi", margin=0.0, scale=6.0))
        q = smoothed_labels(y, 0.1)
        entropy = -(q * q.log()).sum()
        met = proxy_loss(proxies[:1], y, proxies, published("coxi", margin=0.0, scale=gap))
        torch.testing.assert_close(met, entropy)
        assert at_best > entropy


def test_optimisers_and_constant_rates():
    (objective,) = COXI(published("coxi")).objectives(nn.Module())
    assert objective.optimizer == Adam(1e-4, (0.5, 0.999), weight_decay=1e-4)
    assert objective.factor is None
    (group,) = objective.groups
    assert (group.params, group.optimizer, group.factor) == (("proxies",), SGD(1e-4), None)
    (objective,) = COXI(published("coxi", proxy_optimizer="adam")).objectives(nn.Module())
    assert objective.groups[0].optimizer == Adam(1e-4, (0.5, 0.999))


def network(**values):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = published("coxi", hidden=(40, 30, 20), dim=10, dropout=0.5, **values)
        return COXINet({"image": 6, "text": 6}, config, 3).double()


def test_dropout_belongs_to_modality_layer_and_key():
    net = network().encoder
    with torch.no_grad():
        net.own[1].load_state_dict(net.own[0].state_dict())
        net.third[1].load_state_dict(net.third[0].state_dict())
    x, keys = rows(8, 6), torch.arange(8)
    image, text = net("image", x, keys), net("text", x, keys)
    torch.testing.assert_close(net("image", x), net("text", x))
    zeros = [f == 0 for f in (image, text)]
    assert all(0.2 < z.double().mean() < 0.8 for z in zeros)
    assert not torch.equal(*zeros)
    assert torch.equal(net("image", x, keys), image)
    assert not torch.equal(net("image", x, keys + 8), image)


def test_the_third_layer_may_be_shared():
    own, shared = network().encoder, network(share_third_layer=True).encoder
    assert len(own.third) == 2
    assert len(shared.third) == 1
    x = rows(5, 6)
    h = x
    for layer in shared.own[1]:
        h = layer(h).relu()
    torch.testing.assert_close(shared("text", x), shared.shared(shared.third[0](h)))
