"""How hard the data are: logistic regression per modality, and retrieval by its class probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.core.data import MultimodalData, Split
from benchmark.evaluation.metrics import evaluate

C = 0.01  # inverse strength of the L2 penalty, on standardised features; not tuned
METRIC = "map@all"


@dataclass(frozen=True)
class Difficulty:
    """One split.

    Attributes:
        accuracy: Of every modality, on the test items.
        scores: MAP of every direction, ``image->text`` and so on, test items against test items.
        others: The same with the query's own item left out of the database.
        chance: Expected MAP of a random ranking, per direction.
        chance_others: The same with the query's own item left out.
        majority: Share of test items in the class with most training items.
        hits: ``(classes,)`` test items put into their class, all modalities together.
        items: ``(classes,)`` test items, once per modality.
    """

    accuracy: dict[str, float]
    scores: dict[str, float]
    others: dict[str, float]
    chance: dict[str, float]
    chance_others: dict[str, float]
    majority: float
    hits: NDArray[np.int64]
    items: NDArray[np.int64]


def measure(data: MultimodalData, modalities: tuple[str, ...] = ()) -> Difficulty:
    """Train on the training split, look at the test split; validation is not used.

    Args:
        data: One split of the dataset.
        modalities: Only these; empty for all.
    """
    names = modalities or data.modalities
    labels = {m: data.test[m].labels for m in names}
    posterior = {m: probabilities(data.train, data.test, m) for m in names}
    accuracy = {m: float((posterior[m].argmax(axis=1) == labels[m]).mean()) for m in names}
    found: dict[str, dict[str, float]] = {"scores": {}, "others": {}, "chance": {}, "chance_others": {}}
    for a, b in combinations(names, 2):
        tensors = [torch.as_tensor(x) for x in (posterior[a], labels[a], posterior[b], labels[b])]
        same = torch.arange(len(labels[a]))  # the modalities hold the same items in the same order
        for kind, expected, exclude in (("scores", "chance", None), ("others", "chance_others", same)):
            pair = evaluate(*tensors, metrics=(METRIC,), exclude=exclude)
            for direction, result in zip((f"{a}->{b}", f"{b}->{a}"), pair, strict=True):
                found[kind][direction] = result.mean(METRIC)
                found[expected][direction] = result.chance
    train, test = data.train[names[0]].labels, labels[names[0]]
    majority = float((test == np.bincount(train).argmax()).mean())
    right = np.concatenate([labels[m][posterior[m].argmax(axis=1) == labels[m]] for m in names])
    return Difficulty(
        accuracy=accuracy,
        majority=majority,
        hits=np.bincount(right, minlength=data.classes),
        items=np.bincount(np.concatenate(list(labels.values())), minlength=data.classes),
        **found,
    )


def probabilities(train: Split, test: Split, modality: str) -> NDArray[np.float64]:
    """``(n_test, classes)`` class probabilities of a logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train[modality].features.astype(np.float64))
    model = LogisticRegression(C=C, max_iter=2000)
    model.fit(scaler.transform(train[modality].features), train[modality].labels)
    found: NDArray[np.float64] = model.predict_proba(scaler.transform(test[modality].features))
    return found
