"""Properties of ACMR."""

import math

import numpy as np
import pytest
import torch
from benchmark.methods.acmr import (
    ACMR,
    ACMRNet,
    closeness,
    dissimilarity,
    domain_loss,
    embedding_terms,
    hardest,
    norm,
    push,
    reversal,
    triplet,
)
from benchmark.methods.blocks.losses import shares_label

from benchmark.training import Batch, Model
from tests.methods.data import PAIR, fit, one_hot, published, rows

Y = one_hot(np.arange(9) % 3, 3)
X = rows(9, 8, 1), rows(9, 5, 2)


def differ(a, b):
    return ~shares_label(a, b)


def config(**values):
    return published("acmr", hidden_image=(7,), hidden_text=(6,), dim=4, hidden_domain=(5, 3), **values)


def network(seed=0, **values):
    torch.manual_seed(seed)
    net = ACMRNet(config(**values), 8, 5, 3).double()
    return net, {n: p.detach().requires_grad_() for n, p in net.named_parameters()}


def step(params, net, reversal_now=0.5, **values):
    """Per objective the gradients of its total by name; ``None`` for what the total does not depend on."""
    now = {"reversal": torch.tensor(reversal_now, dtype=torch.float64)}
    batch = Batch(dict(zip(PAIR, X, strict=True)), dict.fromkeys(PAIR, Y), {}, {}, now)
    found = []
    for objective in ACMR(config(**values)).objectives(net):
        names = [n for n in params if objective.moves(n)]
        total = objective.loss(Model(net, params), batch)["total"]
        gradients = torch.autograd.grad(total, [params[n] for n in names], allow_unused=True)
        found.append(dict(zip(names, gradients, strict=True)))
    return found


ONLY_DOMAIN = {"label_weight": 0.0, "similar_weight": 0.0, "dissimilar_weight": 0.0}


def gradients_of_domain(net):
    plain = domain_loss(net.domain(net.image(X[0])), net.domain(net.text(X[1])))
    names, params = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(plain, params, allow_unused=True), strict=True))


@pytest.mark.parametrize("loss", ["contrastive", "triplet", "paper"])
def test_split_keeps_the_adversary_away_from_the_projectors(loss):
    net, params = network()
    (first,) = step(params, net, 0.1, embedding_loss=loss)
    assert not any(name.startswith("label.") for name in first)
    _, others = network(seed=1)
    changed = {n: others[n] if n.startswith("domain.") else p for n, p in params.items()}
    (second,) = step(changed, net, 0.9, embedding_loss=loss)
    for name, gradient in first.items():
        assert gradient.any()
        assert torch.equal(gradient, second[name]) != name.startswith("domain."), name


def test_joint_reverses_the_gradient_behind_the_adversary_only():
    net, params = network()
    wanted = gradients_of_domain(net)
    (got,) = step(params, net, 0.7, update="joint", **ONLY_DOMAIN)
    for name, gradient in got.items():
        if name.startswith("label."):
            assert not gradient.any()
        else:
            factor = 1 if name.startswith("domain.") else -0.7
            torch.testing.assert_close(gradient, factor * wanted[name])


def test_alternate_moves_one_side_against_the_other():
    net, params = network()
    wanted = gradients_of_domain(net)
    projectors, adversary = step(params, net, update="alternate", **ONLY_DOMAIN)
    assert {n.partition(".")[0] for n in projectors} == {"image", "text", "label"}
    assert {n.partition(".")[0] for n in adversary} == {"domain"}
    for name, gradient in {**projectors, **adversary}.items():
        if not name.startswith("label."):
            factor = 1 if name.startswith("domain.") else -1
            torch.testing.assert_close(gradient, factor * wanted[name])


def test_reversal_grows_from_zero():
    assert reversal(0, 50) == 0
    assert [reversal(e, 50) for e in range(50)] == sorted(reversal(e, 50) for e in range(50))


@pytest.mark.parametrize(
    "values", [{}, {"update": "joint"}, {"update": "alternate"}, {"train_classifier": True}]
)
def test_what_training_moves(values):
    ((first,), log), ((last,), _) = fit("acmr", epochs=1, lr=0.0, **values), fit("acmr", **values)
    before, after = first.inner.model.tensors, last.inner.model.tensors
    moved = {n for n, p in after.items() if not torch.equal(p, before[n])}
    still = {n for n in after if n.startswith("label.")} if not values else set()
    assert moved == set(after) - still
    assert set(log.history["acmr"]) >= {"train/embedding", "train/label", "train/domain", "train/similar"}


def test_a_batch_of_one_class_has_nothing_to_push():
    v, w = rows(5, 4).tanh().requires_grad_(), rows(5, 4, 1).tanh().requires_grad_()
    different = differ(one_hot([0] * 5, 3), one_hot([0] * 5, 3))
    for loss in (
        dissimilarity(v, w, different, 0.1, true_distance=False),
        triplet(v, w, *hardest(rows(5, 6), different), 0.1, 5.0),
        push(v, w, *hardest(rows(5, 6), different), 1e3),
    ):
        assert loss.item() in (0.0, pytest.approx(0.1))
        for gradient in torch.autograd.grad(loss, (v, w), allow_unused=True, retain_graph=True):
            assert gradient is None or not gradient.any()
    assert dissimilarity(v, w, different, 0.1, true_distance=False).item() == pytest.approx(0.1)


def test_a_satisfied_triplet_hinge_is_zero_with_zero_gradient():
    v = torch.eye(3, 4, dtype=torch.float64).mul_(3).requires_grad_()
    loss = triplet(v, v.detach() + 1e-3, *hardest(v.detach(), differ(Y[:3], Y[:3])), 0.1, 5.0)
    assert loss == 0
    assert not torch.autograd.grad(loss, v)[0].any()


def test_norm_is_homogeneous_and_flat_at_zero():
    x = rows(4, 3)
    torch.testing.assert_close(norm(3 * x), 3 * norm(x))
    torch.testing.assert_close(norm(x, 1), torch.linalg.vector_norm(x, dim=1))
    zero = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    assert norm(zero) == 0
    assert not torch.autograd.grad(norm(zero), zero)[0].any()
    assert not torch.autograd.grad(norm(zero, 1).sum(), zero)[0].any()


def test_losses_of_zero_logits():
    zero = torch.zeros(6, 2, dtype=torch.float64)
    assert domain_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    logits, z = torch.zeros(9, 3, dtype=torch.float64), rows(9, 4)
    found = embedding_terms(config(), (z, z), (logits, logits), X, (Y, Y), [])
    assert found["label"].item() == pytest.approx(2 * math.log(3))


def test_the_domain_loss_knows_its_classes():
    sure = torch.tensor([[-9.0, 9.0]])
    assert domain_loss(sure, -sure) < 1e-6 < domain_loss(-sure, sure)


def test_mined_negatives_never_share_a_class():
    several = Y.clone()
    several[::2, 0] = 1
    several[0] = 1  # shares a class with every other
    for labels in (Y, several):
        different = differ(labels, labels)
        found, has = hardest(-rows(9, 4).abs() * torch.arange(9)[:, None], different)
        for i in range(9):
            assert bool(has[i]) == bool(different[i].any())
            assert not has[i] or different[i, found[i]]
    assert not has[0]
    assert has[1:].any()


def test_mining_takes_the_highest_cosine_even_if_all_are_negative():
    x = torch.tensor([[1.0, 0.0], [2.0, 0.1], [-1.0, 0.4], [-1.0, 0.1]], dtype=torch.float64)
    found, has = hardest(x, differ(one_hot([0, 0, 1, 2], 3), one_hot([0, 0, 1, 2], 3)))
    assert found.tolist() == [2, 2, 3, 2]
    assert has.all()


def embedding_of(values, order, v, w):
    logits, features = (v[order, :3], w[order, :3]), tuple(x[order] for x in X)
    labels, weights = (Y[order], Y[order]), [rows(3, 3)]
    return embedding_terms(config(**values), (v[order], w[order]), logits, features, labels, weights)[
        "embedding"
    ]


WEIGHTED = {"margin": 1.0, "similar_weight": 2.0, "dissimilar_weight": 0.5, "decay": 0.3}


@pytest.mark.parametrize("loss", ["contrastive", "triplet", "paper"])
def test_the_order_of_pairs_does_not_matter(loss):
    given, v, w = {**WEIGHTED, "embedding_loss": loss}, rows(9, 4).tanh(), rows(9, 4, 1).tanh()
    moved, wanted = (embedding_of(given, order, v, w) for order in (torch.randperm(9), torch.arange(9)))
    torch.testing.assert_close(moved, wanted)


def test_the_papers_loss_against_plain_loops():
    v, w = rows(9, 4).tanh(), rows(9, 4, 1).tanh()
    got = embedding_of({**WEIGHTED, "embedding_loss": "paper"}, torch.arange(9), v, w).item()
    wanted = 0.3 * rows(3, 3).norm().item()
    for i in range(9):
        for z in (v, w):
            wanted -= 100 * z[i, :3].log_softmax(0)[i % 3].item() / 9
    others = [[j for j in range(9) if j % 3 != i % 3] for i in range(9)]

    def nearest(x, i):
        return max(others[i], key=lambda j: torch.cosine_similarity(x[i], x[j], dim=0).item())

    distance = [[(v[i] - w[j]).norm().item() for j in range(9)] for i in range(9)]
    a, b = [nearest(X[0], i) for i in range(9)], [nearest(X[1], i) for i in range(9)]
    for i in range(9):
        wanted += 2 * (2 * distance[i][i] + 0.5 * max(0, 1 - distance[i][a[i]]))
        wanted += 2 * 0.5 * max(0, 1 - distance[b[i]][i])
    assert got == pytest.approx(wanted)


def test_true_distance_is_the_squared_one():
    v, w = rows(9, 4).tanh(), rows(9, 4, 1).tanh()
    got = dissimilarity(v, w, differ(Y, Y), 2.0, true_distance=True)
    distance = torch.where(differ(Y, Y), torch.cdist(v, w) ** 2, 0)
    torch.testing.assert_close(got, (2.0 - distance).relu().mean())


@pytest.mark.parametrize("loss", ["contrastive", "triplet", "paper"])
def test_gradients(loss):
    given = {"embedding_loss": loss, "label_weight": 1.0, "dissimilar_weight": 2.0, "margin": 2.0}
    v, w = rows(9, 4).tanh().requires_grad_(), rows(9, 4, 1).tanh().requires_grad_()
    assert torch.autograd.gradcheck(lambda v, w: embedding_of(given, torch.arange(9), v, w), (v, w))


def test_ranking_is_by_euclidean_distance():
    a, b = rows(5, 4), rows(7, 4, 1)
    distance = torch.cdist(a, b)
    assert torch.equal(closeness(a, b).argsort(dim=1, descending=True), distance.argsort(dim=1))
    torch.testing.assert_close(closeness(a, b), (a**2).sum(1, keepdim=True) - distance**2)
    (model,), _ = fit("acmr")
    x, y = rows(6, 8), rows(4, 5)
    forth, back = model.similarity("image", x, "text", y), model.similarity("text", y, "image", x)
    distance = torch.cdist(model.embed("image", x), model.embed("text", y))
    assert torch.equal(forth.argsort(dim=1, descending=True), distance.argsort(dim=1))
    assert torch.equal(back.argsort(dim=1, descending=True), distance.T.argsort(dim=1))
