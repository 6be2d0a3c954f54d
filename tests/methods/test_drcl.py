"""Properties of DRCL."""

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.layers import UnitMLP, random_orthogonal, unit_rows
from benchmark.methods.blocks.losses import generalized_cross_entropy, log_label_mass
from benchmark.methods.blocks.prior import q_spl
from benchmark.methods.drcl import DRCL, DRCLConfig, augment, discrepancy, q_rsc, recast_matrix
from scipy.io import loadmat

from benchmark.core.method import Run
from benchmark.errors import RecipeError, UnsupportedError
from tests.methods.data import SIZES, make_split, rows


def fit(seeds=(1,), split=None, replicas="auto", precision="fp64", device=None, **values):
    method = DRCL.from_values({**DRCL.tiny(), **values})
    train = split or make_split(SIZES)
    run = Run(seeds, device or torch.device("cpu"), precision, replicas)
    method.check(train)
    return method.fit(train, make_split(SIZES, seed=1, multi=train.label_form == "multi"), run), run


def test_schedules():
    assert [q_spl(0), q_spl(1), q_spl(100), q_spl(500)] == [0, 0.01, 1, 1]
    assert [q_rsc(0), q_rsc(99), q_rsc(500)] == [0.01, 1, 1]


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


@pytest.mark.parametrize("values", [{}, {"spl_q0": "ce", "spl_snapshot": "best", "select": "loss_q1"}])
def test_three_seeds_together_equal_each_alone(values, device):
    seeds = (1, 2, 3)
    together, run = fit(seeds, replicas="together", device=device, **values)
    alone, _ = fit(seeds, replicas="alone", device=device, **values)
    single, _ = fit((2,), device=device, **values)
    for name, (_, d) in SIZES.items():
        x = rows(11, d).to(device)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a.embed(name, x), b.embed(name, x), rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(together[1].embed(name, x), single[0].embed(name, x), rtol=1e-7, atol=1e-9)
    assert run.arrays["prior"].shape == (3, 16, 3)


def test_a_modality_does_not_depend_on_the_others_given_prior_and_seed():
    both, _ = fit(prior="orthogonal")
    only = make_split({m: SIZES[m] for m in ("image", "text")})
    pair, _ = fit(prior="orthogonal", split=only)
    x = rows(11, 8)
    assert torch.equal(both[0].embed("image", x), pair[0].embed("image", x))


def test_the_prior_is_learned_and_the_best_scored_modality_provides_it():
    _, run = fit()
    scores = run.notes["prior"]["score"]
    winner = run.notes["prior"]["selected"][0]
    assert max(scores, key=lambda m: scores[m][0]) == winner
    assert np.array_equal(run.arrays["prior"], run.arrays[f"prior/{winner}"])
    assert not np.allclose(run.arrays["prior"][0], random_orthogonal(16, 3, 1000).numpy())
    _, plain = fit(prior="orthogonal")
    assert np.allclose(plain.arrays["prior"][0], random_orthogonal(16, 3, 1000).numpy())


def test_score_on_validation_rows_and_last_against_best_snapshot():
    _, a = fit()
    _, b = fit(score_split="val")
    assert a.notes["prior"]["score"] != b.notes["prior"]["score"]


def test_the_prior_stays_as_it_is_in_the_second_stage():
    _, run = fit(epochs=3)
    _, longer = fit(epochs=3, lr={"default": 5e-2})
    assert np.array_equal(run.arrays["prior"], longer.arrays["prior"])


def test_unknown_learning_rates_are_searched_on_validation():
    _, run = fit(lr={"image": 1e-3, "default": 0.0}, lr_grid=[1e-6, 1e-2])
    assert set(run.notes["tuned_lr"]) == {"text", "audio"}
    for name, chosen in run.notes["tuned_lr"].items():
        quality = {rate: run.history[f"rsc/{name}/lr={rate:g}"] for rate in (1e-6, 1e-2)}
        kept = {
            rate: h["val/quality"][int(np.argmin([row[0] for row in h["val/total"]]))][0]
            for rate, h in quality.items()
        }
        assert chosen == [max(kept, key=kept.get)]


def test_a_modality_smaller_than_the_batch_and_labels_of_many_classes():
    retrievers, run = fit(batch=1024, split=make_split(SIZES, multi=True))
    assert retrievers[0].embed("audio", rows(2, 4)).shape == (2, 16)
    assert len(run.history["rsc/audio"]["train/total"]) == 4


@pytest.mark.parametrize(
    "values",
    [
        {"mix": 1.0},
        {"mixup": "input"},
        {"recast": "transpose"},
        {"q_fixed": 2.0},
        {"eta": 0.0},
        {"keep_remainder": True},
    ],
)
def test_every_variant_trains_and_differs(values):
    base, _ = fit(epochs=3)
    changed, _ = fit(epochs=3, **values)
    x = rows(5, 8)
    assert changed[0].embed("image", x).isfinite().all()
    assert not torch.equal(base[0].embed("image", x), changed[0].embed("image", x))


def test_training_learns_to_retrieve():
    retrievers, _ = fit(epochs=40, q_step=0.03, lr_spl=1e-2, lr={"default": 1e-2})
    test = make_split(SIZES, seed=5)
    image, text = (
        retrievers[0].embed(m, torch.from_numpy(test[m].features).double()) for m in ("image", "text")
    )
    nearest = torch.from_numpy(test["text"].labels)[(image @ text.T).argmax(dim=1)]
    assert (nearest == torch.from_numpy(test["image"].labels)).double().mean() > 0.9


def test_wrong_values_are_refused():
    for values, message in [
        ({"select": "test"}, "select must be one of loss, loss_q1, last"),
        ({"mix": 2.0}, "mix must lie in 0..1"),
        ({"epochs": 0}, "must be positive"),
        ({"lr": {"image": -1.0}}, "must not be negative"),
        ({"lr": {"image": 0.0}, "lr_grid": []}, "lr_grid is empty"),
    ]:
        with pytest.raises(RecipeError, match=message):
            DRCL.from_values(values)
    with pytest.raises(UnsupportedError, match="at least as wide as the 3 classes"):
        fit(dim=2)
    assert DRCLConfig() == DRCL.from_values({}).config


@pytest.mark.real_data
def test_published_priors_start_from_ours(data_folder):
    """Both published Wikipedia priors have a clear component along our start, and none along another's."""
    folder = data_folder("drcl_official_wikipedia")
    start, other = (random_orthogonal(2048, 10, seed) for seed in (1000, 1))
    for file, share in (("W_2048X10wiki0.mat", 4.16), ("W_2048X10wiki1.mat", 3.95)):
        prior = torch.from_numpy(loadmat(folder / file)["W"])
        assert (start * prior).sum(dim=0).mean().item() == pytest.approx(share, abs=0.01)
        assert abs((other * prior).sum(dim=0).mean().item()) < 0.1
