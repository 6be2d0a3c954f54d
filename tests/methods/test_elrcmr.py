"""Properties of ELRCMR."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmark.methods import mrl
from benchmark.methods.blocks.joint import select_by_map
from benchmark.methods.blocks.layers import unit_rows
from benchmark.methods.elrcmr import (
    ELRCMR,
    ELRCMRConfig,
    class_contrast,
    clipped,
    early_learning,
    joint_phase,
    objective_terms,
    ramp_down,
    step_weights,
    target_pass,
    updated_targets,
    with_state,
)
from benchmark.methods.mrl import MRLConfig, start_joint

from benchmark.contract.method import check_method
from benchmark.core.method import Run
from benchmark.core.registry import METHODS
from benchmark.errors import RecipeError, UnsupportedError
from benchmark.training.samplers import TupleSampler
from benchmark.training.train import train_phase
from tests.methods.data import SIZES, make_split, nearest_class_accuracy, one_hot, rows

HELD = {m: (9, d) for m, (_, d) in SIZES.items()}


def fit(seeds=(1,), replicas="auto", device=None, **values):
    method = ELRCMR.from_values({**ELRCMR.tiny(), **values})
    train = make_split()
    run = Run(seeds, device or torch.device("cpu"), "fp64", replicas)
    method.check(train)
    return method.fit(train, make_split(HELD, seed=1), run), run


def prepared(run=None, **values):
    """A phase without validation that hands everything back, and its initial parameters."""
    config = ELRCMRConfig(**{**ELRCMR.tiny(), "select": "last", **values})
    run, split = run or Run(precision="fp64"), make_split()
    embed, start = start_joint(split, config.hidden, config.dim, run, "mrl")
    sampler = TupleSampler(split, run, config.batch)
    update = target_pass(embed, sampler.features, config.tau)
    phase = replace(joint_phase(config, embed, split.names, sampler, update), keep=())
    return phase, with_state(start, split, config, update), run, embed, update


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


@pytest.mark.parametrize("values", [{}, {"mc_form": "paper", "mc_mask_duplicates": True, "tau": 0.5}])
def test_gradient_of_the_objective_for_fixed_targets(values):
    config = ELRCMRConfig(**values)
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
    weights = step_weights(ELRCMRConfig(beta=0.5, ramp_steps=100, epochs=10), steps=4)
    assert weights(0)["beta"][0] == pytest.approx(0.5 * ramp_down(5, 100))
    assert weights(2)["beta"] == pytest.approx([0.5 * ramp_down(t, 100) for t in (13, 14, 15, 16)])
    assert weights(0)["alpha"][0] == 1
    assert weights(2)["alpha"][1] == weights(3)["alpha"][0]
    cold = step_weights(ELRCMRConfig(warm_pass=False, ramp_fraction=0.5, epochs=10, beta=1.0), steps=4)
    assert cold(0)["beta"][0] == pytest.approx(ramp_down(1, 20))
    assert cold(5)["beta"] == [0] * 4
    assert ramp_down(0, 7) == pytest.approx(1 - math.exp(-5))


@pytest.mark.parametrize(("warm", "epoch", "share"), [(1, 1, 0.19), (1, 0, 0.1), (0, 1, 0.1), (0, 0, 0.0)])
def test_passes_before_training_fill_the_targets(warm, epoch, share):
    _, start, run, embed, _ = prepared(warm_pass=bool(warm), elr_epoch_update=bool(epoch))
    x = run.tensor(make_split()["audio"].features)
    one = {n: p[0] for n, p in start.items()}
    q = clipped(embed(one, "audio", x) @ one["classes"])
    torch.testing.assert_close(start["targets.audio"][0], share * q, rtol=1e-6, atol=1e-9)


def test_targets_change_in_training_by_the_pass_after_an_epoch_and_not_by_validation():
    run = Run((1, 2), precision="fp64", replicas="together")
    phase, start, _, embed, update = prepared(run, epochs=2, weight_avg="off")
    val = make_split(HELD, seed=1)
    ends = {}
    for name, changes in {
        "plain": {},
        "validated": {"validate": select_by_map(embed, val, run)},
        "without": {"after_epoch": None, "epochs": 1},
        "one": {"epochs": 1},
    }.items():
        ends[name] = train_phase(replace(phase, **changes), start, run).params
    for name, p in ends["plain"].items():
        assert torch.equal(p, ends["validated"][name])
    swept = torch.vmap(lambda p: update(p, {}))(ends["without"])
    for name, targets in swept.items():
        torch.testing.assert_close(ends["one"][name], targets)
        assert not torch.allclose(ends["without"][name], start[name])
    assert torch.equal(ends["one"]["classes"], ends["without"]["classes"]), "the pass moves no parameter"


def test_without_its_additions_it_is_mrl():
    phase, start, run, embed, _ = prepared(
        lama=0.0, zeta=0.0, weight_avg="off", warm_pass=False, lr_period=0, ramp_steps=10**12, beta=0.6
    )
    fixed = MRLConfig(**ELRCMR.tiny(), beta=0.6 * ramp_down(0, 1), select="last")
    other = mrl.joint_phase(fixed, embed, make_split().names, phase.sampler)
    bare = {n: p for n, p in start.items() if not n.startswith("targets.")}
    wanted = train_phase(other, bare, run).params
    got = train_phase(replace(phase, stream="mrl"), start, run).params
    for name, p in wanted.items():
        torch.testing.assert_close(got[name], p, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("average", ["effective", "ema"])
def test_averaging_of_weights(average):
    """One epoch of two steps, replayed without averaging in between."""
    alpha = [1.0, 0.5]

    def weights(epoch):
        return {"beta": [0.5, 0.5], "alpha": alpha}

    phase, start, run, _, _ = prepared(epochs=1, weight_avg=average, batch=15, elr_epoch_update=False)
    got = train_phase(replace(phase, per_step=weights), start, run).params
    plain = train_phase(replace(phase, per_step=weights, after=None), start, run).params

    def once(epoch):
        return {"beta": [0.5, 0.5], "alpha": [1.0, 1.0]}

    unmoved = train_phase(replace(phase, per_step=once), start, run).params
    name = "encoders.0.last.weight"
    torch.testing.assert_close(unmoved[name], plain[name])
    if average == "effective":
        torch.testing.assert_close(got[name], 0.75 * plain[name])
    else:
        first = 2 * got[name] - plain[name]  # the parameters before the second step
        step = (plain[name] - first).abs().max()
        assert 0 < step < 2 * 2e-3
        torch.testing.assert_close(got[name], got[f"previous.{name}"])
    assert torch.equal(got["classes"], plain["classes"])


@pytest.mark.parametrize("values", [{}, {"weight_avg": "ema", "mc_mask_duplicates": True}])
def test_three_seeds_together_equal_each_alone(values, device):
    together, alone = (fit((1, 2, 3), mode, device, **values)[0] for mode in ("together", "alone"))
    single = fit((2,), device=device, **values)[0]
    for name, (_, d) in SIZES.items():
        x = rows(11, d).to(device)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a.embed(name, x), b.embed(name, x), rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(together[1].embed(name, x), single[0].embed(name, x), rtol=1e-7, atol=1e-9)
        assert not torch.allclose(together[0].embed(name, x), together[1].embed(name, x))


@pytest.mark.parametrize(
    "values",
    [
        {"weight_avg": "ema", "setp": 4},
        {"weight_avg": "off"},
        {"warm_pass": False},
        {"elr_epoch_update": False},
        {"lama": 0.1},
        {"zeta": 0.1},
        {"ramp_steps": 4},
        {"mc_form": "paper"},
        {"mc_mask_duplicates": True},
    ],
)
def test_every_option_trains_and_matters(values):
    base, changed = fit()[0][0].embed("image", rows(5, 8)), fit(**values)[0][0].embed("image", rows(5, 8))
    torch.testing.assert_close(changed.norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert not torch.equal(base, changed)


def test_training_learns_to_retrieve():
    retrievers, _ = fit(epochs=20, lr=1e-2)
    assert nearest_class_accuracy(retrievers[0]) > 0.9


def test_contract():
    assert [r for r in check_method(METHODS.get("elrcmr")) if not r.passed] == []


def test_wrong_values_are_refused():
    for values, message in [
        ({"select": "test"}, "select must be one of map, last"),
        ({"weight_avg": "on"}, "weight_avg must be one of effective, ema, off"),
        ({"mc_form": "both"}, "mc_form must be one of code, paper"),
        ({"ramp_fraction": 0.0}, "ramp_fraction and setp be positive"),
        ({"alpha0": 0.0}, "alpha0 must lie above 0"),
        ({"epochs": 0}, "must be positive"),
    ]:
        with pytest.raises(RecipeError, match=message):
            ELRCMR.from_values(values)
    with pytest.raises(UnsupportedError, match="at least as wide as the 3 classes"):
        fit(dim=2)
    assert ELRCMRConfig() == ELRCMR.from_values({}).config
    assert np.isfinite(fit(batch=1000)[1].history["elrcmr"]["train/total"]).all()
