"""MCCA: what the mathematics says of it, against an independent dense solution of the definition."""

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from benchmark.methods.blocks import multiset
from benchmark.methods.blocks.multiset import Problem, couple_joint, principal_axes

from benchmark.core import pairing
from benchmark.core.data import Modality, MultimodalData, Split
from benchmark.core.method import FitLog, RunContext, derive_seed
from benchmark.evaluation.metrics import evaluate
from benchmark.runs.prepare import standardize
from tests.methods.data import build
from tests.methods.data import fit as fit_method

DIMS = {"image": 9, "text": 6, "audio": 4, "3d": 12, "video": 5}
ROWS = {"image": 40, "text": 40, "audio": 17, "3d": 8, "video": 23}


def make_split(
    rows=None, names=("image", "text", "audio", "3d", "video"), *, name="train", classes=4, **options
):
    """Class centres plus noise, seen through a fixed random map per modality; image and text share items."""
    rows = rows or ROWS
    noise, dims = options.get("noise", 0.5), options.get("dims", DIMS)
    rng = np.random.default_rng([options.get("seed", 0), len(name)])
    centres = np.random.default_rng(99).normal(size=(classes, 8))
    modalities = {}
    for number, m in enumerate(names):
        labels = np.random.default_rng(0 if m in ("image", "text") else number).permutation(
            np.arange(rows[m]) % classes
        )
        view = np.random.default_rng(number + 50).normal(size=(8, dims[m]))
        x = centres[labels] @ view + noise * rng.normal(size=(rows[m], dims[m]))
        ids = np.arange(rows[m]) if m in ("image", "text") else None
        modalities[m] = Modality(m, x.astype(np.float32), labels, ids)
    return Split(name, modalities, classes)


def fit(train, val=None, seeds=(1,), **values):
    return fit_method(
        "mcca", train, val or train, run=RunContext(seeds), **{"kappa": [0.1], "k": [3]} | values
    )


def embed(model, split):
    return {m.name: model.embed(m.name, torch.from_numpy(m.features)) for m in split}


def mean_map(model, split, a, b):
    x = embed(model, split.restrict((a, b)))
    y = {m.name: torch.from_numpy(m.labels) for m in split}
    return [each.mean("map@all") for each in evaluate(x[a], y[a], x[b], y[b], metrics=("map@all",))]


def problem_of(matrices):
    """Every matrix whole and in order."""
    count = torch.ones(len(matrices[0]), dtype=torch.int64)
    axes = [principal_axes(torch.as_tensor(x), count) for x in matrices]
    return Problem(axes, couple_joint([torch.arange(len(count))] * len(axes), [count] * len(axes)))


def definition(blocks, covariances, kappa, k):
    """Top eigenvalues and stacked directions of A w = lambda B w, formed in full (a separate solution)."""
    dims = [len(c) for c in covariances]
    A = np.block([
        [np.zeros((du, dv)) if u == v else blocks(u, v) for v, dv in enumerate(dims)]
        for u, du in enumerate(dims)
    ])  # fmt: skip
    B = scipy.linalg.block_diag(*(c + kappa * np.trace(c) / len(c) * np.eye(len(c)) for c in covariances))
    values, vectors = scipy.linalg.eigh(A, B)
    vectors = vectors[:, ::-1][:, :k]
    vectors = vectors * np.sign(np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0))
    return values[::-1][:k], vectors, B


def joint_definition(split, table, kappa, k):
    x = [split[m].features[table[m]].astype(np.float64) for m in split.names]
    x = [each - each.mean(0) for each in x]
    n = len(x[0])
    return definition(lambda u, v: x[u].T @ x[v] / n, [each.T @ each / n for each in x], kappa, k)


def rng_matrices(dims, n=50, seed=3):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 4))
    return [shared @ rng.normal(size=(4, d)) + rng.normal(size=(n, d)) for d in dims]


# --- the eigenproblem -------------------------------------------------------------------------------------


def test_two_modalities_without_ridge_give_canonical_correlations():
    x, y = rng_matrices((7, 5))
    q = [np.linalg.qr(each - each.mean(0))[0] for each in (x, y)]
    correlations = np.linalg.svd(q[0].T @ q[1], compute_uv=False)
    values, (wx, wy) = problem_of((x, y)).solve(0.0, 5)
    np.testing.assert_allclose(values, correlations, atol=1e-12)
    for j in range(5):
        u, v = (x - x.mean(0)) @ wx[:, j].numpy(), (y - y.mean(0)) @ wy[:, j].numpy()
        assert np.corrcoef(u, v)[0, 1] == pytest.approx(correlations[j], abs=1e-10)


@pytest.mark.parametrize("kappa", [0.0, 0.3])
def test_linear_maps_and_scales(kappa):
    x = rng_matrices((7, 5, 6))
    before, _ = problem_of(x).solve(kappa, 4)
    scaled, _ = problem_of([x[0] * 1e-3, x[1], x[2] * 50]).solve(kappa, 4)
    np.testing.assert_allclose(scaled, before, atol=1e-10)
    mixed = [x[0] @ np.random.default_rng(1).normal(size=(7, 7)), x[1], x[2]]
    after, _ = problem_of(mixed).solve(kappa, 4)
    difference = (after - before).abs().max()
    assert difference < 1e-9 if kappa == 0 else difference > 1e-3


@pytest.mark.parametrize("kappa", [0.0, 0.1])
def test_constraint_and_bound(kappa):
    x = rng_matrices((7, 5, 6, 60), n=80)
    values, parts = problem_of(x).solve(kappa, 6)
    assert float(values[0]) <= 3 + 1e-12
    gram = np.zeros((6, 6))
    for each, part in zip(x, parts, strict=True):
        c = np.cov(each.T, bias=True)
        gram += part.numpy().T @ (c + kappa * np.trace(c) / len(c) * np.eye(len(c))) @ part.numpy()
    np.testing.assert_allclose(gram, np.eye(6), atol=1e-9)


def test_identical_views_reach_the_bound():
    x = rng_matrices((5,))[0]
    values, _ = problem_of([x, x, x]).solve(0.0, 5)
    np.testing.assert_allclose(values, 2.0, atol=1e-10)


def test_more_columns_than_rows_agrees_with_the_definition():
    x = rng_matrices((70, 5), n=30)
    c = [np.cov(each.T, bias=True) for each in x]
    centred = [each - each.mean(0) for each in x]
    want, vectors, _ = definition(lambda u, v: centred[u].T @ centred[v] / 30, c, 0.2, 4)
    values, parts = problem_of(x).solve(0.2, 4)
    np.testing.assert_allclose(values, want, atol=1e-10)
    np.testing.assert_allclose(torch.cat(parts), vectors, atol=1e-8)


def test_lanczos_equals_dense_and_repeats_bit_for_bit(monkeypatch):
    x = rng_matrices((40, 30, 25), n=90)
    dense = problem_of(x).solve(0.1, 6)
    monkeypatch.setattr(multiset, "DENSE_LIMIT", 0)
    problem = problem_of(x)
    first, again = problem.solve(0.1, 6), problem.solve(0.1, 6)
    assert "matrix" not in vars(problem)  # it was not formed
    np.testing.assert_allclose(first[0], dense[0], atol=1e-10)
    np.testing.assert_allclose(torch.cat(first[1]), torch.cat(dense[1]), atol=1e-7)
    assert torch.equal(first[0], again[0])
    assert torch.equal(torch.cat(first[1]), torch.cat(again[1]))


def test_columns_that_repeat_each_other_change_nothing():
    x, y = rng_matrices((6, 5))
    values, _ = problem_of([np.hstack([x, x, 0 * x]), y]).solve(0.0, 4)
    want, _ = problem_of([x, y]).solve(0.0, 4)
    np.testing.assert_allclose(values, want, atol=1e-10)


def test_constant_columns_are_not_mistaken_for_variance():
    x = np.full((500, 3), np.float32(0.1), np.float64)
    axes = principal_axes(torch.from_numpy(x), torch.ones(500, dtype=torch.int64))
    assert axes.left.shape == (500, 0)


# --- alignment --------------------------------------------------------------------------------------------


def test_joint_rows_follow_the_definition():
    train = make_split()
    table = pairing.cycle_rows(train, lambda name: derive_seed(7, "mcca", name))
    values, vectors, _ = joint_definition(train, table, 0.3, 3)
    (model,), log = fit(train, seeds=(7,), kappa=[0.3])
    np.testing.assert_allclose(log.notes["fits"][0]["eigenvalues"], values, atol=1e-9)
    stacked = np.concatenate([model.maps[m][1] for m in train.names])
    np.testing.assert_allclose(stacked, vectors, atol=1e-6)
    for m in train.names:
        mean = train[m].features[table[m]].astype(np.float64).mean(0)
        np.testing.assert_allclose(model.maps[m][0], mean, atol=1e-12)


def test_permuting_joint_rows_changes_nothing():
    train = make_split().restrict(("image", "text"))
    order = np.random.default_rng(5).permutation(40)
    image, text = train["image"].take(order), train["text"].take(np.random.default_rng(6).permutation(40))
    shuffled = Split("train", {"image": image, "text": text}, train.classes)
    (a,), _ = fit(train)
    (b,), _ = fit(shuffled)
    for m, x in embed(a, train).items():
        torch.testing.assert_close(embed(b, train)[m], x, atol=1e-5, rtol=1e-5)


def test_seeds_matter_only_where_rows_are_matched_at_random():
    train = make_split()
    (one, two, three), log = fit(train, seeds=(1, 2, 1))
    assert one is three
    assert len(log.notes["fits"]) == 2
    assert not torch.allclose(one.maps["audio"][1], two.maps["audio"][1])
    (one, two), log = fit(train.restrict(("image", "text")), seeds=(1, 2))
    assert one is two
    assert log.notes["fits"][0]["seed"] is None


# --- what it retrieves ------------------------------------------------------------------------------------

WIDE = dict.fromkeys(DIMS, 30)
EASY = {"image": 200, "text": 200, "audio": 80, "3d": 40, "video": 50}


def test_independent_noise_scores_chance_and_leaves_the_others_intact():
    def noisy(split, seed):
        features = np.random.default_rng(seed).normal(size=split["audio"].features.shape)
        return replaced(split, "audio", features.astype(np.float32))

    names = ("image", "text", "audio")
    train = noisy(make_split(EASY, names, dims=WIDE, classes=8), 0)
    test = make_split(dict.fromkeys(EASY, 200), names, dims=WIDE, classes=8, name="test")
    (model,), _ = fit(train, kappa=[1.0], k=[10])
    (alone,), _ = fit(train.restrict(("image", "text")), kappa=[1.0], k=[10])
    assert min(mean_map(alone, test, "image", "text")) > 0.95
    assert min(mean_map(model, test, "image", "text")) > 0.95
    y = {m.name: torch.from_numpy(m.labels) for m in test}
    x = {m.name: torch.randn(len(m), 2) for m in test}
    chance = evaluate(x["image"], y["image"], x["audio"], y["audio"], metrics=("map@all",))[0].chance
    # Noise as the database: its order is uniformly random. (As queries it would rank whole image classes.)
    scores = [mean_map(model, noisy(test, seed), "image", "audio")[0] for seed in range(20)]
    assert np.std(scores) < 0.02
    assert np.mean(scores) == pytest.approx(chance, abs=4 * np.std(scores) / np.sqrt(20))


def test_selection_takes_the_best_of_the_grid_on_validation_data():
    train, val = make_split(noise=2.0), make_split(noise=2.0, name="val")
    grid = {"kappa": (0.01, 1.0), "k": (1, 3, 100)}
    (chosen,), log = fit(train, val, **grid)
    facts = log.notes["fits"][0]
    scores = {}
    for kappa in grid["kappa"]:
        for k in grid["k"]:
            (model,), one = fit(train, val, kappa=[kappa], k=[k])
            pairs = [(a, b) for i, a in enumerate(train.names) for b in train.names[i + 1 :]]
            every = [s for a, b in pairs for s in mean_map(model, val, a, b)]
            scores[kappa, one.notes["fits"][0]["k"]] = np.mean(every)
    assert (facts["kappa"], facts["k"]) == max(scores, key=scores.get)
    assert facts["val_map"] == pytest.approx(max(scores.values()), abs=1e-12)
    assert len(facts["eigenvalues"]) == facts["k"] == chosen.maps["image"][1].shape[1]


def test_selection_off_takes_the_fallback_and_never_looks_at_validation_data():
    train = make_split()
    val = replaced(train, "3d", np.full((8, 12), np.nan, np.float32))  # would be refused if it were scored
    (_,), log = fit(train, val, select="off", kappa=[0.2, 1.0], k=[3, 4])
    facts = log.notes["fits"][0]
    assert facts["kappa"] == 0.1
    assert facts["k"] <= 50
    assert "val_map" not in facts
    (_,), log = fit(train, select="off", kappa=(0.5,), k=(2,))
    assert (log.notes["fits"][0]["kappa"], log.notes["fits"][0]["k"]) == (0.5, 2)


# --- edges ------------------------------------------------------------------------------------------------


def replaced(split, name, features):
    m = split[name]
    ids = None if m.pair_ids is None else m.pair_ids[: len(features)]
    new = Modality(name, features, m.labels[: len(features)], ids)
    return Split(split.name, {**split.modalities, name: new}, split.classes)


def test_a_modality_that_never_varies_embeds_as_zero():
    train = make_split()
    constant = replaced(train, "audio", np.full((17, 4), 0.3, np.float32))
    (model,), _ = fit(constant)
    x = embed(model, constant)
    assert x["audio"].shape == (17, 3)
    assert not x["audio"].any()
    assert torch.isfinite(x["image"]).all()
    assert x["image"].any()


def test_a_modality_of_one_row():
    train = make_split()
    single = replaced(train, "3d", train["3d"].features[:1])
    (model,), _ = fit(single)
    assert torch.isfinite(embed(model, train)["3d"]).all()


def test_components_are_capped_at_the_positive_eigenvalues():
    train = make_split(names=("image", "text"))
    (model,), log = fit(train, kappa=[0.0], k=[500])
    # The two-set problem has +/- pairs of eigenvalues: as many positive ones as the narrower side has.
    assert log.notes["fits"][0]["k"] == DIMS["text"]
    assert min(log.notes["fits"][0]["eigenvalues"]) > 0
    assert embed(model, train)["image"].shape == (40, 6)


def test_rows_without_partner_are_reported():
    train = make_split()
    (_,), log = fit(replaced(train, "text", train["text"].features[:30]))
    assert log.notes["fits"][0]["rows_without_partner"] == {"image": 10}


def test_embedding_keeps_the_type():
    train = make_split()
    (model,), _ = fit(train)
    x = torch.from_numpy(train["image"].features)
    assert model.embed("image", x).dtype == torch.float32
    assert model.embed("image", x.double()).dtype == torch.float64


def test_large_offsets_cost_no_precision():
    train = make_split(names=("image", "text"))
    moved = replaced(train, "text", (train["text"].features * 2**-4 + 1024).astype(np.float32))
    exact = replaced(train, "text", moved["text"].features - 1024)
    (a,), _ = fit(moved)
    (b,), _ = fit(exact)
    torch.testing.assert_close(embed(a, moved)["text"], embed(b, exact)["text"], rtol=1e-5, atol=1e-6)


@pytest.mark.real_data
def test_classic_wikipedia(data_folder, device):
    """Known from the literature of these features: CCA with 7 components, 0.247 / 0.201 on the 693 rows."""
    from scipy.io import loadmat

    folder = Path(data_folder("wikipedia_classic"))
    file = loadmat(folder / "raw_features.mat")
    labels = {
        split: np.loadtxt(folder / f"{split}set_txt_img_cat.list", usecols=2, delimiter="\t", dtype=np.int64)
        - 1
        for split in ("train", "test")
    }

    def load(split, suffix):
        y = labels[split]
        features = {"image": file[f"I_{suffix}"], "text": file[f"T_{suffix}"]}
        parts = {m: Modality(m, x.astype(np.float32), y, np.arange(len(y))) for m, x in features.items()}
        return Split(split, parts, 10)

    raw = MultimodalData("classic", "user", load("train", "tr"), load("test", "te"), load("test", "te"))
    for data in (standardize(raw), raw):
        for k in (5, 7, 10):
            method = build("mcca", kappa=[0.001], k=[k])
            (model,) = method.fit(data.train, data.val, RunContext(device=device), FitLog())
            image, text = mean_map(model, data.test, "image", "text")
            assert 0.23 < image < 0.28
            assert 0.18 < text < 0.22
            if k == 7 and data is not raw:
                assert image == pytest.approx(0.247, abs=0.01)
                assert text == pytest.approx(0.201, abs=0.01)
