"""Properties of SDML."""

import math
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.layers import random_orthogonal
from benchmark.methods.blocks.losses import label_distance, labelled_mean
from benchmark.methods.blocks.prior import SPLConfig
from benchmark.methods.sdml import objective_terms

from benchmark.core.registry import METHODS
from benchmark.runs.recipe import layer_dataset, read_layers, recipe_file, resolve
from tests.methods.data import SIZES, held_out, make_split, one_hot, rows
from tests.methods.data import fit as fit_method

fit = partial(fit_method, "sdml")


@pytest.fixture
def prior():
    return random_orthogonal(8, 3, 0).double()


def test_label_term_of_known_points(prior):
    p, q = prior[:, 0], prior[:, 1]
    outside = torch.linalg.svd(prior).U[:, 3]
    h = torch.stack([p, q, outside, -p])
    got = label_distance(h, prior, one_hot([0, 0, 0, 0], 3))
    wanted = torch.tensor([0, math.sqrt(2), 1, 2], dtype=torch.float64)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def test_rows_with_several_labels_have_a_floor(prior):
    y = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)
    h = (prior[:, :2].sum(dim=1) / math.sqrt(2))[None]
    assert label_distance(h, prior, y).item() == pytest.approx(math.sqrt(2) - 1, abs=1e-6)


def test_a_joint_rotation_changes_nothing(prior):
    h, y = torch.nn.functional.normalize(rows(7, 8)), one_hot(np.arange(7) % 3, 3)
    rotation = torch.linalg.qr(rows(8, 8, seed=2)).Q
    torch.testing.assert_close(
        label_distance(h @ rotation, rotation.T @ prior, y), label_distance(h, prior, y)
    )


def terms_and_gradients(prior, y, alpha):
    h, r = torch.nn.functional.normalize(rows(4, 8)).requires_grad_(), rows(4, 5, 1).requires_grad_()
    terms = objective_terms(h, r, rows(4, 5, seed=2), y, prior, alpha)
    return terms, torch.autograd.grad(terms["total"], (h, r))


def test_the_weight_switches_terms_off(prior):
    y = one_hot([0, 1, 2, 0], 3)
    assert not terms_and_gradients(prior, y, alpha=1.0)[1][0].any()
    assert not terms_and_gradients(prior, y, alpha=0.0)[1][1].any()


def test_unlabelled_rows_neither_count_nor_pull(prior):
    y = one_hot([0, 1, 2, 0], 3)
    part = y.clone()
    part[3] = 0
    terms, (gradient, _) = terms_and_gradients(prior, part, alpha=0.5)
    h = torch.nn.functional.normalize(rows(4, 8))
    torch.testing.assert_close(terms["label"], label_distance(h[:3], prior, y[:3]).mean())
    assert not gradient[3].any()
    assert gradient[:3].any(dim=1).all()
    terms, gradients = terms_and_gradients(prior, torch.zeros_like(y), alpha=0.5)
    assert terms["total"] == 0.5 * terms["reconstruction"]
    assert all(g.isfinite().all() for g in gradients)
    assert labelled_mean(rows(4, 1)[:, 0], torch.zeros(4, 3)) == 0


def test_no_infinite_slope_at_a_perfect_row():
    prior = torch.eye(8, 3, dtype=torch.float64)
    h = prior[:, :1].T.clone().requires_grad_()
    gradient = torch.autograd.grad(label_distance(h, prior, one_hot([0], 3)).sum(), h)[0]
    assert not gradient.any()


def test_every_seed_has_its_own_matrix_unless_one_is_named():
    _, log = fit(seeds=(1, 2))
    first, second = log.arrays["prior"]
    assert not np.allclose(first, second)
    np.testing.assert_allclose(first.T @ first, np.eye(3), atol=1e-6)
    assert np.array_equal(fit(seeds=(2,))[1].arrays["prior"][0], second)
    _, log = fit(seeds=(1, 2), prior_seed=123)
    assert np.array_equal(log.arrays["prior"][0], log.arrays["prior"][1])
    np.testing.assert_allclose(log.arrays["prior"][0], random_orthogonal(16, 3, 123), atol=1e-7)


def test_the_kept_epoch_has_the_smallest_label_term():
    settings = {"epochs": 12, "lr": {"default": 3e-2}}
    best, log = fit(**settings)
    last, _ = fit(**settings, select="last")
    val = held_out(make_split())
    prior = torch.from_numpy(log.arrays["prior"][0])
    later = 0
    for name in SIZES:
        x, y = torch.from_numpy(val[name].features).double(), one_hot(val[name].labels, 3)
        curve = [each[0] for each in log.history[f"sdml/{name}"]["val/label"]]
        terms = [label_distance(m[0].embed(name, x), prior, y).mean().item() for m in (best, last)]
        assert terms == pytest.approx([min(curve), curve[-1]])
        later += min(curve) < curve[-1]
    assert later, "the last epoch was the best everywhere, so nothing was tested"


def test_a_learning_rate_belongs_to_its_modality():
    base, changed = fit()[0][0], fit(lr={"image": 1e-2, "default": 1e-3})[0][0]
    assert torch.equal(base.embed("text", rows(5, 5)), changed.embed("text", rows(5, 5)))


@pytest.mark.parametrize("name", ["sdml", "mars"])
@pytest.mark.parametrize("profile", ["paper", "quick"])
def test_the_prior_is_learned_as_in_drcl(name, profile):
    """The settings of SPL are stated again in the recipe; they equal those of DRCL for every dataset."""
    host, drcl = METHODS.get(name), METHODS.get("drcl")
    named = {layer_dataset(layer) for layer in read_layers(recipe_file(drcl))} - {""}
    assert "xmedia" in named
    ours = {"lr": "lr_spl", "q0": "spl_q0", "snapshot": "spl_snapshot", "seed": "prior_seed"}
    for dataset in ("", *sorted(named)):
        wanted, got = resolve(drcl, dataset, profile), resolve(host, dataset, profile)["spl"].value
        assert got == {key: wanted[ours.get(key, key)].value for key in got}, dataset
        assert set(got) == {field.name for field in fields(SPLConfig)}, "a setting is missing"
