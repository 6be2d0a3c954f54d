"""DSCMR against outputs of its public code (tests/parity/vectors/dscmr.npz)."""

from dataclasses import replace

import pytest
import torch
from benchmark.methods.blocks.layers import unit_rows
from benchmark.methods.blocks.losses import half_cosine_likelihood
from benchmark.methods.dscmr import DSCMR, DSCMRNet, objective_terms

from benchmark.evaluation.validation import mean_average_precision, validation_map
from benchmark.training import Model
from tests.methods.data import published
from tests.parity.golden import curve, in_order, numbers, paired, train, vectors

GOLDEN, golden, close = vectors("dscmr")
PAIRS = {"uu": ("in_u", "in_u"), "uv": ("in_u", "in_v"), "vv": ("in_v", "in_v")}
LAYERS = {
    "encoder.branches.0": "img_fc",
    "encoder.branches.1": "txt_fc",
    "encoder.common.0": "shared_fc",
    "classifier": "cls_fc",
}
NAMES = {f"{o}.{part}": f"{t}_{part}" for o, t in LAYERS.items() for part in ("weight", "bias")}
INPUTS = ("u", "v", "pu", "pv")


def config(**values):
    return published("dscmr", **{**numbers(GOLDEN, "lr", "betas", "alpha", "beta"), **values})


def terms_of(labels="in_y", **values):
    given = [golden(f"in_{n}").requires_grad_() for n in INPUTS]
    y = golden(labels)
    return objective_terms(tuple(given[:2]), tuple(given[2:]), (y, y), config(**values)), given


@pytest.mark.parametrize(("suffix", "weights"), [("", {}), ("_w1", {"alpha": 1.0, "beta": 1.0})])
def test_objective_with_gradients(suffix, weights):
    terms, given = terms_of(**weights)
    close(terms["total"], f"out_total{suffix}")
    for name, term in (("label", 1), ("common", 2), ("invariance", 3)):
        close(terms[name], f"out_term{term}")
    grad = "out_grad_" if not suffix else "out_grad_w1_"
    for name, gradient in zip(INPUTS, torch.autograd.grad(terms["total"], given), strict=True):
        close(gradient, grad + name)


def test_several_labels():
    terms, _ = terms_of("in_y_multihot")
    close(terms["total"], "out_total_multihot")
    close(terms["common"], "out_term2_multihot")


@pytest.mark.parametrize(("pair", "number"), [("uu", 21), ("uv", 22), ("vv", 23)])
def test_parts_of_the_common_space_term(pair, number):
    a, b = (golden(n) for n in PAIRS[pair])
    y = golden("in_y")
    close(half_cosine_likelihood(a, b, y, y), f"out_term{number}_{pair}")
    # of a single pair without a label in common the loss is softplus(theta)
    none = torch.zeros(1, 4, dtype=torch.float64)
    one = torch.vmap(
        torch.vmap(lambda x, z: half_cosine_likelihood(x[None], z[None], none, none), (None, 0)), (0, None)
    )
    close(torch.log(torch.expm1(one(a, b))), f"out_theta_{pair}")


def network():
    return DSCMRNet({"image": 20, "text": 14}, 16, 10, 4), {o: golden(f"in_w_{t}") for o, t in NAMES.items()}


def test_networks_and_retrieval():
    net, params = network()
    model = Model(net, params)
    u, v = model.encoder({"image": golden("in_img"), "text": golden("in_txt")}).values()
    pu, pv = model.classifier(u), model.classifier(v)
    for name, value in zip(INPUTS, (u, v, pu, pv), strict=True):
        close(value, f"out_fwd_{name}")
    y = golden("in_y")
    scores, relevant = unit_rows(u) @ unit_rows(v).T, y @ y.T > 0
    close(mean_average_precision(scores, relevant), "out_map_i2t")
    close(mean_average_precision(scores.T, relevant.T), "out_map_t2i")
    both = (golden("out_map_i2t") + golden("out_map_t2i")) / 2
    torch.testing.assert_close(
        validation_map({"image": u, "text": v}, {"image": y, "text": y}), both, rtol=1e-5, atol=1e-5
    )


def test_five_steps_of_training():
    net, params = network()
    sampler = in_order(paired(GOLDEN["in_labels"], 4, image=GOLDEN["in_img"], text=GOLDEN["in_txt"]))
    assert sampler.sizes == (12,)
    phase = DSCMR(config(epochs=5)).phase(net, sampler)
    trained, history = train(replace(phase, keep=()), params)
    close(curve(history), "out_train_losses")
    for ours, theirs in NAMES.items():
        close(trained[ours], f"out_w5_{theirs}")
    assert float(GOLDEN["par_eps"]) == phase.objectives[0].optimizer.eps
