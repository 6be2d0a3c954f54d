"""Properties of ELRCMR."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from benchmark.methods.blocks.joint import select_by_map
from benchmark.methods.blocks.layers import unit_rows
from benchmark.methods.elrcmr import (
    class_contrast,
    clipped,
    early_learning,
    objective_terms,
    ramp_down,
    step_weights,
    updated_targets,
)

from benchmark.core.method import FitLog, RunContext
from benchmark.training import Model, train_phase
from tests.methods.data import build, held_out, make_split, one_hot, published, rows, started

F64 = RunContext(precision="fp64")


def prepared(run=F64, **values):
    """A method, its phase without validation that hands everything back, and initial parameters."""
    method = build("elrcmr", **values)
    return method, *started(method, make_split(), run)


def train(phase, start, run=F64):
    return train_phase(phase, start, run, FitLog()).params


def probabilities(n, classes, seed=0):
    return clipped(2 * rows(n, classes, seed))


def test_targets_are_a_running_average():
    q, targets = probabilities(3, 4), torch.zeros(6, 4, dtype=torch.float64)
    places = torch.tensor([4, 0, 2])
    for _ in range(5):
        targets, own = updated_targets(targets, places, q)
    torch.testing.assert_close(own, (1 - 0.9**5) * q / q.sum(dim=-1, keepdim=True))
    assert torch.equal(targets[places], own)
    assert not targets[[1, 3, 5]].any()


def test_items_served_twice_contribute_the_mean_of_their_predictions():
    q, old = probabilities(4, 3), rows(5, 3).softmax(dim=-1)
    targets, own = updated_targets(old, torch.tensor([2, 0, 2, 2]), q)
    torch.testing.assert_close(targets[2], 0.9 * old[2] + 0.1 * q[[0, 2, 3]].mean(dim=0))
    torch.testing.assert_close(targets[0], 0.9 * old[0] + 0.1 * q[1])
    assert torch.equal(own[0], own[2])
    assert torch.equal(targets[[1, 3, 4]], old[[1, 3, 4]])


def test_early_learning_is_pulled_through_probabilities_that_are_not_clipped():
    logits = torch.tensor([[30.0, 0.0, 0.0], [1.0, 0.0, 0.5]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[0.4, 0.1, 0.1], [0.1, 0.2, 0.3]], dtype=torch.float64)
    value = early_learning(clipped(logits), targets)
    p = logits.detach().softmax(dim=-1).clamp(1e-4, 1 - 1e-4)
    assert value.item() == pytest.approx((1 - (p * targets).sum(dim=1)).log().mean().item())
    gradient = torch.autograd.grad(value, logits)[0]
    assert not gradient[0].any()
    assert gradient[1].any()


def test_class_contrast_of_known_points():
    z = unit_rows(rows(5, 6))
    assert class_contrast(z, torch.arange(5)).item() == 0
    same = z[:1].repeat(5, 1)
    got = class_contrast(same, torch.zeros(5, dtype=torch.int64)).item()
    assert got == pytest.approx(5 * 4 * math.log(4) / (2 * 4 - 1))


def test_class_contrast_against_a_loop():
    z, h = unit_rows(rows(7, 6)), torch.tensor([0, 1, 0, 2, 1, 0, 3])
    total = 0.0
    for i in range(7):
        every = sum(math.exp((z[i] @ z[a]).item()) for a in range(7) if a != i)
        alike = [j for j in range(7) if j != i and h[j] == h[i]]
        losses = sum(-math.log(math.exp((z[i] @ z[j]).item()) / every) for j in alike)
        total += losses / (2 * len(alike) - 1)
    assert class_contrast(z, h).item() == pytest.approx(total)
    both = class_contrast(torch.stack([z, z.flip(0)]), torch.stack([h, h.flip(0)]))
    assert both.tolist() == pytest.approx([total, total])


def test_a_single_row_has_no_class_contrast():
    z = unit_rows(rows(1, 4)).requires_grad_()
    value = class_contrast(z, torch.zeros(1, dtype=torch.int64))
    assert value.item() == 0
    assert not torch.autograd.grad(value, z)[0].any()


@pytest.mark.parametrize("values", [{}, {"mc_mask_duplicates": True, "tau": 0.5}])
def test_gradient_of_the_objective_for_fixed_targets(values):
    config = published("elrcmr", **values)
    table = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 2]])
    y = one_hot([[0, 1, 2, 0]] * 2, 3)
    flat, classes = rows(8, 5), unit_rows(rows(3, 5, 1)).T.contiguous()
    q = clipped((unit_rows(flat).reshape(2, 4, 5) @ classes) / config.tau)
    # targets move towards the prediction; start where one update ends at the same place
    before = [torch.zeros(4, 3, dtype=torch.float64) for _ in q]

    def total(x, c):
        return objective_terms(unit_rows(x).reshape(2, 4, 5), c, y, before, table, 0.6, config)[0]["total"]

    inputs = (flat.requires_grad_(), classes.requires_grad_())
    got = torch.autograd.grad(total(*inputs), inputs)
    after = [updated_targets(t, r, p.detach())[0] for t, r, p in zip(before, table, q, strict=True)]

    def held(x, c):
        z = unit_rows(x).reshape(2, 4, 5)
        fixed = torch.stack([t[r] for t, r in zip(after, table, strict=True)])
        moving = early_learning(clipped(z @ c / config.tau), fixed).sum()
        free = replace(config, lama=0.0)
        return objective_terms(z, c, y, before, table, 0.6, free)[0]["total"] + 0.6 * config.lama * moving

    assert torch.autograd.gradcheck(held, inputs)
    for a, b in zip(got, torch.autograd.grad(held(*inputs), inputs), strict=True):
        torch.testing.assert_close(a, b)


def test_weights_count_the_pass_before_training():
    weights = step_weights(published("elrcmr", beta=0.5, ramp_steps=100, epochs=10), steps=4)
    assert weights(0)["beta"][0] == pytest.approx(0.5 * ramp_down(5, 100))
    assert weights(2)["beta"] == pytest.approx([0.5 * ramp_down(t, 100) for t in (13, 14, 15, 16)])
    assert weights(0)["alpha"][0] == 1
    assert weights(2)["alpha"][1] == weights(3)["alpha"][0]
    share = step_weights(published("elrcmr", ramp_fraction=0.5, epochs=9, beta=1.0), steps=4)
    assert share(0)["beta"][0] == pytest.approx(ramp_down(5, 20))
    assert share(4)["beta"] == [0] * 4
    assert ramp_down(0, 7) == pytest.approx(1 - math.exp(-5))


def test_the_rate_falls_in_a_period_of_its_own():
    wanted = {0: (1 + math.cos(math.pi * 2 / 4)) / 2, 100: (1 + math.cos(math.pi * 2 / 100)) / 2}
    for period, factor in wanted.items():
        _, phase, _ = prepared(epochs=4, lr_period=period)
        assert phase.objectives[0].factor(3, 99) == pytest.approx(factor)


def test_two_passes_before_training_fill_the_targets():
    method, phase, start = prepared()
    model = Model(phase.net, {n: p[0] for n, p in start.items()})
    x = F64.tensor(make_split()["audio"].features)
    q = clipped(method.embed(model, "audio", x) @ model.classes)
    torch.testing.assert_close(start["targets.audio"][0], 0.19 * q, rtol=1e-6, atol=1e-9)


def test_targets_change_in_training_by_the_pass_after_an_epoch_and_not_by_validation():
    run = RunContext((1, 2), precision="fp64", replicas="together")
    method, phase, start = prepared(run, epochs=2, weight_avg="off")
    ends = {
        name: train(replace(phase, **changes), start, run)
        for name, changes in {
            "plain": {},
            "validated": {"validate": select_by_map(method.embed, held_out(make_split()), run)},
            "without": {"after_epoch": None, "epochs": 1},
            "one": {"epochs": 1},
        }.items()
    }
    for name, p in ends["plain"].items():
        assert torch.equal(p, ends["validated"][name])
    swept = torch.vmap(lambda p: phase.after_epoch(Model(phase.net, p), {}))(ends["without"])
    for name, targets in swept.items():
        torch.testing.assert_close(ends["one"][name], targets)
        assert not torch.allclose(ends["without"][name], start[name])
    assert torch.equal(ends["one"]["classes"], ends["without"]["classes"]), "the pass moves no parameter"


def test_without_its_additions_it_is_mrl():
    _, phase, start = prepared(lama=0.0, zeta=0.0, weight_avg="off", lr_period=0, ramp_steps=10**12, beta=0.6)
    plain = build("mrl", beta=0.6 * ramp_down(0, 1))
    other = replace(plain.phase(phase.net, phase.sampler), keep=())
    bare = {n: p for n, p in start.items() if not n.startswith("targets.")}
    wanted, got = train(other, bare), train(replace(phase, stream="mrl"), start)
    for name, p in wanted.items():
        torch.testing.assert_close(got[name], p, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("average", ["effective", "ema"])
def test_averaging_of_weights(average):
    """One epoch of two steps, replayed without averaging in between."""

    def given(alpha, epoch):
        return {"beta": [0.5, 0.5], "alpha": alpha}

    _, phase, start = prepared(epochs=1, weight_avg=average, batch=15)
    phase = replace(phase, after_epoch=None, per_step=partial(given, [1.0, 0.5]))
    got = train(phase, start)
    plain = train(replace(phase, after=None), start)
    unmoved = train(replace(phase, per_step=partial(given, [1.0, 1.0])), start)
    name = "encoders.image.last.weight"
    torch.testing.assert_close(unmoved[name], plain[name])
    if average == "effective":
        torch.testing.assert_close(got[name], 0.75 * plain[name])
    else:
        first = 2 * got[name] - plain[name]  # the parameters before the second step
        step = (plain[name] - first).abs().max()
        assert 0 < step < 2 * 2e-3
        torch.testing.assert_close(got[name], got[f"previous.{name}"])
    assert torch.equal(got["classes"], plain["classes"])
