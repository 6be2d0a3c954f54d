"""Metrics against vectors from public evaluation code, and against the published DRCL embeddings."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from benchmark.evaluation.metrics import evaluate, evaluate_one, interpolated_precision, precision_recall
from tests.metric_vectors import BASE, GOLDEN, MULTI, QUERY, SINGLE, golden


@pytest.mark.parametrize("k", ["all", "50", "5", "1"])
def test_golden_map(k, device):
    forward, backward = evaluate(*golden(SINGLE, device), metrics=[f"map@{k}"])
    np.testing.assert_allclose(forward.ap[f"map@{k}"], GOLDEN[f"out_ap_{k}"], atol=1e-6)
    assert forward.mean(f"map@{k}") == pytest.approx(float(GOLDEN[f"out_map_{k}"]), abs=1e-6)
    assert backward.mean(f"map@{k}") == pytest.approx(float(GOLDEN[f"out_map_{k}_reverse"]), abs=1e-6)
    assert forward.ties == backward.ties == 0
    assert forward.ap[f"map@{k}"].dtype == torch.float32
    assert forward.ap[f"map@{k}"].device.type == "cpu"


@pytest.mark.parametrize("k", [5, 50])
def test_golden_other_normalisation_differs_from_ours(k, device):
    forward = evaluate_one(*golden(SINGLE, device), metrics=[f"map_min@{k}", f"map@{k}"])
    expected = float(GOLDEN[f"out_map_{k}_alt_norm_min_k_R"])
    assert forward.mean(f"map_min@{k}") == pytest.approx(expected, abs=1e-6)
    assert abs(forward.mean(f"map@{k}") - expected) > 1e-3


@pytest.mark.parametrize("k", ["all", "5"])
def test_golden_table_of_three_modalities(k, device):
    sides = [golden(names, device) for names in (QUERY, BASE, ("in_third", "in_third_labels"))]
    table = np.zeros((3, 3))
    for (i, a), (j, b) in combinations(enumerate(sides), 2):
        results = evaluate(*a, *b, metrics=[f"map@{k}"])
        table[i, j], table[j, i] = (result.mean(f"map@{k}") for result in results)
    np.testing.assert_allclose(table, GOLDEN[f"out_table_{k}"], atol=1e-6)


@pytest.mark.parametrize("k", ["all", "50", "5"])
def test_golden_multi_label(k, device):
    query, labels, base, base_labels = golden(MULTI, device)
    scores = evaluate_one(query, labels, base, base_labels, metrics=[f"map@{k}"])
    for empty in ("zero", "skip"):
        expected = float(GOLDEN[f"out_ml_fixed_map_{k}_db80_{empty}"])
        assert scores.mean(f"map@{k}", empty=empty) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("k", ["all", "50", "5"])
@pytest.mark.parametrize("rows", [40, 80])
def test_golden_official_multi_label(k, rows, device):
    """The public code skips queries that find nothing and takes "all" for the number of queries."""
    query, labels, base, base_labels = golden(MULTI, device)
    metric = f"map@{len(query)}" if k == "all" else f"map@{k}"
    scores = evaluate_one(query, labels, base[:rows], base_labels[:rows], metrics=[metric])
    expected = float(GOLDEN[f"out_ml_map_{k}_db{rows}"])
    assert scores.mean(metric, empty="skip") == pytest.approx(expected, abs=1e-6)


def test_golden_curves(device):
    precision, recall = precision_recall(*golden(SINGLE, device))
    np.testing.assert_allclose(precision, GOLDEN["out_pr_precision_at_rank"], atol=1e-9)
    np.testing.assert_allclose(recall, GOLDEN["out_pr_recall_at_rank"], atol=1e-9)
    for empty in ("zero", "skip"):
        ours = interpolated_precision(*golden(SINGLE, device), empty=empty)
        np.testing.assert_allclose(ours, GOLDEN[f"out_pr_interp11_{empty}"], atol=1e-9)


def test_golden_official_plotting_function(device):
    query, labels, base, _ = golden(SINGLE, device)
    precision, recall = precision_recall(query, labels, base[:40], labels)
    np.testing.assert_allclose(precision, GOLDEN["out_pr_official_precision_square"], atol=1e-6)
    np.testing.assert_allclose(recall, GOLDEN["out_pr_official_recall_square"], atol=1e-6)


def test_golden_chance(device):
    scores = evaluate_one(*golden(SINGLE, device), metrics=[])
    assert scores.chance == pytest.approx(float(GOLDEN["out_expected_random_map"]), abs=1e-9)


TIE_INTERVALS = {  # over all orders of the equal scores in the published files
    ("i2t", "map@all"): (0.561825, 0.562001),
    ("t2i", "map@all"): (0.537533, 0.537638),
    ("i2t", "map@50"): (0.559780, 0.560034),
    ("t2i", "map@50"): (0.684701, 0.684847),
}


@pytest.mark.real_data
def test_published_drcl_outputs(data_folder):
    folder = data_folder("drcl_official_wikipedia")
    image, text = (loadmat(folder / f"wiki_{i}.mat") for i in (0, 1))
    labels = torch.from_numpy(image["test_lab"].ravel().astype(np.int64))
    features = [torch.from_numpy(side["test_fea"]) for side in (image, text)]
    results = dict(zip(("i2t", "t2i"), evaluate(features[0], labels, features[1], labels), strict=True))
    for (direction, metric), (low, high) in TIE_INTERVALS.items():
        assert low - 1e-6 <= results[direction].mean(metric) <= high + 1e-6
    assert results["i2t"].warning()  # 25 pairs of duplicates
    reference = np.load(folder / "pr_reference.npz")
    for direction, (query, base) in {"i2t": features, "t2i": features[::-1]}.items():
        precision, recall = precision_recall(query, labels, base, labels)
        np.testing.assert_allclose(precision, reference[f"{direction}_precision_at_rank"], atol=2e-3)
        np.testing.assert_allclose(recall, reference[f"{direction}_recall_at_rank"], atol=2e-3)
        for levels in (11, 101):
            ours = interpolated_precision(query, labels, base, labels, levels=levels)
            np.testing.assert_allclose(ours, reference[f"{direction}_interp{levels}"], atol=2e-3)
