"""ALGCN against outputs of its public code (tests/parity/vectors/algcn.npz)."""

from dataclasses import replace
from pathlib import Path

import benchmark.methods.algcn
import numpy as np
import pytest
import torch
from benchmark.methods.algcn import ALGCN, ALGCNNet, adapted_graph, objective_terms, sampled_supervision
from benchmark.methods.blocks.graph import co_occurrence, label_scores, normalized, static_graph

from benchmark.core.method import FitLog, RunContext
from benchmark.training import Batch, Model, train_phase
from tests.methods.data import published

GOLDEN = np.load(Path(__file__).parent / "vectors" / "algcn.npz")
CONFIG = published(
    "algcn",
    dim=16,
    node_dim=10,
    epochs=1,
    lr=float(GOLDEN["par_lr"]),
    lr_edges=float(GOLDEN["par_lr"] * GOLDEN["par_lr_B_mult"]),
    betas=(float(GOLDEN["par_beta1"]), float(GOLDEN["par_beta2"])),
    alpha=float(GOLDEN["par_alpha"]),
    gamma=float(GOLDEN["par_gamma"]),
    super_weight=float(GOLDEN["par_super_weight"]),
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


def golden(name):
    return torch.from_numpy(GOLDEN[name]).double()


def close(got, name):
    torch.testing.assert_close(got, golden(name), rtol=1e-5, atol=1e-5)


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


class OneBatch:
    """Serves the rows of the vectors as they are."""

    sizes = (8,)

    def __init__(self, case):
        self.x = {m: golden(f"in_{name}") for m, name in INPUTS.items()}
        self.y = dict.fromkeys(INPUTS, golden(f"in_labels_{case}")[:8])

    def draw(self, generator):
        return {"key": torch.arange(8)}

    def gather(self, drawn):
        return Batch(self.x, self.y, {}, drawn)


@CASES
def test_a_step_of_training(case, monkeypatch):
    monkeypatch.setattr(benchmark.methods.algcn, "draw_masks", lambda *_: golden(f"in_{case}_masks"))
    net, params = network(case)
    phase = ALGCN(CONFIG).phase(net, OneBatch(case))
    phase = replace(phase, constants={"static": golden(f"in_{case}_w_A")[None]}, keep=())
    start = {n: p.detach()[None] for n, p in params.items()}
    done = train_phase(phase, start, RunContext(precision="fp64"), FitLog())
    assert done.history["train/total"][0][0] == pytest.approx(float(GOLDEN[f"out_{case}_total"]), abs=1e-5)
    after = {ours: f"out_{case}_after1step_{theirs}" for ours, theirs in NAMES.items()}
    checked = {ours: name for ours, name in after.items() if name in GOLDEN.files}
    assert len(checked) == 4
    for ours, name in checked.items():
        close(done.params[ours][0], name)
        assert not torch.allclose(done.params[ours][0], params[ours], rtol=0, atol=1e-6)
