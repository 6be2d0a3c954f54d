"""COXI against outputs of its public code (tests/parity/vectors/coxi.npz)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.layers import unit_rows
from benchmark.methods.coxi import COXI, COXINet, objective_terms
from torch import nn

from benchmark.evaluation.validation import mean_average_precision
from benchmark.training import Model
from tests.methods.data import published
from tests.parity.golden import curve, in_order, numbers, paired, train, vectors

GOLDEN, golden, close = vectors("coxi")
INPUTS = ("f1", "f2", "logits1", "logits2", "proxies")
LAYERS = {
    **{f"encoder.own.{m}.{k}": f"{n}_fc{k + 1}" for m, n in enumerate(("img", "txt")) for k in (0, 1)},
    "encoder.third.0": "img_fc3",
    "encoder.third.1": "txt_fc3",
    "encoder.shared": "shared",
    "classifier": "cls",
}


def config(case, **values):
    given = numbers(GOLDEN, "margin", "alpha", "beta", "gamma", prefix=f"par_{case}_")
    return published("coxi", **given, **values)


def labels():
    return torch.eye(4, dtype=torch.float64)[GOLDEN["in_labels"]]


@pytest.mark.parametrize("case", ["A", "B", "C"])
def test_objective_with_gradients(case):
    given = [golden(f"in_{n}").requires_grad_() for n in INPUTS]
    f1, f2, a, b, proxies = given
    terms = objective_terms((f1, f2), (a, b), (labels(), labels()), proxies, config(case))
    for name, theirs in (
        ("total", "total"),
        ("proxy", "p_loss"),
        ("label", "d_loss"),
        ("distance", "m_loss"),
    ):
        close(terms[name], f"out_{case}_{theirs}")
    for name, gradient in zip(INPUTS, torch.autograd.grad(terms["total"], given), strict=True):
        close(gradient, f"out_{case}_grad_{name}")


def test_networks():
    net = COXINet({"image": 12, "text": 9}, published("coxi", hidden=(10, 10, 8), dim=6), 4)
    params = {
        f"{o}.{part}": golden(f"in_net_{t}_{part}") for o, t in LAYERS.items() for part in ("weight", "bias")
    }
    assert set(params) == {n for n, _ in net.named_parameters()} - {"proxies"}
    model = Model(net, params)
    for number, (modality, x) in enumerate((("image", "in_net_img"), ("text", "in_net_txt")), start=1):
        f = model.encoder(modality, golden(x))
        close(f, f"out_net_f{number}")
        close(model.classifier(f), f"out_net_logits{number}")


def test_retrieval():
    y = labels()
    scores, relevant = unit_rows(golden("in_f1")) @ unit_rows(golden("in_f2")).T, y @ y.T > 0
    close(mean_average_precision(scores, relevant), "out_map_f1_to_f2")
    close(mean_average_precision(scores.T, relevant.T), "out_map_f2_to_f1")


class Free(nn.Module):
    """In the place of the encoder: embeddings that are parameters."""

    def __init__(self):
        super().__init__()
        self.image, self.text = (nn.Parameter(golden(f)) for f in ("in_f1", "in_f2"))

    def forward(self, modality, x, keys=None):
        return getattr(self, modality)


def test_steps_of_network_and_proxies():
    rates = numbers(GOLDEN, lr="step_lr", lr_proxies="step_lr_proxy")
    method = COXI(config("A", epochs=int(GOLDEN["par_step_n"]), dim=16, **rates))
    net = COXINet({"image": 1, "text": 1}, method.config, 4)
    net.encoder = Free()
    free = {"encoder.image": "f1", "encoder.text": "f2", "proxies": "proxies"}
    linear = {"classifier.weight": "step_cls_weight", "classifier.bias": "step_cls_bias"}
    params = {ours: golden(f"in_{theirs}") for ours, theirs in {**free, **linear}.items()}
    empty = np.zeros((10, 1), np.float32)
    sampler = in_order(paired(GOLDEN["in_labels"], 4, image=empty, text=empty))
    trained, history = train(replace(method.phase(net, sampler), keep=()), params)
    close(curve(history), "out_step_losses", 1e-4)
    for ours, theirs in {**free, "classifier.weight": "cls_weight"}.items():
        close(trained[ours], f"out_step_{theirs}", 1e-4)
        moved = (golden(f"out_step_{theirs}") - params[ours]).abs().max()
        error = (trained[ours] - golden(f"out_step_{theirs}")).abs().max()
        assert error < 0.01 * moved, "a tolerance wider than the step would prove nothing"
