"""The prior: every source and scale."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from benchmark.methods.blocks.layers import random_orthogonal
from benchmark.methods.blocks.prior import make_prior, orthogonal_columns, read_prior, scale_prior
from scipy.io import savemat

from benchmark.core.method import FitLog, RunContext
from benchmark.errors import DataError, RecipeError, UnknownNameError
from tests.methods.data import build, make_split, rows, values_of

SPL = {**values_of("sdml")["spl"], "epochs": 5, "q_step": 0.25, "lr": 1e-2}
RUN = RunContext((1, 2), precision="fp64")


def make(source, seed=SPL["seed"], *, d=12, train=None, run=RUN):
    host = build("sdml", dim=d, prior=source, prior_seed=seed, spl=SPL)
    log = FitLog()
    return make_prior(host.config, host.spl(), train or make_split(), run, log), log


def lengths(prior):
    return torch.linalg.vector_norm(prior, dim=-2)


@pytest.fixture(scope="module")
def selected():
    return make("selected")


@pytest.fixture
def uneven():
    """Three priors ``(12, 4)`` with columns of length 1 to 6, not orthogonal."""
    drawn = torch.stack([rows(12, 4, seed=k) for k in range(3)])
    wanted = torch.linspace(1, 6, 12, dtype=torch.float64).reshape(3, 1, 4)
    return drawn / lengths(drawn)[:, None] * wanted


def test_orthogonal_columns_are_those_spl_starts_from_or_the_hosts_own():
    prior, log = make("orthogonal")
    start = random_orthogonal(12, 3, 1000).double()
    assert torch.equal(prior, start.expand(2, -1, -1))
    assert log.notes["prior"] == {"source": "orthogonal"}
    assert np.array_equal(log.arrays["prior"], prior.numpy())
    assert torch.equal(make("orthogonal", -1)[0], orthogonal_columns(12, 3, RUN, -1))
    assert not log.history


def test_one_matrix_per_seed_or_one_for_all():
    each, same = orthogonal_columns(12, 3, RUN, -1), orthogonal_columns(12, 3, RUN, 123)
    assert not torch.allclose(each[0], each[1])
    assert torch.equal(same[0], same[1])
    assert torch.equal(same[0], random_orthogonal(12, 3, 123).double())
    assert torch.equal(orthogonal_columns(12, 3, RunContext((2,), precision="fp64"), -1)[0], each[1])
    for prior in (each, same):
        torch.testing.assert_close(
            prior.mT @ prior, torch.eye(3, dtype=torch.float64).expand(2, -1, -1), rtol=0, atol=1e-6
        )


def test_the_best_scored_modality_gives_the_selected_prior(selected):
    prior, log = selected
    scores, winners = log.notes["prior"]["score"], log.notes["prior"]["selected"]
    assert set(log.history) == {"spl/image", "spl/text", "spl/audio"}
    for r, winner in enumerate(winners):
        assert scores[winner][r] == max(scores[name][r] for name in scores)
        assert scores[winner][r] == max(row[r] for row in log.history[f"spl/{winner}"]["val/quality"])
        assert np.array_equal(prior[r].numpy(), log.arrays[f"prior/{winner}"][r])
        assert not torch.allclose(prior[r], random_orthogonal(12, 3, 1000).double(), atol=1e-2)


@pytest.mark.parametrize("name", ["image", "text", "audio"])
def test_learned_on_one_modality_is_that_modalitys_candidate(selected, name):
    prior, log = make(f"learned:{name}")
    assert set(log.history) == {f"spl/{name}"}
    np.testing.assert_allclose(prior.numpy(), selected[1].arrays[f"prior/{name}"], rtol=1e-9)
    assert log.notes["prior"]["source"] == f"learned:{name}"


def test_learning_does_not_start_from_the_hosts_columns(selected):
    torch.testing.assert_close(make("selected", -1)[0], selected[0], rtol=1e-9, atol=0)


@pytest.mark.parametrize("seed", [-1, SPL["seed"]])
def test_matched_has_the_lengths_of_the_selected_prior_and_orthogonal_directions(selected, seed):
    columns = orthogonal_columns(12, 3, RUN, seed)
    prior, _ = make("matched", seed)
    torch.testing.assert_close(lengths(prior), lengths(selected[0]), rtol=1e-6, atol=0)
    torch.testing.assert_close(prior / lengths(prior)[:, None], columns, rtol=0, atol=1e-6)


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
def test_a_prior_from_a_file(tmp_path, suffix):
    wanted = rows(12, 3).float().numpy()
    path = tmp_path / f"W{suffix}"
    if suffix == ".mat":
        savemat(path, {"W": wanted})
    else:
        np.savez(path, W=wanted)
    prior, log = make(f"file:{path}")
    assert prior.shape == (2, 12, 3)
    for each in prior:
        assert np.array_equal(each.float().numpy(), wanted)
    assert log.notes["prior"]["source"] == f"file:{path}"


def test_files_that_do_not_fit(tmp_path):
    np.savez(tmp_path / "wide.npz", W=np.ones((12, 4), np.float32))
    np.savez(tmp_path / "turned.npz", W=np.ones((3, 12), np.float32))
    np.savez(tmp_path / "nan.npz", W=np.full((12, 3), np.nan, np.float32))
    np.savez(tmp_path / "other.npz", V=np.ones((12, 3), np.float32))
    for name, error, message in [
        ("wide", RecipeError, r"W is \(12, 4\), this run needs .* \(12, 3\)"),
        ("turned", RecipeError, r"W is \(3, 12\)"),
        ("nan", RecipeError, "NaN or infinite"),
        ("other", DataError, "W"),
        ("missing", DataError, "missing.npz"),
    ]:
        with pytest.raises(error, match=message) as caught:
            make(f"file:{tmp_path / name}.npz")
        assert "\n" not in str(caught.value)


def test_an_unknown_modality_lists_the_others():
    with pytest.raises(UnknownNameError, match=r"unknown modality of the prior 'smell'.*audio, image, text"):
        make("learned:smell")


@pytest.mark.parametrize("source", ["", "best", "learned", "learned:", "file:", "selected:image"])
def test_unknown_sources(source):
    with pytest.raises(RecipeError, match="prior must be one of orthogonal, selected, matched"):
        build("sdml", prior=source)


def test_settings_of_spl_are_all_stated_and_fit():
    found = build("sdml", spl=SPL).spl()
    assert {**asdict(found), "hidden": [16], "betas": [0.5, 0.999]} == SPL
    assert build("sdml", spl=found).spl() == found
    part = {name: value for name, value in SPL.items() if name != "q0"}
    for values, message in [
        ({**SPL, "rate": 1}, "spl has no setting 'rate'; it has hidden, epochs"),
        (part, "spl does not state 'q0'"),
        ({**SPL, "q0": "no"}, "spl.q0 must be skip or ce; got 'no'"),
        (3, "spl must be a table of hidden, epochs"),
    ]:
        with pytest.raises(RecipeError, match=message):
            build("sdml", spl=values)


def test_scales(uneven):
    assert torch.equal(scale_prior(uneven, "none"), uneven)
    unit = scale_prior(uneven, "unit")
    torch.testing.assert_close(lengths(unit), torch.ones(3, 4, dtype=torch.float64))
    torch.testing.assert_close(unit * lengths(uneven)[:, None], uneven)
    mean = scale_prior(uneven, "mean")
    torch.testing.assert_close(lengths(mean).mean(dim=1), torch.ones(3, dtype=torch.float64))
    ratio = uneven / mean
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio))


def test_scales_leave_orthonormal_columns_alone():
    prior = orthogonal_columns(12, 3, RUN, -1)
    for scale in ("none", "unit", "mean"):
        torch.testing.assert_close(scale_prior(prior, scale), prior, rtol=0, atol=1e-6)


def test_unit_scale_does_not_see_positive_lengths(uneven):
    stretched = uneven * torch.tensor([0.1, 1.0, 7.0, 100.0], dtype=torch.float64)
    torch.testing.assert_close(scale_prior(stretched, "unit"), scale_prior(uneven, "unit"))


def shortest_solutions(prior):
    """Lengths nu_k of the shortest h with ``W' h = e_k``, ``(R, C)``."""
    return lengths(torch.linalg.pinv(prior).mT)


def test_unit_columns_put_the_class_points_on_or_outside_the_sphere(uneven):
    assert (shortest_solutions(uneven)[:, 1:] < 1).any()
    assert (shortest_solutions(scale_prior(uneven, "unit")) >= 1).all()


@pytest.mark.real_data
@pytest.mark.parametrize("file", ["W_2048X10wiki.mat", "W_2048X10wiki0.mat", "W_2048X10wiki1.mat"])
def test_published_priors(data_folder, file):
    """They load as they are; raw, they leave most of a unit row undetermined, and scaled they do not."""
    path = data_folder("drcl_official_wikipedia") / file
    sizes = {"image": (30, 8), "text": (30, 5)}
    run = RunContext(precision="fp64")
    prior, _ = make(f"file:{path}", d=2048, train=make_split(sizes, classes=10), run=run)
    assert prior.shape == (1, 2048, 10)
    assert np.array_equal(prior[0].numpy(), read_prior(path, (2048, 10)))
    assert ((lengths(prior) > 4.9) & (lengths(prior) < 5.5)).all()
    nu = shortest_solutions(prior)
    assert ((nu > 0.2) & (nu < 0.3)).all()
    assert (shortest_solutions(scale_prior(prior, "unit")) >= 1).all()
