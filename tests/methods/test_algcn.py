"""Properties of ALGCN and of label graphs."""

import itertools

import numpy as np
import pytest
import torch
from benchmark.methods.algcn import (
    ALGCN,
    ALGCNNet,
    adapted_graph,
    draw_masks,
    expected_supervision,
    objective_terms,
    sampled_supervision,
)
from benchmark.methods.blocks.graph import (
    LabelNet,
    label_graph,
    label_scores,
    normalized,
    score_distance,
    static_graph,
)
from torch.autograd import gradcheck

from benchmark.core.method import FitLog, RunContext
from benchmark.training import Model, train_phase
from tests.methods.data import PAIR, make_split, one_hot, published, rows, several_labels, started

CONFIG = published("algcn", dim=6, node_dim=4, layers=2)


def world(n=7, classes=3):
    """Parameters of a small model with their gradients on, features and labels."""
    net = ALGCNNet({"image": 5, "text": 4}, torch.rand(classes, 4), CONFIG).double()
    params = {name: p.detach().requires_grad_() for name, p in net.named_parameters()}
    params["edges"] = rows(classes, classes, seed=3).requires_grad_()
    masks = (torch.rand(2, classes, classes) < 0.2).double()
    y = torch.maximum(one_hot(np.arange(n) % classes, classes), one_hot([0] * n, classes))
    y[::2] = one_hot(np.arange(n)[::2] % classes, classes)
    return net, params, {"image": rows(n, 5, 1), "text": rows(n, 4, 2)}, y, masks


def objective(net, params, x, y, masks, static=None):
    static = static_graph(y, 0.4) if static is None else static
    model = Model(net, params)
    features = tuple(ALGCN(CONFIG).embed(model, name, x[name]) for name in ("image", "text"))
    graph = adapted_graph(static, model.edges, CONFIG.gamma)
    classifiers = model.labels(graph)
    scores = tuple(label_scores(each, classifiers) for each in features)
    return objective_terms(features, scores, (y, y), sampled_supervision(graph, static, masks), CONFIG)


def test_labels_of_one_class_have_no_edges():
    labels = one_hot([0, 0, 1, 3, 3, 3], 5)  # nobody has class 2 or 4
    static = static_graph(labels, 0.4)
    assert torch.equal(static.diagonal(), torch.tensor([1.5, 1.5, 1.0, 1.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(
        adapted_graph(static, torch.zeros(5, 5), 0.5), torch.eye(5, dtype=torch.float64)
    )


def test_edges_follow_the_share_of_a_class():
    labels = torch.tensor([[1, 0], [1, 0], [1, 1]], dtype=torch.float64)  # all of class 1, a third of class 0
    assert static_graph(labels, 0.4).tolist() == [[1.5, 0.5], [0.0, 1.5]]
    assert static_graph(labels, 0.4, "row").tolist() == [[1.5, 0.0], [0.5, 1.5]]
    assert static_graph(labels, 0.3).tolist() == [[1.5, 0.5], [0.5, 1.5]]
    column = normalized(static_graph(labels, 0.4))
    assert column[1, 0] == pytest.approx(0.5 / (2.0 * 1.5) ** 0.5)
    assert column[0, 1] == 0


def test_the_graph_of_a_split_counts_pairs_in_every_modality():
    split = several_labels(make_split(PAIR, multi=True, paired=True))
    labels = torch.from_numpy(split.label_matrix("image")).double()
    found = label_graph(split, RunContext(), 0.4)
    assert found.dtype == torch.float64
    assert torch.equal(found, static_graph(labels, 0.4))
    assert not torch.equal(found, label_graph(split, RunContext(), 0.4, "row"))


def test_a_normalised_graph_has_no_scale():
    graph = rows(4, 4).abs()
    torch.testing.assert_close(normalized(7 * graph), normalized(graph))
    loops = torch.zeros(4, 4, dtype=torch.float64)
    for i, j in itertools.product(range(4), repeat=2):
        loops[i, j] = graph[j, i] / (graph[i].sum() * graph[j].sum()).sqrt()
    torch.testing.assert_close(normalized(graph), loops)


def test_a_row_of_edges_may_vanish():
    edges = rows(3, 3)
    edges[1] = -10
    edges.requires_grad_()
    graph = adapted_graph(1.5 * torch.eye(3, dtype=torch.float64), edges, 0.5)
    gradient = torch.autograd.grad((graph**2).sum(), edges)[0]
    assert graph.isfinite().all()
    assert gradient.isfinite().all()
    assert not gradient[1].any()


def test_the_supervision_moves_open_edges_alone():
    net, params, x, y, masks = world()
    terms = objective(net, params, x, y, masks)
    gradients = torch.autograd.grad(terms["supervision"], list(params.values()), allow_unused=True)
    found = dict(zip(params, gradients, strict=True))
    assert [name for name, gradient in found.items() if gradient is not None] == ["edges"]
    closed = static_graph(y, 0.4) + CONFIG.gamma * params["edges"] < 0
    assert closed.any()
    assert not found["edges"][closed].any()
    assert found["edges"][~closed].all()


def test_the_order_of_pairs_and_of_classes_does_not_matter():
    net, params, x, y, masks = world()
    wanted = objective(net, params, x, y, masks)
    order = torch.randperm(7)
    moved = objective(net, params, {m: r[order] for m, r in x.items()}, y[order], masks)
    turn = torch.tensor([2, 0, 1])
    turned = {**params, "edges": params["edges"][turn][:, turn]}
    turned["labels.nodes"] = params["labels.nodes"][turn]
    classes = objective(net, turned, x, y[:, turn], masks[:, turn][:, :, turn])
    for name, value in wanted.items():
        torch.testing.assert_close(moved[name], value)
        torch.testing.assert_close(classes[name], value)


def test_lengths_of_embeddings_do_not_matter():
    u, v, y = rows(5, 6).relu() + 0.1, rows(5, 6, 1).relu() + 0.1, one_hot([0, 1, 2, 0, 1], 3)
    classifiers = rows(3, 6, 2)

    def terms(u):
        scores = label_scores(u, classifiers), label_scores(v, classifiers)
        return objective_terms((u, v), scores, (y, y), torch.zeros(()), CONFIG)

    longer = torch.cat([100 * u[:2], u[2:]])
    for name in ("label", "similarity"):
        torch.testing.assert_close(terms(longer)[name], terms(u)[name], rtol=1e-5, atol=1e-5)


def test_sampled_targets_average_to_the_expected_one():
    static = torch.tensor([[1.5, 0.5], [0.0, 1.5]], dtype=torch.float64)
    graph, rate = rows(2, 2).requires_grad_(), 0.2
    mean = torch.zeros((), dtype=torch.float64)
    for bits in itertools.product((0.0, 1.0), repeat=4):
        share = rate ** sum(bits) * (1 - rate) ** (4 - sum(bits))
        masks = torch.tensor(bits, dtype=torch.float64).reshape(1, 2, 2).expand(3, 2, 2)
        mean = mean + share * sampled_supervision(graph, static, masks)
    expected = expected_supervision(graph, static, rate, 3)
    assert (mean - expected).item() == pytest.approx(3 * 0.04 / 4)  # one entry of A is zero
    torch.testing.assert_close(*(torch.autograd.grad(each, graph)[0] for each in (mean, expected)))


def test_masks_follow_the_key():
    config = published("algcn", negative_rate=0.2)
    keys = torch.tensor([5, 6])
    masks = draw_masks(keys, config, 40)
    assert masks.shape == (3, 40, 40)
    assert masks.double().mean().item() == pytest.approx(0.2, abs=0.02)
    assert not torch.equal(masks[0], masks[1])
    assert torch.equal(masks, draw_masks(keys[:1], config, 40))
    assert not torch.equal(masks, draw_masks(keys[1:], config, 40))


def test_gradients_are_finite_at_zero_rows_and_absent_classes():
    net, params, x, y, masks = world(classes=4)
    y = y[:, :3].clone()
    y = torch.cat([y, torch.zeros(7, 1, dtype=torch.float64)], dim=1)
    with torch.no_grad():
        params["encoders.image.bias"].fill_(0)
        x["image"][0] = 0
    terms = objective(net, params, x, y, masks)
    for gradient in torch.autograd.grad(terms["total"], list(params.values())):
        assert gradient.isfinite().all()
    perfect = one_hot([0], 3).requires_grad_()
    assert not torch.autograd.grad(score_distance(perfect, one_hot([0], 3)), perfect)[0].any()


def test_gradients():
    nodes, weight = rows(3, 4).requires_grad_(), rows(4, 5, 1).requires_grad_()
    edges, u = rows(3, 3, 2).requires_grad_(), rows(6, 5, 3).requires_grad_()
    net = LabelNet(torch.zeros(3, 4), 5, 1).double()
    static, y = static_graph(one_hot([0, 1, 2], 3), 0.4), one_hot(np.arange(6) % 3, 3)
    masks = (rows(9, 1).reshape(1, 3, 3) > 1).double()

    def total(nodes, weight, edges, u):
        graph = adapted_graph(static, edges, 0.5)
        params = {**dict(net.named_parameters()), "nodes": nodes, "layers.0": weight}
        classifiers = Model(net, params)(graph)
        scores = label_scores(u, classifiers), label_scores(2 - u, classifiers)
        supervision = sampled_supervision(graph, static, masks)
        return objective_terms((u, 2 - u), scores, (y, y), supervision, CONFIG)["total"]

    assert gradcheck(total, (nodes, weight, edges, u))


def test_learned_edges_have_a_learning_rate_of_their_own():
    method = ALGCN(published("algcn", dim=8, node_dim=4, epochs=1, batch=100))
    phase, start = started(method, make_split(PAIR))
    after = train_phase(phase, start, RunContext(precision="fp64"), FitLog()).params
    steps = {name: (after[name] - p).abs().max().item() for name, p in start.items()}
    assert steps.pop("edges") == pytest.approx(5e-3, rel=1e-3)  # Adam's first step is the rate
    assert list(steps.values()) == pytest.approx([5e-5] * 10, rel=1e-2)
