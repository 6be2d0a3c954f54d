"""Properties of COXI."""

import math

import pytest
import torch
from benchmark.methods.coxi import (
    COXI,
    COXIConfig,
    COXINet,
    coxi_objective,
    objective_terms,
    proxy_loss,
    smoothed_labels,
)

from benchmark.contract.method import check_method
from benchmark.core.method import Run
from benchmark.core.registry import METHODS
from benchmark.errors import RecipeError
from benchmark.training.train import SGD, Adam
from tests.methods.data import make_split, nearest_class_accuracy, one_hot, rows

TWO = ("image", "text")
Y = one_hot([0, 1, 2, 0, 1], 3)
CONSTANTS = {"margin": 0.5, "scale": 6.0, "smoothing": 0.1}


def fit(seeds=(1,), replicas="auto", split=None, **values):
    method = COXI.from_values({**COXI.tiny(), **values})
    train = split or make_split().restrict(TWO)
    run = Run(seeds, precision="fp64", replicas=replicas)
    return method.fit(train, make_split(seed=1).restrict(train.names), run), run


def inputs():
    """Both embeddings, both logits and proxies."""
    return [rows(5, 4, 1), rows(5, 4, 2), rows(5, 3, 3), rows(5, 3, 4), rows(3, 4, 5)]


def terms_of(f1, f2, a, b, proxies, y=Y, **values):
    return objective_terms((f1, f2), (a, b), (y, y), proxies, COXIConfig(**values))


@pytest.mark.parametrize("term", ["total", "proxy", "label", "distance"])
def test_gradients(term):
    given = [x.requires_grad_() for x in inputs()]
    of_term = [
        given[k] for k in {"proxy": (0, 1, 4), "label": (2, 3), "distance": (0, 1)}.get(term, range(5))
    ]

    def value(*moved):
        new = {id(old): x for old, x in zip(of_term, moved, strict=True)}
        return terms_of(*(new.get(id(x), x) for x in given), alpha=0.8, beta=0.7, gamma=0.6)[term]

    assert torch.autograd.gradcheck(value, of_term)


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
    torch.testing.assert_close(proxy_loss(x, one_hot(labels, classes), proxies, **CONSTANTS), total)


def test_smoothed_labels_sum_to_one():
    for classes in (2, 3, 200):
        q = smoothed_labels(one_hot([0, 1], classes), 0.1)
        torch.testing.assert_close(q.sum(dim=1), torch.ones(2).double())
        torch.testing.assert_close(q[:, :2].diagonal(), torch.full((2,), 0.9).double())
        assert q[0, 1].item() == pytest.approx(0.1 / (classes - 1))


def test_a_margin_raises_the_loss():
    x, proxies = inputs()[0], inputs()[4]
    values = [proxy_loss(x, Y, proxies, m, 6.0, 0.1).item() for m in (0, 0.1, 0.5, 1.0)]
    assert values == sorted(values)
    assert len(set(values)) == 4


def test_lengths_do_not_matter_so_gradients_are_orthogonal():
    x, proxies = inputs()[0].requires_grad_(), inputs()[4].requires_grad_()
    loss = proxy_loss(x, Y, proxies, **CONSTANTS)
    scale = torch.tensor([0.1, 2.0, 30.0, 1.0, 5.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(proxy_loss(scale * x, Y, scale[:3] * proxies, **CONSTANTS), loss)
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
        at_best = proxy_loss(proxies[:1], y, proxies, 0.0, 6.0, 0.1)
        q = smoothed_labels(y, 0.1)
        entropy = -(q * q.log()).sum()
        met = proxy_loss(proxies[:1], y, proxies, 0.0, gap, 0.1)
        torch.testing.assert_close(met, entropy)
        assert at_best > entropy


def test_optimisers_and_constant_rates():
    objective = coxi_objective(COXIConfig(), None)
    assert objective.optimizer == Adam(1e-4, (0.5, 0.999), weight_decay=1e-4)
    assert objective.factor is None
    (group,) = objective.groups
    assert (group.params, group.optimizer, group.factor) == (("proxies",), SGD(1e-4), None)
    (group,) = coxi_objective(COXIConfig(proxy_optimizer="adam"), None).groups
    assert group.optimizer == Adam(1e-4, (0.5, 0.999))


def network(**values):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = COXIConfig(hidden=(40, 30, 20), dim=10, dropout=0.5, **values)
        return COXINet({"image": 6, "text": 6}, config, 3).double()


def test_dropout_belongs_to_modality_layer_and_key():
    net = network()
    with torch.no_grad():
        net.encoder.own[1].load_state_dict(net.encoder.own[0].state_dict())
        net.encoder.third[1].load_state_dict(net.encoder.third[0].state_dict())
    x, keys = rows(8, 6), torch.arange(8)
    image, text = net("image", x, keys)[0], net("text", x, keys)[0]
    torch.testing.assert_close(net("image", x)[0], net("text", x)[0])
    zeros = [f == 0 for f in (image, text)]
    assert all(0.2 < z.double().mean() < 0.8 for z in zeros)
    assert not torch.equal(*zeros)
    assert torch.equal(net("image", x, keys)[0], image)
    assert not torch.equal(net("image", x, keys + 8)[0], image)
    # the classifier sees what is left of the embedding
    torch.testing.assert_close(net("image", x, keys)[1], net.classifier(image))


def test_the_third_layer_may_be_shared():
    own, shared = network(), network(share_third_layer=True)
    assert len(own.encoder.third) == 2
    assert len(shared.encoder.third) == 1
    x = rows(5, 6)
    h = x
    for layer in shared.encoder.own[1]:
        h = layer(h).relu()
    wanted = shared.encoder.shared(shared.encoder.third[0](h))
    torch.testing.assert_close(shared("text", x)[0], wanted)


@pytest.mark.parametrize("values", [{}, {"share_third_layer": True, "proxy_optimizer": "adam"}])
def test_seeds_together_equal_each_alone(values):
    together, _ = fit((1, 2), "together", **values)
    alone, _ = fit((1, 2), "alone", **values)
    for name, x in (("image", rows(9, 8)), ("text", rows(9, 5))):
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a.embed(name, x), b.embed(name, x), rtol=1e-7, atol=1e-9)
        assert not torch.allclose(together[0].embed(name, x), together[1].embed(name, x))


@pytest.mark.parametrize(
    "values",
    [
        {"dropout": 0.0},
        {"margin": 0.0},
        {"gamma": 0.0},
        {"share_third_layer": True},
        {"proxy_optimizer": "adam", "lr_proxies": 1e-2},
        {"hidden": (12,)},
    ],
)
def test_every_option_trains_and_differs(values):
    last = {"select": "last"}
    base, changed = fit(**last)[0][0], fit(**last, **values)[0][0]
    assert changed.embed("image", rows(5, 8)).isfinite().all()
    assert not torch.allclose(base.embed("image", rows(5, 8)), changed.embed("image", rows(5, 8)))


def test_unpaired_modalities_of_different_size():
    retrievers, _ = fit(split=make_split().restrict(("text", "audio")))
    assert retrievers[0].embed("audio", rows(2, 4)).shape == (2, 12)


def test_training_learns_to_retrieve():
    assert nearest_class_accuracy(fit(epochs=25, lr=1e-2)[0][0]) > 0.9


def test_the_contract_is_kept():
    broken = {r.name: r.detail for r in check_method(METHODS.get("coxi")) if not r.passed}
    assert not broken


def test_wrong_values_are_refused():
    for values, message in [
        ({"proxy_optimizer": "lbfgs"}, "proxy_optimizer must be one of sgd, adam"),
        ({"select": "test"}, "select must be one of map, last"),
        ({"hidden": ()}, "hidden must name a layer"),
        ({"dropout": 1.0}, "dropout must lie in"),
        ({"gamma": -1.0}, "must not be negative"),
    ]:
        with pytest.raises(RecipeError, match=message):
            COXI.from_values(values)
