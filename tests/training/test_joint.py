"""What joint methods need of the training loop: state, hooks, optimiser groups, schedules per step."""

from dataclasses import replace

import pytest
import torch
from benchmark.methods.blocks.layers import BatchNorm
from torch import nn

from benchmark.core.method import FitLog, RunContext, derive_seed
from benchmark.training import (
    SGD,
    STATE,
    Adam,
    Group,
    Objective,
    Phase,
    RowSampler,
    build_replicas,
    train_phase,
)

SEEDS = (1, 2)


def trained(phase, params, run):
    return train_phase(phase, params, run, FitLog()).params


def linear_phase(run, **changes):
    """Two scalar parameters drawn towards 0, three steps of four rows per epoch."""
    rows = torch.ones(12, 1, dtype=run.dtype, device=run.device)

    def loss(model, batch):
        return {"total": (model.a * batch.alone[0].mean() + model.b) * batch.now.get("scale", 1.0)}

    phase = Phase("p", None, 2, RowSampler(rows, rows, 4), (Objective(loss, SGD(1.0)),))
    start = torch.zeros(len(run.seeds), dtype=run.dtype, device=run.device)
    return replace(phase, **changes), {"a": start, "b": start}


@pytest.mark.parametrize("mode", ["together", "alone"])
def test_groups_move_by_their_own_settings_and_schedule(mode, device):
    run = RunContext(SEEDS, device, "fp64", replicas=mode)
    phase, start = linear_phase(run)
    loss = phase.objectives[0].loss
    halves = Group(("b",), SGD(1.0), factor=lambda epoch, update: 0.5 if update < 4 else 10.0 * epoch)
    objective = Objective(loss, SGD(1.0), groups=(halves,), factor=lambda epoch, update: 1.0 + epoch)
    found = trained(replace(phase, objectives=(objective,)), start, run)
    assert found["a"].tolist() == [-(3 * 1 + 3 * 2)] * 2  # the gradient is 1 everywhere
    assert found["b"].tolist() == [-(4 * 0.5 + 2 * 10)] * 2


@pytest.mark.parametrize("optimizer", [Adam(0.1, weight_decay=0.3), SGD(0.1, 0.9, 0.3)])
def test_settings_mean_what_torch_means_by_them(optimizer):
    ours, theirs = (torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True) for _ in range(2))
    made = {Adam: torch.optim.Adam, SGD: torch.optim.SGD}[type(optimizer)]
    extra = {"momentum": 0.9} if isinstance(optimizer, SGD) else {}
    reference = made([theirs], lr=0.1, weight_decay=0.3, **extra)
    step = optimizer.build([ours])
    for _ in range(5):
        for x, o in ((ours, step), (theirs, reference)):
            x.grad = 2 * x.detach()
            o.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mode", ["together", "alone"])
def test_scalars_per_step_reach_their_step(mode, device):
    run = RunContext(SEEDS, device, "fp64", replicas=mode)
    phase, start = linear_phase(run, per_step=lambda epoch: {"scale": [1, 10, 100 * (1 + epoch)]})
    assert trained(phase, start, run)["b"].tolist() == [-(111 + 211)] * 2


@pytest.mark.parametrize("mode", ["together", "alone"])
def test_hooks_run_around_every_step_without_gradient(mode, device):
    run = RunContext(SEEDS, device, "fp64", replicas=mode)
    phase, start = linear_phase(
        run,
        before=lambda model, now: {"a": model.a + 10},
        after=lambda model, now: {"b": 2 * model.b},
    )
    found = trained(phase, start, run)
    assert found["a"].tolist() == [6 * (10 - 1)] * 2
    b = 0.0
    for _ in range(6):
        b = 2 * (b - 1)
    assert found["b"].tolist() == [b] * 2


class Normalise(BatchNorm):
    """In training, by the statistics of the batch."""

    def forward(self, x):
        return self.train_rows(x)


def norm_phase(run, epochs=4):
    """A linear layer behind batch normalisation, whose running statistics are state."""
    generator = torch.Generator().manual_seed(0)
    x = (3 + 2 * torch.randn(21, 5, generator=generator, dtype=torch.float64)).to(run.device, run.dtype)
    y = torch.randn(21, 2, generator=generator, dtype=torch.float64).to(run.device, run.dtype)

    def build():
        return nn.ModuleDict({"norm": Normalise(5), "out": nn.Linear(5, 2)})

    template, params = build_replicas(build, [derive_seed(s, "weights") for s in run.seeds], run)

    def loss(model, batch):
        rows, wanted = batch.alone
        rows, running = model.norm(rows)
        state = {f"{STATE}norm.{n}": v for n, v in running.items()}
        return {"total": (model.out(rows) - wanted).square().mean(), **state}

    sampler = RowSampler(x, y, 8, keep_remainder=True)
    state = tuple(n for n in params if "running" in n)
    assert len(state) == 2
    phase = Phase("n", template, epochs, sampler, (Objective(loss, Adam(1e-2)),), state=state)
    return phase, params, (x, y)


@pytest.mark.parametrize("mode", ["together", "alone"])
def test_state_is_replaced_kept_and_never_moved_by_an_optimiser(mode, device):
    run = RunContext(SEEDS, device, "fp64", replicas=mode)
    phase, start, (x, y) = norm_phase(run)
    found = trained(phase, start, run)
    for r, seed in enumerate(SEEDS):  # torch's own module on the same batches
        own = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 2)).double().to(device)
        names = {
            "norm.weight": "0.weight",
            "norm.bias": "0.bias",
            "out.weight": "1.weight",
            "out.bias": "1.bias",
        }
        with torch.no_grad():
            for ours, theirs in names.items():
                own.get_parameter(theirs).copy_(start[ours][r])
        optimizer = torch.optim.Adam(own.parameters(), lr=1e-2)
        generator = torch.Generator().manual_seed(derive_seed(seed, "n", "batches"))
        for _ in range(phase.epochs):
            for rows in phase.sampler.draw(generator)["rows"].split(8):
                optimizer.zero_grad()
                (own(x[rows]) - y[rows]).square().mean().backward()
                optimizer.step()
        for ours, theirs in names.items():
            torch.testing.assert_close(
                found[ours][r], own.get_parameter(theirs).detach(), rtol=1e-6, atol=1e-9
            )
        for name in ("running_mean", "running_var"):
            wanted = own[0].get_buffer(name)
            torch.testing.assert_close(found[f"norm.{name}"][r], wanted, rtol=1e-9, atol=1e-12)


def test_state_replicas_together_equal_alone(device):
    found = []
    for mode in ("together", "alone"):
        run = RunContext(SEEDS, device, "fp64", replicas=mode)
        phase, start, _ = norm_phase(run)
        found.append(trained(phase, start, run))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-7, atol=1e-10)
