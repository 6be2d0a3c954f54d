"""RONO against outputs of the loss modules of its public code (tests/parity/vectors/rono.npz)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark.methods.rono import (
    RONOConfig,
    center_cosines,
    center_loss,
    label_error,
    modality_gap,
    objective_terms,
    ramp_position,
    rono_objective,
)
from torch import nn
from torch.func import functional_call

from benchmark.core.method import Run
from benchmark.training.samplers import RowSampler
from benchmark.training.train import Phase, train_phase

GOLDEN = np.load(Path(__file__).parent / "vectors" / "rono.npz")
SETS = ("mnist", "modelnet")
EPOCHS = (0, 10, 24, 40)
NAMES = {"encoder.branches.0": "e1", "encoder.branches.1": "e2", "head.0": "head.0", "head.2": "head.2"}


def golden(name):
    return torch.from_numpy(np.asarray(GOLDEN[name])).double()


def close(got, name):
    torch.testing.assert_close(got, golden(name), rtol=1e-5, atol=1e-5)


def config(which):
    names = {"rho": "thr", "a1": "s1", "a2": "s2", "kappa": "mae", "tau": "tau"}
    values = {ours: float(GOLDEN[f"par_{which}_{theirs}"]) for ours, theirs in names.items()}
    w_ce, w_c, w_mg = golden(f"par_{which}_w").tolist()
    return RONOConfig(**values, w_ce=w_ce, w_c=w_c, w_mg=w_mg)


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


class Small(nn.Module):
    """One linear layer per modality, and the head."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleDict({"branches": nn.ModuleList([nn.Linear(10, 16), nn.Linear(7, 16)])})
        self.head = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x1, x2):
        u, v = (layer(x) for layer, x in zip(self.encoder["branches"], (x1, x2), strict=True))
        return (u, v), (self.head(u), self.head(v))


class InOrder(RowSampler):
    """Serves the rows as they are."""

    def draw(self, generator):
        return {"rows": torch.arange(len(self.x))}


def test_two_steps_of_the_mnist_script():
    net, x2 = Small().to("meta"), golden("in_x2")
    names = {f"{o}.{p}": f"{t}.{p}" for o, t in NAMES.items() for p in ("weight", "bias")}
    params = {ours: golden(f"in_w_{theirs}")[None] for ours, theirs in names.items()}
    params["centers"] = golden("in_centers")[None]

    def loss(params, batch, now):
        common, logits = functional_call(net, params, (batch["x"], x2))
        labels = (batch["y"], batch["y"])
        return objective_terms(common, logits, labels, params["centers"], now["v"], config("mnist"))

    y = torch.eye(4, dtype=torch.float64)[GOLDEN["in_y"]]
    at = float(ramp("mnist", int(GOLDEN["par_step_epoch"])))
    objective = rono_objective(config("mnist"), ("image", "3d"), loss)
    phase = Phase("two", 2, InOrder(golden("in_x1"), y, 9), (objective,), schedule=lambda epoch: {"v": at})
    done = train_phase(phase, params, Run(precision="fp64"))
    for step in (1, 2):
        value = torch.tensor(done.history["train/total"][step - 1][0], dtype=torch.float64)
        close(value, f"out_step{step}_total")
    for ours, theirs in {**names, "centers": "centers"}.items():
        close(done.params[ours][0], f"out_after2_{theirs}")
        before = params[ours][0]
        assert (done.params[ours][0] - before).abs().max() > 5e-5, "nothing moved"
