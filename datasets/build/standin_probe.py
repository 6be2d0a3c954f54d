"""How hard is a dataset? A linear probe of every modality, and retrieval with what it predicts.

    python -m benchmark.datasets.build.standin_probe xmedia [--scale 0.25]

The probe is ridge regression of one-hot labels on standardised features (logarithms for word counts and topic
proportions), the ridge being the mean squared length of a training row. Its scores, standardised per row,
doubled and passed through softmax, serve as embeddings in the common label space. It shows what the spreads
of a stand-in (``benchmark.datasets.standin.sets.SETS``) lead to; it is no method of the benchmark.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from benchmark.core.data import Modality, MultimodalData
from benchmark.core.subsample import subsample
from benchmark.evaluation.metrics import evaluate

from ..standin.sets import SETS, load_or_generate

LOGARITHM = {"BoW": 1.0, "LDA": 0.0}  # kind of feature -> what is added before the logarithm
ROWS = 16_000  # training rows used at most, the same number of every class as far as they go


@dataclass(frozen=True)
class Probe:
    """Result of probing one dataset.

    Attributes:
        accuracy: Modality -> share of test rows classified rightly.
        map_all: (query modality, database modality) -> MAP@all on the test rows.
    """

    accuracy: dict[str, float]
    map_all: dict[tuple[str, str], float]

    @property
    def mean(self) -> float:
        """Mean MAP over all directions."""
        return float(np.mean(list(self.map_all.values())))


def probe(data: MultimodalData) -> Probe:
    """Probe every modality of a stand-in and retrieve between every two."""
    scores = {}
    for name, view in SETS[data.name].views.items():
        train = subsample(data.train.restrict((name,)), ROWS)[name]
        scores[name] = ridge_scores(train, data.test[name], data.classes, view.kind)
    labels = {name: data.test[name].labels for name in data.modalities}
    accuracy = {name: float(np.mean(s.argmax(axis=1) == labels[name])) for name, s in scores.items()}
    embedded = {name: torch.from_numpy(soft_labels(s)) for name, s in scores.items()}
    map_all = {}
    for a, b in combinations(data.modalities, 2):
        tensors = (embedded[a], torch.from_numpy(labels[a]), embedded[b], torch.from_numpy(labels[b]))
        there, back = evaluate(*tensors, measures=["map@all"])
        map_all[a, b], map_all[b, a] = there.mean("map@all"), back.mean("map@all")
    return Probe(accuracy, map_all)


def ridge_scores(train: Modality, test: Modality, classes: int, kind: str) -> NDArray[np.float32]:
    """Scores ``(n_test, classes)`` of a ridge regression of one-hot labels on features of this kind."""
    x, y, unseen = train.features, train.labels, test.features
    if kind in LOGARITHM:
        x, unseen = np.log(x + LOGARITHM[kind]), np.log(unseen + LOGARITHM[kind])
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    factor = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    x, unseen = (((part - mean) * factor).astype(np.float32) for part in (x, unseen))
    target = np.eye(classes, dtype=np.float32)[y]
    base = target.mean(axis=0)
    ridge = float(np.mean(np.einsum("ij,ij->i", x, x)))
    if len(x) >= x.shape[1]:
        gram = x.T @ x
        gram[np.diag_indices_from(gram)] += ridge
        weights = cho_solve(cho_factor(gram), x.T @ (target - base))
    else:  # fewer rows than columns: the same solution from the rows' products
        gram = x @ x.T
        gram[np.diag_indices_from(gram)] += ridge
        weights = x.T @ cho_solve(cho_factor(gram), target - base)
    scores: NDArray[np.float32] = unseen @ weights + base
    return scores


def soft_labels(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax of twice the scores standardised per row."""
    centered = scores - scores.mean(axis=1, keepdims=True)
    raised: NDArray[np.float32] = np.exp(2 * centered / scores.std(axis=1, keepdims=True))
    raised /= raised.sum(axis=1, keepdims=True)
    return raised


def main(arguments: Sequence[str] | None = None) -> None:
    """Print accuracy and MAP@all of one stand-in."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.datasets.build.standin_probe", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("name", choices=list(SETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0)
    chosen = parser.parse_args(arguments)
    data = load_or_generate(chosen.name, seed=chosen.seed, scale=chosen.scale)
    result = probe(data)
    lines = [*data.notes, "accuracy  " + "  ".join(f"{m} {v:.3f}" for m, v in result.accuracy.items())]
    lines += [f"{a:>6} > {b:<6} MAP@all {value:.3f}" for (a, b), value in result.map_all.items()]
    sys.stdout.write("\n".join([*lines, f"mean of {len(result.map_all)}: {result.mean:.3f}", ""]))


if __name__ == "__main__":
    main()
