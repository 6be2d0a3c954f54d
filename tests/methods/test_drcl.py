"""Properties of DRCL."""

from functools import partial

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.layers import UnitMLP, random_orthogonal, unit_rows
from benchmark.methods.blocks.losses import generalized_cross_entropy, log_label_mass
from benchmark.methods.blocks.prior import spl_phase
from benchmark.methods.drcl import augment, discrepancy, recast_matrix
from scipy.io import loadmat

from benchmark.training import RowSampler
from tests.methods.data import build, rows
from tests.methods.data import fit as fit_method

fit = partial(fit_method, "drcl")


def test_schedules():
    method, sampler = build("drcl", q_step=0.01), RowSampler(rows(4, 3), rows(4, 2), 2)
    spl = spl_phase(method.spl(), None, sampler, "spl")
    rsc = method.phase(None, sampler, (None, None), "image")
    fixed = build("drcl", q_fixed=2.0).phase(None, sampler, (None, None), "image")
    for phase, wanted in ((spl, [0, 0.01, 1, 1]), (rsc, [0.01, 0.02, 1, 1]), (fixed, [2.0] * 4)):
        assert [phase.schedule(epoch)["q"] for epoch in (0, 1, 100, 500)] == wanted
    assert [spl.schedule(epoch)["active"] for epoch in (0, 1)] == [0, 1]


def test_gce_tends_to_cross_entropy_with_its_gradient():
    logits = rows(9, 4).requires_grad_()
    target = torch.arange(9) % 4
    labels = torch.eye(4, dtype=torch.float64)[target]
    wanted = torch.nn.functional.cross_entropy(logits, target)
    for q, tolerance in ((0.0, 1e-12), (1e-7, 1e-5)):
        got = generalized_cross_entropy(logits, labels, torch.tensor(q, dtype=torch.float64))
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)
        a, b = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (got, wanted))
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_gce_is_finite_where_probabilities_underflow_and_without_labels():
    logits = torch.tensor([[-2000.0, 0.0], [0.0, 0.0]], requires_grad=True)
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    for q in (0.0, 0.01, 1.0, 2.0):
        loss = generalized_cross_entropy(logits, labels, torch.tensor(q))
        gradient = torch.autograd.grad(loss, logits)[0]
        assert loss.isfinite()
        assert gradient.isfinite().all()
        assert not gradient[1].any()  # a row without a label pulls nowhere
    assert log_label_mass(logits, labels)[1] == 0


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0, 2.0])
def test_gradients_by_finite_differences(q):
    labels = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits = rows(5, 4).requires_grad_()
    q_ = torch.tensor(q, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: generalized_cross_entropy(z, labels, q_), logits)
    recast = rows(5, 6, seed=2)
    assert torch.autograd.gradcheck(lambda f: discrepancy(recast, f), rows(5, 6, seed=3).requires_grad_())


def test_discrepancy_ignores_a_common_rotation_and_the_length_of_rows():
    recast, features = rows(7, 5), rows(7, 5, seed=1)
    rotation = torch.linalg.qr(rows(5, 5, seed=2)).Q
    lengths = torch.rand(7, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.5
    wanted = discrepancy(recast, features)
    torch.testing.assert_close(discrepancy(recast @ rotation, features @ rotation), wanted)
    torch.testing.assert_close(discrepancy(recast * lengths, features / lengths), wanted)
    assert discrepancy(features, features).item() == pytest.approx(0, abs=1e-20)


def test_recasting_is_reversible():
    prior = rows(16, 5)[None]
    torch.testing.assert_close(recast_matrix(prior, "pinv")[0] @ prior[0], torch.eye(5, dtype=torch.float64))
    assert torch.equal(recast_matrix(prior, "transpose"), prior.mT)


def test_mix_of_one_is_no_augmentation():
    x = rows(6, 3)
    assert augment(x, torch.randperm(6), 1.0) is x


def test_encoder_start_and_zero_rows():
    torch.manual_seed(0)
    encoder = UnitMLP(100, (32, 16), 8)
    assert encoder.last.weight.abs().max() <= 0.1  # the raw width 100, not the fan-in 16
    assert encoder.last.weight.abs().max() > 0.09
    torch.testing.assert_close(encoder(torch.randn(4, 100)).norm(dim=1), torch.ones(4))
    x = torch.zeros(2, 3, requires_grad=True)
    assert not torch.autograd.grad(unit_rows(x).sum(), x)[0].any()


def test_prior_start_is_orthogonal_and_fixed():
    start = random_orthogonal(16, 5, 1000)
    torch.testing.assert_close(start.T @ start, torch.eye(5), rtol=0, atol=1e-5)
    assert torch.equal(start, random_orthogonal(16, 5, 1000))
    with pytest.raises(ValueError, match="embedding width"):
        random_orthogonal(4, 5, 1000)


def test_the_prior_is_learned_and_the_best_scored_modality_provides_it():
    _, log = fit()
    scores = log.notes["prior"]["score"]
    winner = log.notes["prior"]["selected"][0]
    assert max(scores, key=lambda m: scores[m][0]) == winner
    assert np.array_equal(log.arrays["prior"], log.arrays[f"prior/{winner}"])
    assert not np.allclose(log.arrays["prior"][0], random_orthogonal(16, 3, 1000).numpy())
    _, plain = fit(prior="orthogonal")
    assert np.allclose(plain.arrays["prior"][0], random_orthogonal(16, 3, 1000).numpy())


def test_the_prior_is_that_of_the_last_epoch_or_of_the_best_score():
    settings = {"prior": "learned:text", "q_step": 0.07, "lr_spl": 1e-1, "batch": 8}
    last, best = fit(epochs=8, **settings)[1], fit(epochs=8, **settings, spl_snapshot="best")[1]
    scores = [each[0] for each in last.history["spl/text"]["val/quality"]]
    assert np.argmax(scores) < 7, "the last epoch was the best, so nothing was tested"
    early = fit(epochs=int(np.argmax(scores)) + 1, **settings)[1]
    assert np.array_equal(best.arrays["prior"], early.arrays["prior"])
    assert not np.allclose(best.arrays["prior"], last.arrays["prior"])


def test_an_encoder_is_that_of_the_smallest_validation_loss_or_the_last():
    settings = {"epochs": 15, "q_step": 0.07, "lr": {"default": 3e-2}, "batch": 8, "lr_spl": 3e-2}
    (kept,), log = fit(**settings)
    (last,), _ = fit(**settings, select="last")
    _, fixed = fit(**settings, select="loss_q1")
    curve, of_one = (np.array(each.history["rsc/image"]["val/total"])[:, 0] for each in (log, fixed))
    assert curve.argmin() < 14, "the last epoch was the best, so nothing was tested"
    assert not torch.allclose(kept.embed("image", rows(5, 8)), last.embed("image", rows(5, 8)))
    assert (of_one[:13] < curve[:13]).all()  # the loss falls with q
    assert of_one[14] == curve[14]  # which is 1 by then


def test_the_prior_stays_as_it_is_in_the_second_stage():
    _, log = fit(epochs=3)
    _, longer = fit(epochs=3, lr={"default": 5e-2})
    assert np.array_equal(log.arrays["prior"], longer.arrays["prior"])


def test_unknown_learning_rates_are_searched_on_validation():
    _, log = fit(lr={"image": 1e-3, "default": 0.0}, lr_grid=[1e-6, 1e-2])
    assert set(log.notes["tuned_lr"]) == {"text", "audio"}
    for name, chosen in log.notes["tuned_lr"].items():
        quality = {rate: log.history[f"rsc/{name}/lr={rate:g}"] for rate in (1e-6, 1e-2)}
        kept = {
            rate: h["val/quality"][int(np.argmin([row[0] for row in h["val/total"]]))][0]
            for rate, h in quality.items()
        }
        assert chosen == [max(kept, key=kept.get)]


@pytest.mark.real_data
def test_published_priors_start_from_ours(data_folder):
    """Both published Wikipedia priors have a clear component along our start, and none along another's."""
    folder = data_folder("drcl_official_wikipedia")
    start, other = (random_orthogonal(2048, 10, seed) for seed in (1000, 1))
    for file, share in (("W_2048X10wiki0.mat", 4.16), ("W_2048X10wiki1.mat", 3.95)):
        prior = torch.from_numpy(loadmat(folder / file)["W"])
        assert (start * prior).sum(dim=0).mean().item() == pytest.approx(share, abs=0.01)
        assert abs((other * prior).sum(dim=0).mean().item()) < 0.1
