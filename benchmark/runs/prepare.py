"""A dataset as loaded to the splits of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import MultimodalData, Split
from benchmark.core.subsample import kept_rows, subsample, take_rows
from benchmark.runs.label_noise import corrupt_split
from benchmark.runs.plan import Plan
from benchmark.runs.recipe import ROWS


def standardize(data: MultimodalData) -> MultimodalData:
    """Every column minus its training mean, divided by its training standard deviation.

    Constant columns become 0. Statistics are taken in float64 on the training split only.
    """
    splits = {split.name: dict(split.modalities) for split in data.splits}
    for name in data.modalities:
        train = data.train[name].features
        mean = train.mean(axis=0, dtype=np.float64)
        deviation = train.std(axis=0, dtype=np.float64)
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        for split in data.splits:
            scaled = ((split[name].features - mean) * scale).astype(np.float32)
            splits[split.name][name] = replace(split[name], features=scaled)
    train_, val, test = (replace(s, modalities=splits[s.name]) for s in data.splits)
    return replace(data, train=train_, val=val, test=test, fixed_fingerprint=data.fingerprint())


def prepare(
    data: MultimodalData, plan: Plan, modalities: tuple[str, ...]
) -> tuple[Split, Split, Split, dict[str, NDArray[Any]]]:
    """Training, validation and test split of a run: restricted, scaled, then subsampled (never the test).

    Noise corrupts training labels only. It is drawn for all training rows, so that a row has the same label
    whatever the profile; the subsample is that of the clean labels, so that runs with and without noise see
    the same rows and pairs stay together.

    Args:
        data: The dataset as loaded.
        plan: The run; names scaling, noise and the rows to keep.
        modalities: Those of the run.

    Returns:
        The splits, and the arrays to store about the noise: per modality ``label_noise/<modality>/selected``
        (bool, whether the label was drawn anew) and ``.../clean`` of the training rows of the run.

    Raises:
        UnsupportedError: Noise in labels of which an item may have several.
    """
    order, rows, noise = data.modalities, plan.recipe[ROWS].value, plan.spec.noise
    data = data.restrict(modalities)
    if plan.spec.scaling == "standardize":
        data = standardize(data)
    train, val = data.train, data.val
    selected: dict[str, NDArray[np.bool_]] = {}
    if noise:
        train, selected = corrupt_split(train, order, **noise)
    everything = {m.name: np.arange(len(m)) for m in train}
    kept = kept_rows(data.train, rows["train"]) if rows["train"] else everything
    arrays: dict[str, NDArray[Any]] = {}
    for name, mask in selected.items():
        arrays[f"label_noise/{name}/selected"] = mask[kept[name]]
        arrays[f"label_noise/{name}/clean"] = data.train[name].labels[kept[name]]
    if rows["train"]:
        train = take_rows(train, kept)
    if rows["val"]:
        val = subsample(val, rows["val"])
    return train, val, data.test, arrays
