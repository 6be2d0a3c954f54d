"""A tiny dataset for tests: 9 training, 4 validation and 6 test rows of two paired modalities, 3 classes."""

from dataclasses import replace

import numpy as np

from benchmark.core.data import Modality, MultimodalData, Split

CLASSES = 3
WIDTHS = {"image": 4, "text": 2}


def modality(name, rows=6, *, seed=0, paired=True, form="single"):
    rng = np.random.default_rng([seed, len(name)])
    labels = np.arange(rows) % CLASSES
    if form == "multi":
        labels = (
            np.eye(CLASSES, dtype=np.uint8)[labels]
            | np.eye(CLASSES, dtype=np.uint8)[(labels + seed) % CLASSES]
        )
    return Modality(
        name,
        rng.normal(size=(rows, WIDTHS[name])).astype(np.float32),
        labels,
        np.arange(rows) if paired else None,
    )


def make_data(form="single", **facts):
    splits = [
        Split(name, {m: modality(m, rows, seed=rows, form=form) for m in WIDTHS}, CLASSES, form)
        for name, rows in (("train", 9), ("val", 4), ("test", 6))
    ]
    return MultimodalData("toy", "user", *splits, **facts)


def edit(data, where, **changes):
    """The data with fields of one modality changed; ``where`` is ``split/modality``."""
    split, name = where.split("/")
    old = getattr(data, split)
    modalities = {**old.modalities, name: replace(old[name], **changes)}
    return replace(data, **{split: replace(old, modalities=modalities)})


def edited(array, index, value):
    array = array.copy()
    array[index] = value
    return array
