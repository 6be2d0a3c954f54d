"""ALGCN against outputs of its public code (tests/parity/vectors/algcn.npz)."""

from dataclasses import replace

import benchmark.methods.algcn
import pytest
import torch
from benchmark.methods.algcn import ALGCN, ALGCNNet, adapted_graph, objective_terms, sampled_supervision
from benchmark.methods.blocks.graph import co_occurrence, label_scores, normalized, static_graph

from benchmark.training import Batch, Model
from tests.methods.data import published
from tests.parity.golden import AsStored, curve, numbers, train, vectors

GOLDEN, golden, close = vectors("algcn")
CONFIG = published(
    "algcn",
    dim=16,
    node_dim=10,
    epochs=1,
    lr_edges=float(GOLDEN["par_lr"] * GOLDEN["par_lr_B_mult"]),
    **numbers(GOLDEN, "lr", "betas", "alpha", "gamma", "super_weight"),
)
NAMES = {
    "edges": "B",
    "labels.nodes": "inp",
    "labels.layers.0": "gc1.weight",
    "labels.layers.1": "gc2.weight",
    "labels.layers.2": "gc3.weight",
    "labels.last.weight": "hypo.weight",
    "labels.last.bias": "hypo.bias",
    "encoders.image.weight": "img_net.denseL1.weight",
    "encoders.image.bias": "img_net.denseL1.bias",
    "encoders.text.weight": "text_net.denseL1.weight",
    "encoders.text.bias": "text_net.denseL1.bias",
}
INPUTS = {"image": "img", "text": "txt"}
CASES = pytest.mark.parametrize("case", ["single", "multi"])


def network(case):
    net = ALGCNNet({"image": 12, "text": 9}, torch.zeros(4, 10), CONFIG).to("meta")
    return net, {ours: golden(f"in_{case}_w_{theirs}").requires_grad_() for ours, theirs in NAMES.items()}


@CASES
def test_graph(case):
    labels = golden(f"in_labels_{case}")
    together, counts = co_occurrence(labels)
    # the public counter adds the diagonal twice
    assert torch.equal(together + together.diag().diag(), golden(f"out_counts_{case}"))
    if case == "multi":
        assert torch.equal(counts, golden("out_nums_multi"))
    static = static_graph(labels, round(float(GOLDEN["par_t"]), 6))
    close(static, f"out_A_{case}")
    assert torch.equal(static, golden(f"in_{case}_w_A"))
    close(normalized(static), f"out_Ahat_{case}")


@CASES
def test_a_step_with_its_gradients(case):
    net, params = network(case)
    model, method = Model(net, params), ALGCN(CONFIG)
    static, y = golden(f"in_{case}_w_A"), golden(f"in_labels_{case}")[:8]
    graph = adapted_graph(static, model.edges, CONFIG.gamma)
    features = tuple(method.embed(model, m, golden(f"in_{name}")) for m, name in INPUTS.items())
    classifiers = model.labels(graph)
    scores = tuple(label_scores(each, classifiers) for each in features)
    supervision = sampled_supervision(graph, static, golden(f"in_{case}_masks"))
    terms = objective_terms(features, scores, (y, y), supervision, CONFIG)
    found = {
        "adj": graph,
        "feat_img": features[0],
        "feat_txt": features[1],
        "pred_img": scores[0],
        "pred_txt": scores[1],
        "classifiers": classifiers,
        "loss_cls": terms["label"],
        "loss_sim": terms["similarity"],
        "super_loss": terms["supervision"],
        "total": terms["total"],
    }
    for name, value in found.items():
        close(value, f"out_{case}_{name}")
    wanted = {f"w_{NAMES[ours]}": leaf for ours, leaf in params.items()}
    wanted |= {name: found[name] for name in ("feat_img", "feat_txt", "pred_img", "pred_txt")}
    gradients = torch.autograd.grad(terms["total"], list(wanted.values()))
    for name, gradient in zip(wanted, gradients, strict=True):
        close(gradient, f"out_{case}_grad_{name}")


@CASES
def test_a_step_of_training(case, monkeypatch):
    monkeypatch.setattr(benchmark.methods.algcn, "draw_masks", lambda *_: golden(f"in_{case}_masks"))
    net, params = network(case)
    x, y = {m: golden(f"in_{name}") for m, name in INPUTS.items()}, golden(f"in_labels_{case}")[:8]
    phase = ALGCN(CONFIG).phase(net, AsStored(Batch(x, dict.fromkeys(x, y), {}, {"key": torch.arange(8)})))
    trained, history = train(
        replace(phase, constants={"static": golden(f"in_{case}_w_A")[None]}, keep=()), params
    )
    assert curve(history).item() == pytest.approx(float(GOLDEN[f"out_{case}_total"]), abs=1e-5)
    after = {ours: f"out_{case}_after1step_{theirs}" for ours, theirs in NAMES.items()}
    checked = {ours: name for ours, name in after.items() if name in GOLDEN}
    assert len(checked) == 4
    for ours, name in checked.items():
        close(trained[ours], name)
        assert not torch.allclose(trained[ours], params[ours], rtol=0, atol=1e-6)
