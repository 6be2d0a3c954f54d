"""Descriptions state what was planted in the data, and agree with plain numpy."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmark.core.data import Modality, MultimodalData, Split
from benchmark.inspection.describe import BLOCK, describe


def data(rows=60, columns=6, multi=False):
    draw = np.random.default_rng(0)
    splits = {}
    for name in ("train", "val", "test"):
        labels = np.arange(rows) % 3
        if multi:
            labels = np.eye(3, dtype=np.uint8)[labels] | np.eye(3, dtype=np.uint8)[labels[::-1]]
        made = {
            m: Modality(m, draw.normal(size=(rows, columns)).astype(np.float32), labels, np.arange(rows))
            for m in ("image", "text")
        }
        splits[name] = Split(name, made, 3, "multi" if multi else "single")
    return MultimodalData("toy", "user", *splits.values(), class_names=("a", "b", "c"))


def test_numbers_agree_with_numpy():
    toy = data(rows=2 * BLOCK + 7)
    toy.train["image"].features[:, 2][::3] = 0
    x = toy.train["image"].features.astype(np.float64)
    facts = describe(toy)["splits"]["train"]["image"]
    wanted = {
        "min": x.min(),
        "max": x.max(),
        "mean": x.mean(),
        "std": x.std(),
        "zeros": (x == 0).mean(),
        "row_norm": np.linalg.norm(x, axis=1).mean(),
    }
    assert {key: facts[key] for key in wanted} == pytest.approx(wanted, rel=1e-6)
    assert (facts["rows"], facts["columns"], facts["paired"]) == (len(x), 6, len(x))


def test_clean_data_have_no_problems_and_the_answer_is_json():
    facts = describe(data())
    assert facts["problems"] == []
    assert json.loads(json.dumps(facts)) == facts
    assert facts["splits"]["val"]["text"]["class_counts"] == [20, 20, 20]


def test_class_counts_of_several_labels_per_row():
    toy = data(multi=True)
    counts = describe(toy)["splits"]["train"]["image"]["class_counts"]
    assert counts == toy.train["image"].labels.sum(axis=0).tolist()


def test_planted_problems_are_found():
    toy = data()
    image = toy.train["image"].features
    image[7], image[11], image[20] = image[4], image[4], image[2]  # labels 1, 2 against 1; 2 against 2
    image[:, 3] = 5
    toy.test["image"].features[0] = image[30]
    toy.train["text"].features[:] *= 1e-5
    labels = np.where(toy.val["text"].labels == 1, 0, toy.val["text"].labels)
    val = replace(toy.val, modalities={**toy.val.modalities, "text": replace(toy.val["text"], labels=labels)})
    facts = describe(replace(toy, val=val))
    assert facts["splits"]["train"]["image"]["copies"] == 3
    assert facts["splits"]["train"]["image"]["constant_columns"] == 1
    found = "\n".join(facts["problems"])
    assert "train/image: 3 rows are exact copies of earlier rows, 1 of them with another label" in found
    assert "train/image: 1 columns are constant" in found
    assert "test/image: 1 rows are exact copies of training rows" in found
    assert "val/text: 1 of 3 classes have no row" in found
    assert "text varies" in found
    assert len(facts["problems"]) == 5
