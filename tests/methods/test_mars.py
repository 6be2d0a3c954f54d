"""Properties of MARS."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.layers import MLP, part_of, random_orthogonal
from benchmark.methods.blocks.losses import cross_entropy, pair_likelihood
from benchmark.methods.mars import DataNetwork, Networks, largest_log_probability

from benchmark.core.method import FitLog, RunContext
from benchmark.training import Batch, Model, RowSampler, train_phase
from tests.methods.data import build, held_out, make_split, one_hot, rows
from tests.methods.data import fit as fit_method

fit = partial(fit_method, "mars")


@pytest.fixture
def prior():
    return random_orthogonal(8, 3, 0).double()


def test_pair_term_ignores_lengths_and_a_common_rotation():
    a, b = rows(6, 5), rows(4, 5, seed=1)
    y_a, y_b = one_hot(np.arange(6) % 3, 3), one_hot(np.arange(4) % 3, 3)
    wanted = pair_likelihood(a, b, y_a, y_b)
    rotation = torch.linalg.qr(rows(5, 5, seed=2)).Q
    lengths = torch.linspace(0.5, 2, 6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(pair_likelihood(a * lengths, b, y_a, y_b), wanted)
    torch.testing.assert_close(pair_likelihood(a @ rotation, b @ rotation, y_a, y_b), wanted)


def test_pair_term_of_class_prototypes(prior):
    p = prior.T
    same = pair_likelihood(p[:1], p[:1], one_hot([0], 3), one_hot([0], 3))
    other = pair_likelihood(p[:1], p[1:2], one_hot([0], 3), one_hot([1], 3))
    assert same.item() == pytest.approx(math.log1p(math.exp(-2)), abs=1e-6)
    assert other.item() == pytest.approx(math.log(2), abs=1e-6)


def test_the_exclusive_term_lies_between_uniform_and_certain(prior):
    y = one_hot([0, 1, 2, 0], 3)
    value = largest_log_probability(3 * torch.nn.functional.normalize(rows(4, 8)) @ prior, y).item()
    assert -math.log(3) < value < 0
    outside = torch.linalg.svd(prior).U[:, 3:7].T
    assert largest_log_probability(outside @ prior, y).item() == pytest.approx(-math.log(3), abs=1e-6)


@pytest.mark.parametrize(("classes", "floor"), [(10, 1.420), (20, 2.055), (100, 3.617)])
def test_the_classification_term_has_a_floor(classes, floor):
    prior = random_orthogonal(classes + 4, classes, 0).double()
    y = one_hot(np.arange(classes), classes)
    s = torch.nn.functional.normalize((y - 1 / classes) @ prior.T)
    assert cross_entropy(s @ prior, y).item() == pytest.approx(floor, abs=6e-4)
    moved = torch.nn.functional.normalize(s + 0.1 * rows(classes, classes + 4))
    assert cross_entropy(moved @ prior, y) > cross_entropy(s @ prior, y)


def test_unlabelled_rows_leave_the_class_terms():
    logits, y = rows(4, 3).requires_grad_(), one_hot([0, 1, 2, 0], 3)
    part = y.clone()
    part[3] = 0
    for term in (cross_entropy, largest_log_probability):
        torch.testing.assert_close(term(logits, part), term(logits[:3], y[:3]))
        gradient = torch.autograd.grad(term(logits, part), logits)[0]
        assert not gradient[3].any()
        assert term(logits, torch.zeros_like(y)) == 0


def test_heads_start_by_the_raw_width():
    torch.manual_seed(0)
    net = DataNetwork(100, (32, 16), 8)
    for head in (net.shared, net.exclusive):
        assert head.bias is None
        assert 0.09 < head.weight.abs().max() <= 0.1
    assert not torch.equal(net.shared.weight, net.exclusive.weight)


def small_phase(prior, first=True, epochs=1, x=None, **values):
    """Networks of width 12, their parameters for one replica, and the phase."""
    torch.manual_seed(0)
    net = Networks(MLP(3, (12,), 8), DataNetwork(5, (12, 12), 8), first).double()
    params = {n: p.detach()[None] for n, p in net.named_parameters()}
    x, y = rows(9, 5) if x is None else x, one_hot(np.arange(9) % 3, 3)
    method = build("mars", epochs=epochs, lr={"default": 1e-2}, **values)
    phase = method.phase(net, RowSampler(x, y, 9, labels=("y_l",)), (x, y), "image")
    return replace(phase, constants={"prior": prior[None]}), params


def label_gradient(prior):
    phase, params = small_phase(prior)
    leaves = {n: p[0].requires_grad_(n.startswith("label.")) for n, p in params.items()}
    y = one_hot(np.arange(9) % 3, 3)
    batch = Batch({"image": rows(9, 5)}, {"image": y}, {}, {"y_l": y.flip(0)}, {"prior": prior})
    terms = phase.objectives[0].loss(Model(phase.net, leaves), batch)
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(terms["total"], list(part_of(leaves, "label.").values()))]
    )


def test_the_label_network_does_not_see_the_matrix(prior):
    other = random_orthogonal(8, 3, 1).double()
    torch.testing.assert_close(label_gradient(prior), label_gradient(other), rtol=1e-12, atol=1e-15)


def test_the_label_network_is_frozen_after_the_first_modality(prior):
    for first in (True, False):
        phase, params = small_phase(prior, first, epochs=3)
        before = {n: p.clone() for n, p in params.items()}
        done = train_phase(phase, params, RunContext(precision="fp64"), FitLog()).params
        assert all(not torch.equal(done[n], before[n]) for n in done if n.startswith("data."))
        assert any(n.startswith("label.") for n in done) is first
        assert all(torch.equal(params[n], before[n]) for n in params)
        if first:
            assert not torch.equal(done["label.last.weight"], before["label.last.weight"])


def test_rows_whose_trunk_is_off_do_no_harm(prior):
    phase, params = small_phase(prior, epochs=3)
    params["data.trunk.1.bias"] = torch.full_like(params["data.trunk.1.bias"], -1e3)
    done = train_phase(phase, params, RunContext(precision="fp64"), FitLog())
    assert all(p.isfinite().all() for p in done.params.values())
    model = Model(phase.net, {n: p[0] for n, p in done.params.items()})
    assert not model.data(rows(4, 5))[0].any()


def test_only_the_first_modality_matters_to_the_others():
    x = rows(6, 4)
    usual, log = fit()
    assert log.notes["modality_order"] == ["image", "text", "audio"]
    without, _ = fit(make_split().restrict(("image", "audio")))
    backwards = dict(reversed(make_split().modalities.items()))
    swapped, _ = fit(replace(make_split(), modalities=backwards))
    other, log = fit(make_split().restrict(("text", "audio")))
    assert log.notes["modality_order"] == ["text", "audio"]
    assert torch.equal(usual[0].embed("audio", x), without[0].embed("audio", x))
    assert torch.equal(usual[0].embed("audio", x), swapped[0].embed("audio", x))
    assert not torch.allclose(usual[0].embed("audio", x), other[0].embed("audio", x))


def test_last_and_best_epoch():
    settings = {"epochs": 15, "lr": {"default": 1e-1}}
    last, log = fit(**settings)
    assert not any(name.startswith("val/") for each in log.history.values() for name in each)
    best, log = fit(**settings, select="best")
    curve = [each[0] for each in log.history["first/image"]["val/pair"]]
    assert min(curve) < curve[-1], "the last epoch was the best, so nothing was tested"
    x = rows(5, 8)
    assert not torch.allclose(last[0].embed("image", x), best[0].embed("image", x))
    curve = [each[0] for each in log.history["later/text"]["val/pair"]]
    val = held_out(make_split())["text"]
    s, y = best[0].embed("text", torch.from_numpy(val.features).double()), one_hot(val.labels, 3)
    assert pair_likelihood(s, s, y, y).item() == pytest.approx(min(curve))


def test_weights_of_later_modalities_leave_the_first_alone():
    base, changed = fit()[0][0], fit(alpha2=0.3, beta2=0.0)[0][0]
    assert torch.equal(base.embed("image", rows(5, 8)), changed.embed("image", rows(5, 8)))
    assert not torch.allclose(base.embed("text", rows(5, 5)), changed.embed("text", rows(5, 5)))
