"""MARS against outputs of its public code (tests/parity/vectors/mars.npz)."""

from dataclasses import replace

import pytest
import torch
from benchmark.methods.blocks.layers import MLP, part_of
from benchmark.methods.blocks.losses import cross_entropy, pair_likelihood
from benchmark.methods.blocks.prior import scale_prior
from benchmark.methods.mars import MARS, DataNetwork, Networks, largest_log_probability

from benchmark.training import Batch, Model
from tests.methods.data import published
from tests.parity.golden import AsStored, curve, numbers, vectors
from tests.parity.golden import train as train_one

GOLDEN, golden, close = vectors("mars")
LABEL = {
    f"{layer}.{part}": f"{fc}.{part}"
    for layer, fc in {"hidden.0": "fc1", "hidden.1": "fc2", "last": "fc3"}.items()
    for part in ("weight", "bias")
}
DATA = {f"trunk.{k}.{part}": f"fc{k + 1}.{part}" for k in (0, 1) for part in ("weight", "bias")} | {
    "shared.weight": "fc3s.weight",
    "exclusive.weight": "fc3e.weight",
}


def prior(kind):
    if kind == "P":
        return golden("in_P")
    return scale_prior(golden("in_W")[None], "unit" if kind == "Wunit" else "none")[0]


@pytest.mark.parametrize(
    ("case", "y_l", "y_d"),
    [("onehot", "in_yl", "in_yd"), ("multi", "in_ym1", "in_ym2"), ("unl", "in_yl", "in_yd_unl")],
)
def test_pair_terms_with_gradients(case, y_l, y_d):
    l, s = golden("in_l").requires_grad_(), golden("in_s").requires_grad_()  # noqa: E741 - as in the paper
    y_l, y_d = golden(y_l), golden(y_d)
    for name, (a, b, y_a, y_b) in {
        "ld": (l, s, y_l, y_d),
        "ll": (l, l, y_l, y_l),
        "dd": (s, s, y_d, y_d),
    }.items():
        loss = pair_likelihood(a, b, y_a, y_b)
        close(loss, f"out_pair_{name}_{case}")
        for letter, leaf in (("l", l), ("s", s)):
            if letter in {"ld": "ls", "ll": "l", "dd": "s"}[name]:
                gradient = torch.autograd.grad(loss, leaf, retain_graph=True)[0]
                close(gradient, f"out_grad_{letter}_{name}_{case}")


@pytest.mark.parametrize("kind", ["P", "Wraw", "Wunit"])
def test_classification_and_its_opposite(kind):
    s, e = golden("in_s").requires_grad_(), golden("in_e").requires_grad_()
    loss = cross_entropy(s @ prior(kind), golden("in_yd"))
    close(loss, f"out_ce_{kind}")
    close(torch.autograd.grad(loss, s)[0], f"out_grad_s_ce_{kind}")
    loss = largest_log_probability(e @ prior(kind), golden("in_yd"))
    close(loss, f"out_maxlogp_{kind}")
    close(torch.autograd.grad(loss, e)[0], f"out_grad_e_maxlogp_{kind}")


def test_classification_of_unlabelled_rows_and_several_labels():
    s, e, w = golden("in_s").requires_grad_(), golden("in_e"), golden("in_P")
    close(prior("Wunit"), "out_W_unit")
    close(cross_entropy(s @ w, golden("in_yd_unl")), "out_ce_P_unl")
    close(largest_log_probability(e @ w, golden("in_yd_unl")), "out_maxlogp_P_unl")
    several = golden("in_ym2")
    # this vector was taken without the mask of labelled rows: divided by all rows, one of which has no label
    loss = cross_entropy(s @ w, several) * (several.sum(dim=1) > 0).double().mean()
    close(loss, "out_ce_P_multi")
    close(torch.autograd.grad(loss, s)[0], "out_grad_s_ce_P_multi")


def networks(stage, label, data):
    label = {f"label.{ours}": golden(f"{label}_{theirs}") for ours, theirs in LABEL.items()}
    data = {f"data.{ours}": golden(f"{data}_{theirs}") for ours, theirs in DATA.items()}
    net = Networks(MLP(4, (12, 12), 16), DataNetwork(20, (14, 12), 16), stage == 1)
    return net.to("meta"), label | data


def train(stage, net, params, epochs=3):
    rate = float(GOLDEN[f"par_lr_stage{stage}"])
    weights = numbers(GOLDEN, "alpha1", "beta1", "alpha2", "beta2")
    betas = tuple(golden("par_betas").tolist())
    method = MARS(published("mars", epochs=epochs, lr={"default": rate}, betas=betas, **weights))
    x, y = golden("in_x"), golden("in_yd_unl")
    batch = Batch({"image": x}, {"image": y}, {}, {"y_l": golden("in_yl")})
    phase = method.phase(net, AsStored(batch), (x, y), "image")
    phase = replace(phase, constants={"prior": golden("in_P")[None]}, keep=())
    return *train_one(phase, params), phase


def check_start(stage, net, params):
    """Outputs, terms and gradients before the first step."""
    *_, phase = train(stage, net, params, epochs=1)
    params = {n: p.requires_grad_() for n, p in params.items()}
    model = Model(net, params)
    s, e = model.data(golden("in_x"))
    close(model.label(golden("in_yl")), f"out_s{stage}_l")
    close(s, f"out_s{stage}_s")
    batch = phase.sampler.gather({})._replace(now={"prior": golden("in_P")})
    terms = phase.objectives[0].loss(model, batch)
    for ours, theirs in {"ld": "ld", "dd": "dd", "ce": "ce", "exclusive": "maxlogp"}.items():
        close(terms[ours], f"out_s{stage}_{theirs}")
    moved = {n: p for n, p in params.items() if phase.objectives[0].moves(n)}
    gradients = dict(zip(moved, torch.autograd.grad(terms["total"], list(moved.values())), strict=True))
    for ours, theirs in DATA.items():
        close(gradients[f"data.{ours}"], f"out_s{stage}_grad_dat_{theirs}")
    return e, terms, gradients


def check_steps(stage, params, history):
    for step, loss in enumerate(curve(history)):
        close(loss, f"out_s{stage}_loss{step}")
    for ours, theirs in DATA.items():
        close(params[f"data.{ours}"], f"out_s{stage}_step3_dat_{theirs}", tolerance=2e-6)


def test_first_modality():
    net, params = networks(1, "in_lab", "in_dat")
    e, terms, gradients = check_start(1, net, params)
    close(e, "out_s1_e")
    close(terms["ll"], "out_s1_ll")
    for ours, theirs in LABEL.items():
        close(gradients[f"label.{ours}"], f"out_s1_grad_lab_{theirs}")
    done, history, _ = train(1, net, params)
    check_steps(1, done, history)
    for ours, theirs in LABEL.items():
        close(done[f"label.{ours}"], f"out_s1_step3_lab_{theirs}", tolerance=2e-6)


def test_later_modality_leaves_the_label_network_alone():
    net, params = networks(2, "out_s1_step3_lab", "in_dat2")
    _, _, gradients = check_start(2, net, params)
    assert not part_of(gradients, "label.")
    done, history, _ = train(2, net, params)
    check_steps(2, done, history)
    for name, before in part_of(params, "label.").items():
        assert torch.equal(done[f"label.{name}"], before)
