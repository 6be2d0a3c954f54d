"""RONO against outputs of the loss modules of its public code (tests/parity/vectors/rono.npz)."""

from dataclasses import replace

import pytest
import torch
from benchmark.methods.rono import (
    RONO,
    RONONet,
    center_cosines,
    center_loss,
    label_error,
    modality_gap,
    objective_terms,
    ramp_position,
)
from torch import nn

from tests.methods.data import published
from tests.parity.golden import curve, in_order, numbers, paired, train, vectors

GOLDEN, golden, close = vectors("rono")
SETS = ("mnist", "modelnet")
EPOCHS = (0, 10, 24, 40)
LAYERS = {"encoder.branches.0": "e1", "encoder.branches.1": "e2", "head.0": "head.0", "head.2": "head.2"}


def config(which, **options):
    values = numbers(GOLDEN, "tau", rho="thr", a1="s1", a2="s2", kappa="mae", prefix=f"par_{which}_")
    w_ce, w_c, w_mg = golden(f"par_{which}_w").tolist()
    return published("rono", **values, w_ce=w_ce, w_c=w_c, w_mg=w_mg, **options)


def ramp(which, epoch):
    return torch.tensor(ramp_position(epoch, int(GOLDEN[f"par_{which}_warm"])), dtype=torch.float64)


def inputs():
    u, v, centers, a, b = (
        golden(f"in_{n}").requires_grad_() for n in ("u", "v", "centers", "logits_u", "logits_v")
    )
    return u, v, centers, a, b, torch.eye(4, dtype=torch.float64)[GOLDEN["in_y"]]


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("epoch", EPOCHS)
def test_center_loss_and_total(which, epoch):
    u, v, centers, a, b, y = inputs()
    at, name = ramp(which, epoch), f"out_{which}_rdc_ep{epoch}"
    s, q = center_cosines(torch.cat([u, v]), torch.cat([y, y]), centers)
    loss = center_loss(s, q, 4, at, config(which))
    close(loss, name)
    for part, gradient in zip(("gu", "gv", "gc"), torch.autograd.grad(loss, (u, v, centers)), strict=True):
        close(gradient, f"{name}_{part}")
    terms = objective_terms((u, v), (a, b), (y, y), centers, at, config(which))
    close(terms["total"], f"out_{which}_total_ep{epoch}")
    close(terms["rdc"], name)
    assert 0 < terms["noisy"] < 1, "both sides of the border occur"


@pytest.mark.parametrize("which", SETS)
def test_terms_that_do_not_change_with_the_epoch(which):
    u, v, centers, a, b, y = inputs()
    terms = objective_terms((u, v), (a, b), (y, y), centers, ramp(which, 0), config(which))
    close(terms["crc"], f"out_{which}_crc")
    close(terms["mg"], f"out_{which}_mg")
    close(torch.autograd.grad(terms["crc"], a)[0], f"out_{which}_crc_gu")
    by_u, by_v = torch.autograd.grad(terms["mg"], (u, v))
    close(by_u, f"out_{which}_mg_gu")
    close(by_v, f"out_{which}_mg_gv")
    both = label_error(a, y) + label_error(b, y)
    close(config(which).kappa * both, f"out_{which}_crc")
    close(modality_gap(u, v, config(which).tau), f"out_{which}_mg")


class Linear(nn.Module):
    """In the place of the encoder: one linear layer per modality."""

    names = ("image", "3d")

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList([nn.Linear(10, 16), nn.Linear(7, 16)])

    def forward(self, rows):
        return {n: layer(x) for layer, (n, x) in zip(self.branches, rows.items(), strict=True)}


def test_two_steps_of_the_mnist_script():
    method = RONO(config("mnist", dim=16, epochs=2))
    net = RONONet({"image": 10, "3d": 7}, method.config, 4)
    net.encoder = Linear()
    names = {f"{o}.{p}": f"{t}.{p}" for o, t in LAYERS.items() for p in ("weight", "bias")}
    params = {ours: golden(f"in_w_{theirs}") for ours, theirs in names.items()}
    params["centers"] = golden("in_centers")
    sampler = in_order(paired(GOLDEN["in_y"], 4, **{"image": GOLDEN["in_x1"], "3d": GOLDEN["in_x2"]}))
    at = float(ramp("mnist", int(GOLDEN["par_step_epoch"])))
    phase = replace(method.phase(net, sampler), schedule=lambda epoch: {"v": at}, keep=())
    trained, history = train(phase, params)
    for step, value in enumerate(curve(history), start=1):
        close(value, f"out_step{step}_total")
    for ours, theirs in {**names, "centers": "centers"}.items():
        close(trained[ours], f"out_after2_{theirs}")
        assert (trained[ours] - params[ours]).abs().max() > 5e-5, "nothing moved"
