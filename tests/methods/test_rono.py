"""Properties of RONO."""

import math

import pytest
import torch
from benchmark.methods.rono import (
    RONO,
    center_cosines,
    center_factor,
    center_loss,
    modality_gap,
    objective_terms,
    ramp_position,
    rotation,
)
from torch.nn.functional import cross_entropy

from benchmark.core.registry import METHODS
from benchmark.runs.recipe import resolve
from benchmark.training import SGD, Adam
from tests.methods.data import PAIR, fit, make_split, one_hot, published, rows

Y = one_hot([0, 1, 2, 0, 1], 3)


def at(v):
    return torch.tensor(float(v), dtype=torch.float64)


def inputs():
    """Both embeddings, both logits and centres."""
    return [rows(5, 4, 1), rows(5, 4, 2), rows(5, 3, 3), rows(5, 3, 4), rows(3, 4, 5)]


def terms_of(u, v, a, b, centers, y=Y, ramp=0.4, **values):
    return objective_terms((u, v), (a, b), (y, y), centers, at(ramp), published("rono", **values))


def test_terms_by_loops():
    u, v, a, b, centers = inputs()
    config, n, classes = published("rono", w_ce=0.7, w_c=0.6, w_mg=0.5), 5, 3
    f, labels = torch.nn.functional.normalize(torch.cat([u, v])), [0, 1, 2, 0, 1] * 2
    c = torch.nn.functional.normalize(centers)
    warm = robust = noisy = 0.0
    for i in range(2 * n):
        s, q = (c.mean(0) @ f[i]).item(), (c[labels[i]] @ f[i]).item()
        warm += (math.exp(s) - math.exp((classes + 1) / classes * q)) / config.a1 / (2 * n)
        robust -= abs(math.exp(s) - math.exp(q) + config.rho) / config.a2 / (2 * n)
        noisy += (math.exp(q) - math.exp(s) < config.rho) / (2 * n)
    crc = 0.0
    for logits in (a, b):
        for i in range(n):
            crc += config.kappa * (1 - logits.softmax(1)[i, labels[i]].item()) / n
    terms = objective_terms((u, v), (a, b), (Y, Y), centers, at(0.4), config)
    rdc = 0.6 * warm + 0.4 * robust
    for name, value in {"rdc": rdc, "crc": crc, "noisy": noisy}.items():
        assert terms[name].item() == pytest.approx(value), name
    total = 0.7 * terms["crc"] + 0.6 * terms["rdc"] + 0.5 * terms["mg"]
    torch.testing.assert_close(terms["total"], total)


def test_the_gap_is_twice_nt_xent():
    u, v = inputs()[:2]
    f = torch.nn.functional.normalize(torch.cat([u, v]))
    scores = (f @ f.T / 0.22).fill_diagonal_(-torch.inf)
    wanted = 2 * cross_entropy(scores, (torch.arange(10) + 5) % 10)
    torch.testing.assert_close(modality_gap(u, v, 0.22), wanted)
    torch.testing.assert_close(modality_gap(v, u, 0.22), wanted)


def test_lengths_do_not_matter_so_gradients_are_orthogonal():
    u, v, a, b, centers = (x.requires_grad_() for x in inputs())
    terms = terms_of(u, v, a, b, centers)
    longer = terms_of(3 * u, v / 7, a, b, 2 * centers)
    for term, moved in (("rdc", (u, v, centers)), ("mg", (u, v))):
        torch.testing.assert_close(longer[term], terms[term])
        for x, gradient in zip(
            moved, torch.autograd.grad(terms[term], moved, retain_graph=True), strict=True
        ):
            torch.testing.assert_close((x * gradient).sum(1), torch.zeros(len(x)).double())


def test_the_border_turns_the_pull_into_a_push():
    config, s = published("rono"), at(0.0)[None]
    border = math.log(1 + config.rho)
    signs = []
    for q in (border + 0.01, border - 0.01):
        q_ = at(q)[None].requires_grad_()
        signs.append(torch.autograd.grad(center_loss(s, q_, 3, at(1), config), q_)[0].sign().item())
    assert signs == [-1, 1]
    q_ = at(border - 0.01)[None].requires_grad_()
    warm = torch.autograd.grad(center_loss(s, q_, 3, at(0), config), q_)[0]
    assert warm < 0, "before the ramp every row is drawn to its centre"


def test_ramp():
    assert [ramp_position(e, 5) for e in range(7)] == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert ramp_position(0, 1) == 1
    assert ramp_position(0, 0) == 1


def objective_of(**values):
    method = RONO(published("rono", hidden=4, dim=4, **values))
    return method.objectives(method.network(make_split(PAIR)))[0]


def test_the_centers_slow_down_and_the_networks_do_not():
    factors = [center_factor(update, 600) for update in (0, 1, 599, 600, 601, 1200, 1201)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01])
    objective = objective_of()
    centers, image = objective.groups
    assert centers.params == ("centers",)
    assert centers.optimizer == Adam(1e-4)
    assert centers.factor(3, 601) == pytest.approx(0.1)
    assert image.params == ("encoder.branches.0.",)
    assert image.optimizer == Adam(5e-5, weight_decay=1e-5)
    assert image.factor is None
    assert objective.factor is None
    assert objective.optimizer == Adam(1e-4, weight_decay=1e-5)
    apart = objective_of(share_last=False)
    assert apart.groups[1].params == ("encoder.branches.0.", "encoder.common.0.")
    sgd = objective_of(optimizer="sgd", lr={"default": 1e-3}, lr_centers=1e-3)
    assert sgd.optimizer == SGD(1e-3, 0.9, 1e-5)
    assert [g.optimizer for g in sgd.groups] == [SGD(1e-3)]


def test_the_order_of_the_batch_and_of_the_modalities_does_not_matter():
    u, v, a, b, centers = inputs()
    order = torch.tensor([3, 1, 4, 0, 2])
    plain = terms_of(u, v, a, b, centers)
    moved = terms_of(*(x[order] for x in (u, v, a, b)), centers, Y[order])
    swapped = terms_of(v, u, b, a, centers)
    classes = torch.tensor([2, 0, 1])
    renamed = terms_of(u, v, a[:, classes], b[:, classes], centers[classes], Y[:, classes])
    for other in (moved, swapped, renamed):
        for name, value in plain.items():
            torch.testing.assert_close(other[name], value)


@pytest.mark.parametrize(("n", "classes"), [(1, 3), (4, 200)])
@pytest.mark.parametrize("ramp", [0.0, 1.0])
def test_a_single_pair_many_classes_and_rows_without_length(n, classes, ramp):
    given = [rows(n, 4, 1), rows(n, 4, 2), rows(n, classes, 3), rows(n, classes, 4), rows(classes, 4, 5)]
    given[0][0] = 0
    given = [x.requires_grad_() for x in given]
    terms = terms_of(*given, y=one_hot([0] * n, classes), ramp=ramp)
    assert all(g.isfinite().all() for g in torch.autograd.grad(terms["total"], given))
    if n == 1:
        assert terms["mg"].item() == pytest.approx(0, abs=1e-12)


def test_rotation():
    start = rows(3, 4)
    assert rotation(2 * start, start) == 0
    turned = torch.tensor([[math.cos(0.1), math.sin(0.1)]], dtype=torch.float64)
    flat = torch.tensor([[5.0, 0.0]], dtype=torch.float64)
    assert rotation(turned, flat).item() == pytest.approx(math.degrees(0.1))
    assert rotation(-flat, flat).item() == pytest.approx(180)


def test_center_cosines_need_no_labels_of_length():
    s, q = center_cosines(rows(5, 4), Y, rows(3, 4, 1))
    cosines = torch.nn.functional.cosine_similarity(rows(5, 4)[:, None], rows(3, 4, 1)[None], dim=-1)
    torch.testing.assert_close(s, cosines.mean(1))
    torch.testing.assert_close(q, cosines[torch.arange(5), Y.argmax(1)])


def test_what_is_logged():
    curves = fit("rono")[1].history["rono"]
    assert len(curves["train/noisy"]) == 4
    assert all(0 <= share <= 1 for (share,) in curves["train/noisy"])
    assert all(angle > 0 for (angle,) in curves["val/rotation"])


def test_least_numbers_of_updates():
    steps = 2  # 30 pairs in batches of 16
    _, log = fit("rono", epochs=1, updates=3 * steps)
    assert len(log.history["rono"]["train/total"]) == 3
    ramps = {"ramp": 0.0, "ramp_updates": 6 * steps}, {"ramp": 1.0}, {"ramp": 0.0}
    models = [fit("rono", epochs=6, select="last", **values)[0][0] for values in ramps]
    embeds = [m.embed("image", rows(5, 8)) for m in models]
    assert torch.equal(embeds[0], embeds[1])
    assert not torch.allclose(embeds[0], embeds[2])


def test_datasets_of_many_classes_take_the_other_constants():
    entry = METHODS.get("rono")
    few, many = resolve(entry, "wikipedia", "paper"), resolve(entry, "xmedianet", "paper")
    assert (few["optimizer"].value, few["rho"].value) == ("adam", 0.3)
    assert (many["optimizer"].value, many["rho"].value) == ("sgd", 0.2)
