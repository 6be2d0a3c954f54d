"""MMSAE: what the mathematics says of it, and its unsafe spots."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.multiset import principal_basis
from benchmark.methods.mmsae import (
    Preparation,
    View,
    alternate,
    best_codes,
    objective,
)

from benchmark.core.data import Modality
from benchmark.core.registry import METHODS
from benchmark.errors import UnsupportedError
from benchmark.runs.recipe import resolve
from tests.methods.data import PAIR, make_split, one_hot, published, rows, scores, several_labels
from tests.methods.data import fit as fit_method

CONFIG = published("mmsae", alpha=0.2, beta=0.7)
ALPHA, BETA = CONFIG.alpha, CONFIG.beta
paired = partial(make_split, PAIR, paired=True)


def fit(train=None, seeds=(1,), **values):
    models, log = fit_method("mmsae", train or paired(), seeds=seeds, **values)
    return models, log.notes["fits"]


def close(got, want, tolerance=1e-9):
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def problem(n=20, h=3):
    """Two modalities and codes at random."""
    parts = [rows(n, 6, 1), rows(n, 4, 2)]
    return [View.of(x) for x in parts], rows(n, h, 3)


# --- the two stages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [3, 8])  # 8: more codes than axes, and U'U of full rank
def test_encoders_solve_their_equation(h):
    views, codes = problem(h=h)
    for view in views:
        p = view.encoder(codes, ALPHA)
        residual = ALPHA * codes.T @ codes @ p + p @ view.x.T @ view.x - (1 + ALPHA) * codes.T @ view.x
        assert residual.abs().max() < 1e-9


def test_every_half_step_is_a_stationary_point():
    views, semantic = problem()
    codes = semantic
    for _ in range(3):
        encoders = [view.encoder(codes, ALPHA).requires_grad_() for view in views]
        value = objective(views, encoders, codes, semantic, CONFIG)
        for gradient in torch.autograd.grad(value, encoders):
            assert gradient.abs().max() < 1e-9
        encoders = [p.detach() for p in encoders]
        codes = best_codes(views, encoders, semantic, CONFIG).requires_grad_()
        (gradient,) = torch.autograd.grad(objective(views, encoders, codes, semantic, CONFIG), codes)
        assert gradient.abs().max() < 1e-9
        codes = codes.detach()


def test_objective_is_a_sum_over_entries_with_the_gradient_of_autograd():
    views, semantic = problem(n=5, h=2)
    encoders, codes = [rows(2, 6, 4), rows(2, 4, 5)], rows(5, 2, 6)
    want = BETA * sum(float(d) ** 2 for d in (codes - semantic).flatten())
    for view, p in zip(views, encoders, strict=True):
        for i in range(5):
            want += float(((p @ view.x[i] - codes[i]) ** 2).sum())
            want += ALPHA * float(((view.x[i] - p.T @ codes[i]) ** 2).sum())
    assert float(objective(views, encoders, codes, semantic, CONFIG)) == pytest.approx(want)
    free = [p.clone().requires_grad_() for p in (*encoders, codes)]
    assert torch.autograd.gradcheck(lambda p, q, u: objective(views, [p, q], u, semantic, CONFIG), free)


def test_objective_never_increases():
    views, semantic = problem()
    _, _, trace = alternate(views, semantic, replace(CONFIG, passes=20))
    assert len(trace) == 40
    assert np.all(np.diff(trace) <= 1e-12 * trace[0])
    _, facts = fit(h=2, alpha=0.5)
    assert np.all(np.diff(facts[0]["objective"]) <= 0)


def test_without_decoders_encoders_are_least_squares():
    views, semantic = problem()
    for view in views:
        close(view.encoder(semantic, 0.0), torch.linalg.lstsq(view.x, semantic).solution.T)


def test_rotations_of_codes_and_axes_turn_the_encoders():
    views, semantic = problem()
    turn = torch.linalg.qr(rows(3, 3, 7)).Q
    encoders, codes, trace = alternate(views, semantic, CONFIG)
    turned, turned_codes, turned_trace = alternate(views, semantic @ turn, CONFIG)
    np.testing.assert_allclose(trace, turned_trace)
    close(turned_codes, codes @ turn)
    for p, q in zip(encoders, turned, strict=True):
        close(q, turn.T @ p)
    flips = [torch.tensor([1.0, -1] * (view.x.shape[1] // 2)).double() for view in views]
    mirrored = [View.of(v.x * f) for v, f in zip(views, flips, strict=True)]
    flipped, _, _ = alternate(mirrored, semantic, CONFIG)
    for p, q, f in zip(encoders, flipped, flips, strict=True):
        close(q, p * f)


def test_with_as_many_codes_as_classes_the_first_stage_only_rotates():
    train = paired()
    (model,), _ = fit(train)
    views, inputs = [], []
    for m in train:
        x = torch.from_numpy(m.features).double()
        x = Preparation.of(x, "l2_center")(x)
        basis = principal_basis(x, 0.99)
        close(basis.T @ basis, torch.eye(basis.shape[1]).double())
        inputs.append(x @ basis)
        views.append(View.of(inputs[-1]))
    y = one_hot(train["image"].labels, 3)
    (p, q), _, _ = alternate(views, y - y.mean(0), published("mmsae"))
    close(scores(model, train), inputs[0] @ p.T @ q @ inputs[1].T)
    (wider,), facts = fit(train, h=10)  # there are no more codes than classes
    assert facts[0]["h"] == 3
    close(scores(wider, train), scores(model, train))
    (narrow,), _ = fit(train, h=1)
    assert (scores(narrow, train) - scores(model, train)).abs().max() > 0.01


@pytest.mark.parametrize("shape", [(30, 8), (6, 9)])  # taller and wider than square
def test_principal_basis_is_that_of_an_svd(shape):
    x = rows(*shape) + 5
    _, s, right = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    count = int(((s**2).cumsum(0) / (s**2).sum() < 0.9).sum()) + 1
    got = principal_basis(x, 0.9)
    close(got @ got.T, right[:count].T @ right[:count])


def test_centred_features_need_no_second_decomposition():
    x = rows(30, 8)
    centred = View.of((x - x.mean(0)) @ principal_basis(x))
    assert torch.equal(centred.vectors, torch.eye(8).double())
    raw = View.of((x + 5) @ principal_basis(x))
    for view in (centred, raw):
        squares = view.x.T @ view.x
        close(view.vectors @ view.values.diag() @ view.vectors.T, squares, 1e-10)


# --- preparation ------------------------------------------------------------------------------------------


def test_preparations():
    x = rows(9, 4) + 3
    x[:, 2] = 0.3
    unit = x / x.norm(dim=1, keepdim=True)
    close(Preparation.of(x, "l2_center")(x), unit - unit.mean(0))
    assert torch.equal(Preparation.of(x, "none")(x), x)
    flat = Preparation.of(torch.full((9, 4), 0.3).double(), "l2_center")
    assert not flat(torch.full((2, 4), 0.3).double()).any(), "rounding leaves nothing of a constant"


@pytest.mark.parametrize("prepare", ["l2_center", "none"])
def test_rotating_the_features_changes_nothing(prepare):
    train = paired()
    (model,), _ = fit(train, prepare=prepare)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0]
    image = replace(train["image"], features=(train["image"].features @ turn).astype(np.float32))
    turned = replace(train, modalities={"image": image, "text": train["text"]})
    (other,), _ = fit(turned, prepare=prepare)
    close(scores(other, turned), scores(model, train), 1e-5)


# --- the method -------------------------------------------------------------------------------------------


def test_scores_are_inner_products():
    (model,), _ = fit()
    test = make_split(seed=5, name="test")
    forth, back = scores(model, test), scores(model, test, "text", "image")
    close(forth, back.T)
    x = {m.name: torch.from_numpy(m.features) for m in test}
    z = {m: model.embed(m, x[m]) for m in ("image", "text")}
    single = model.similarity("image", x["image"], "text", x["text"])
    assert single.dtype == z["image"].dtype == torch.float32
    close(single, z["image"] @ z["text"].T, 1e-5)
    assert not torch.allclose(single, torch.cosine_similarity(z["image"][:, None], z["text"][None], dim=2))


def test_partners_are_found_by_their_ids():
    train = paired()
    order = np.random.default_rng(0).permutation(30)
    moved = replace(train, modalities={"image": train["image"], "text": train["text"].take(order)})
    (one,), facts = fit(train)
    (two,), _ = fit(moved)
    close(scores(two, train), scores(one, train))
    assert "rows_without_partner" not in facts[0]
    fewer = replace(train, modalities={"image": train["image"], "text": train["text"].take(np.arange(24))})
    (_,), facts = fit(fewer)
    assert facts[0]["rows_without_partner"] == {"image": 6}


def test_seeds_matter_only_where_rows_are_matched_by_class():
    (one, two), facts = fit(seeds=(1, 2))
    assert one is two
    assert [each["seed"] for each in facts] == [None]
    train = make_split({"image": (30, 8), "text": (21, 5)})
    (one, two, three), facts = fit(train, seeds=(1, 2, 1))
    assert one is three
    assert [each["seed"] for each in facts] == [1, 2]
    assert not torch.allclose(scores(one, train), scores(two, train))
    assert (train["text"].labels[scores(one, train).argmax(1)] == train["image"].labels).mean() > 0.8


def test_several_labels_per_item():
    several = several_labels(paired(multi=True))
    (model,), _ = fit(several)
    assert torch.isfinite(scores(model, several)).all()
    with pytest.raises(UnsupportedError, match="one label per item"):
        fit(make_split(PAIR, multi=True))


@pytest.mark.parametrize("prepare", ["l2_center", "none"])
def test_a_modality_that_never_varies_embeds_as_zero(prepare):
    train = paired()
    constant = Modality("text", np.full((30, 5), 0.3, np.float32), train["text"].labels, np.arange(30))
    flat = replace(train, modalities={"image": train["image"], "text": constant})
    (model,), facts = fit(flat, prepare=prepare)
    assert facts[0]["axes"]["text"] == 0
    assert model.embed("text", torch.from_numpy(train["text"].features)).shape == (30, 3)
    assert not scores(model, train).any()


def test_the_code_width_is_the_number_of_classes():
    assert published("mmsae").h == 0
    assert resolve(METHODS.get("mmsae"), "wikipedia", "paper")["h"].value == 10
