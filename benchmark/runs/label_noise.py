"""Wrong training labels on purpose: how robust is a method?

A share of the training labels of every modality is drawn anew; validation and test labels stay clean. The
modalities are corrupted independently, so the two sides of a pair may get different labels. A method sees the
noisy labels only. Rows of modalities that are not paired by nature are matched by the labels a method is
given, which are the noisy ones; matching them by clean labels, which no learner has, is not offered.

The rule is that of the public code of MRL (Hu et al., CVPR 2021), ``src/noisydataset.py``: an exact number
of labels, each modality by itself, new labels uniform over *all* classes including the right one (``sym``),
or by a random map of one half of the classes onto the other (``asym``). Not copied: draws that name a class
which does not exist, and the lack of a seed. ``sym_exclusive`` is ours. With ratio r and K classes about
r (K-1)/K of the labels are wrong under ``sym``, r under ``sym_exclusive``, and r/2 under ``asym``.

Plain numpy; the streams are ``PCG64``, the same on every machine and version of numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import Split
from benchmark.errors import UnsupportedError

MAP_KEY = 2**31 - 1
"""Key of the stream the class map is drawn from; the others have the number of their modality."""


def corrupt(
    labels: NDArray[np.int64], classes: int, ratio: float, mode: str, seed: int, place: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Labels with noise.

    Args:
        labels: ``(n,)`` class numbers.
        classes: Number of classes of the dataset, whether or not all of them occur.
        ratio: Share of the labels that are drawn anew, in [0, 1].
        mode: ``sym``, ``sym_exclusive`` or ``asym``.
        seed: Of the noise.
        place: Number of the modality in the dataset's canonical order.

    Returns:
        ``(n,)`` labels, and ``(n,)`` which of them were drawn anew (some may have been given the same class).

    Raises:
        ValueError: Another mode.
    """
    stream = _stream(seed, place)
    order, draw = np.argsort(stream.random(len(labels)), kind="stable"), stream.random(len(labels))
    selected = np.zeros(len(labels), bool)
    selected[order[: int(ratio * len(labels))]] = True
    if mode == "sym":
        wrong = np.floor(draw * classes).astype(np.int64)
    elif mode == "sym_exclusive":
        wrong = (labels + 1 + np.floor(draw * (classes - 1)).astype(np.int64)) % classes
    elif mode == "asym":
        wrong = class_map(classes, seed)[labels]
    else:
        raise ValueError(f"unknown mode of label noise {mode!r}")
    return np.where(selected, wrong, labels), selected


def class_map(classes: int, seed: int) -> NDArray[np.int64]:
    """The map of ``asym``: one half of the classes, taken at random, onto the other; ``(classes,)``.

    The rest of the classes, one more than half where the number is odd, keep their label.
    """
    order, half = np.argsort(_stream(seed, MAP_KEY).random(classes), kind="stable"), classes // 2
    target = np.arange(classes)
    target[order[:half]] = order[half : 2 * half]
    return target


def corrupt_split(
    split: Split, order: Sequence[str], ratio: float, mode: str, seed: int
) -> tuple[Split, dict[str, NDArray[np.bool_]]]:
    """A split with noise in the labels of every modality.

    Args:
        split: Training data, of all modalities or some of them.
        order: All modalities of the dataset in canonical order: one that is used without the others gets the
            same labels as with them.
        ratio: As in :func:`corrupt`; so are the next two.
        mode: Kind of noise.
        seed: Of the noise.

    Returns:
        The split, and per modality ``(n,)`` which labels were drawn anew.

    Raises:
        UnsupportedError: Items with several labels.
    """
    if split.label_form == "multi":
        raise UnsupportedError("label noise needs one label per item; the items of this dataset have several")
    modalities, selected = {}, {}
    for m in split:
        labels, selected[m.name] = corrupt(
            np.asarray(m.labels, np.int64), split.classes, ratio, mode, seed, order.index(m.name)
        )
        modalities[m.name] = replace(m, labels=labels)
    return replace(split, modalities=modalities), selected


def _stream(seed: int, key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=seed, spawn_key=(key,))))
