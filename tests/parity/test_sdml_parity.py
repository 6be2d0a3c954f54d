"""SDML against outputs of its public code (tests/parity/vectors/sdml.npz)."""

from dataclasses import replace

import pytest
import torch
from benchmark.methods.blocks.losses import label_distance
from benchmark.methods.blocks.prior import scale_prior
from benchmark.methods.sdml import SDML, AutoEncoder, objective_terms

from benchmark.training import Batch, Model
from tests.methods.data import published
from tests.parity.golden import AsStored, curve, train, vectors

GOLDEN, golden, close = vectors("sdml")
LAYERS = {"hidden.0": "fc1", "hidden.1": "fc2", "last": "fc3"}
PARTS = {"encoder": "net", "decoder": "ae"}
NAMES = {
    f"{ours}.{layer}.{part}": f"{theirs}_{fc}.{part}"
    for ours, theirs in PARTS.items()
    for layer, fc in LAYERS.items()
    for part in ("weight", "bias")
}


def prior(kind):
    if kind == "P":
        return golden("in_P")
    return scale_prior(golden("in_W")[None], {"Wraw": "none", "Wunit": "unit", "Wmean": "mean"}[kind])[0]


def test_scaled_priors():
    close(prior("Wunit"), "out_W_unit")
    close(prior("Wmean"), "out_W_mean")
    torch.testing.assert_close(
        scale_prior(golden("in_P")[None], "unit")[0], golden("in_P"), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["P", "Wraw", "Wunit", "Wmean"])
@pytest.mark.parametrize(("rows", "labels"), [("full", "in_y"), ("unl", "in_y_unl")])
def test_objective_with_gradients(kind, rows, labels):
    h, xhat = golden("in_h").requires_grad_(), golden("in_xhat").requires_grad_()
    alpha = float(GOLDEN["par_alpha"])
    terms = objective_terms(h, xhat, golden("in_x"), golden(labels), prior(kind), alpha)
    close(terms["label"], f"out_label_{kind}_{rows}")
    close(terms["reconstruction"], "out_recon")
    close(terms["total"], f"out_total_{kind}_{rows}")
    by_h, by_xhat = torch.autograd.grad(terms["total"], (h, xhat))
    close(by_h, f"out_grad_h_{kind}_{rows}")
    close(by_xhat, "out_grad_xhat")


def test_validation_counts_every_row():
    got = label_distance(golden("in_h"), golden("in_P"), golden("in_y_unl")).mean()
    close(got, "out_val_label_P_unl")


def network():
    params = {ours: golden(f"in_{theirs}") for ours, theirs in NAMES.items()}
    return AutoEncoder(20, (12, 12), 16, decoder_norm=True).to("meta"), params


def test_networks_and_their_gradients():
    net, params = network()
    params = {n: p.requires_grad_() for n, p in params.items()}
    h, xhat = Model(net, params)(golden("in_x"))
    close(h, "out_net3_h")
    close(xhat, "out_net3_xhat")
    alpha = float(GOLDEN["par_alpha"])
    terms = objective_terms(h, xhat, golden("in_x"), golden("in_y_unl"), golden("in_P"), alpha)
    close(alpha * terms["reconstruction"], "out_net3_ae")
    close((1 - alpha) * terms["label"], "out_net3_dl")
    gradients = torch.autograd.grad(terms["total"], list(params.values()))
    for ours, gradient in zip(params, gradients, strict=True):
        close(gradient, f"out_net3_grad_{NAMES[ours]}")


def test_three_steps_of_training():
    net, params = network()
    x, y = golden("in_x"), golden("in_y_unl")
    betas = tuple(golden("par_betas").tolist())
    rates = {"default": float(GOLDEN["par_lr"])}
    method = SDML(published("sdml", epochs=3, betas=betas, lr=rates, select="last"))
    phase = method.phase(net, AsStored(Batch({"image": x}, {"image": y}, {}, {})), (x, y), "image")
    trained, history = train(replace(phase, constants={"prior": golden("in_P")[None]}), params)
    for step, loss in enumerate(curve(history)):
        close(loss, f"out_net3_loss{step}")
    for ours, value in trained.items():
        close(value, f"out_net3_step3_{NAMES[ours]}", tolerance=2e-6)
