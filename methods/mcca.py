"""MCCA: multiset canonical correlation analysis.

A. A. Nielsen, "Multiset canonical correlations analysis and multispectral, truly multitemporal remote
sensing data", IEEE Transactions on Image Processing 11(3), 2002. No public code.

Every modality v gets directions w_v so that projections of aligned rows agree: with X_v the (n, D_v) aligned
centred features and C_uv = X_u' X_v / n,

    maximise sum_{u != v} w_u' C_uv w_v    subject to    sum_v w_v' (C_vv + rho_v I) w_v = 1,

the sum of covariances under a unit sum of variances: the generalised eigenproblem A w = lambda B w with
A the off-diagonal blocks C_uv and B = blockdiag(C_vv + rho_v I), top k directions. The ridge is relative,
rho_v = kappa tr(C_vv) / D_v, so that one kappa serves features of any scale.

How it is solved is in ``methods/multiset.py``.

MCCA needs aligned rows, and only some modalities are paired. The publication that uses it as a baseline
does not say what it did. Here there are as many joint rows as the largest modality has: paired modalities
keep their order, every other one is permuted and starts over when it ends, without regard to class. That fits
the reported numbers: image-text above chance, everything else at chance. Everything is computed in float64.
"""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from benchmark.core import pairing
from benchmark.core.config import Config, Count, Least, Weight
from benchmark.core.data import Split
from benchmark.core.method import FitLog, Method, Retriever, RunContext, derive_seed
from benchmark.core.registry import method
from benchmark.evaluation.metrics import evaluate

from .blocks.multiset import Axes, Problem, couple_joint, principal_axes

FALLBACK_KAPPA, FALLBACK_K = 0.1, 50  # with selection off


class MCCAConfig(Config):
    """Hyper-parameters; nothing is published, all values are recommendations.

    Attributes:
        select: ``validation``: the kappa and k with the highest mean MAP@all; ``off``: none.
        kappa: Relative ridges to choose from. Several with selection off: 0.1.
        k: Numbers of components to choose from, capped at the positive eigenvalues. Several with selection
            off: 50.
    """

    select: Literal["validation", "off"]
    kappa: Annotated[tuple[Weight, ...], Least(1)]
    k: Annotated[tuple[Count, ...], Least(1)]

    def grid(self) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Ridges and numbers of components to try; one of each if selection is off."""
        if self.select == "validation":
            return self.kappa, self.k
        kappa = self.kappa if len(self.kappa) == 1 else (FALLBACK_KAPPA,)
        return kappa, self.k if len(self.k) == 1 else (FALLBACK_K,)


class LinearRetriever(Retriever):
    """Per modality (x - mean) P, computed in float64 and returned in the features' type."""

    def __init__(self, maps: dict[str, tuple[Tensor, Tensor]]) -> None:
        self.maps = maps

    def embed(self, modality: str, features: Tensor) -> Tensor:
        """``(n, D)`` features to ``(n, k)``; zeros if the modality never varied in training."""
        mean, projection = (each.to(features.device) for each in self.maps[modality])
        return ((features.double() - mean) @ projection).to(features.dtype)


@method(
    "mcca",
    title="MCCA",
    paper="Multiset canonical correlations analysis and multispectral, truly multitemporal remote sensing "
    "data",
    venue="TIP",
    year=2002,
    group="paired-free",
    modalities="many",
    supervised=False,
    trained=False,
    version=1,
    doi="10.1109/83.988962",
)
class MCCA(Method):
    """Closed form; the only randomness is how modalities without native pairs are matched."""

    Config = MCCAConfig
    config: MCCAConfig

    def fit(self, train: Split, val: Split, run: RunContext, log: FitLog) -> list[Retriever]:
        """Fit once per seed, or once for all where no rows have to be matched at random."""
        matched = len(pairing.units(train)) > 1
        fitted: dict[int | None, LinearRetriever] = {}
        whole: dict[str, Axes] = {}  # of modalities whose rows are all used once, whatever the seed
        fits: list[dict[str, Any]] = []
        for seed in dict.fromkeys(run.seeds if matched else run.seeds[:1]):
            key = seed if matched else None
            fitted[key], facts = self._fit(train, val, seed, run, whole)
            fits.append({"seed": key, **facts})
        log.notes["fits"] = fits
        return [fitted[seed if matched else None] for seed in run.seeds]

    def _fit(
        self, train: Split, val: Split, seed: int, run: RunContext, whole: dict[str, Axes]
    ) -> tuple[LinearRetriever, dict[str, Any]]:
        """The model with the best ridge and number of components, and what is worth knowing of it."""
        problem = align(train, seed, run.device, whole)
        means = [axes.mean for axes in problem.axes]
        ridges, sizes = self.config.grid()
        compare = len(ridges) * len(sizes) > 1
        best: dict[str, Any] = {"val_map": -1.0}
        for step, kappa in enumerate(ridges, start=1):
            values, parts = problem.solve(kappa, max(sizes))
            for k in sorted({min(size, len(values)) for size in sizes}):
                # no positive eigenvalue: one column of zeros, an embedding that ties everything
                kept = [part[:, :k] if k else part.new_zeros(len(part), 1) for part in parts]
                model = LinearRetriever(dict(zip(train.names, zip(means, kept, strict=True), strict=True)))
                score = mean_map(model, val, run.device) if compare else 0.0
                if score > best["val_map"]:
                    best = {"val_map": score, "kappa": kappa, "k": k, "model": model, "values": values[:k]}
            if run.progress is not None:
                run.progress("ridge", step, len(ridges), {"val_map": best["val_map"]} if compare else {})
        facts = {"kappa": best["kappa"], "k": best["k"], "eigenvalues": best["values"].tolist()}
        facts |= {"val_map": best["val_map"]} if compare else {}
        if missing := pairing.left_out(train):
            facts["rows_without_partner"] = missing
        return best["model"], facts


def align(train: Split, seed: int, device: torch.device, whole: dict[str, Axes]) -> Problem:
    """The eigenproblem on joint rows; axes in ``whole`` are taken from there, and left there."""
    table = pairing.cycle_rows(train, lambda name: derive_seed(seed, "mcca", name))
    axes, rows, counts = [], [], []
    for modality in train:
        uses = np.bincount(table[modality.name], minlength=len(modality))
        used = np.flatnonzero(uses)
        rows.append(torch.from_numpy(np.searchsorted(used, table[modality.name])).to(device))
        counts.append(torch.from_numpy(uses[used]).to(device))
        once = bool((uses == 1).all())
        one = whole.get(modality.name) if once else None
        if one is None:
            features = torch.from_numpy(modality.features[used]).to(device, torch.float64)
            one = principal_axes(features, counts[-1])
        if once:
            whole[modality.name] = one
        axes.append(one)
    return Problem(axes, couple_joint(rows, counts))


def mean_map(model: LinearRetriever, val: Split, device: torch.device) -> float:
    """Mean MAP@all over all ordered pairs of modalities of the validation split."""
    embedded = {m.name: model.embed(m.name, torch.from_numpy(m.features).to(device)) for m in val}
    labels = {m.name: torch.from_numpy(m.labels).to(device) for m in val}
    scores = [
        each.mean("map@all")
        for a, b in combinations(val.names, 2)
        for each in evaluate(embedded[a], labels[a], embedded[b], labels[b], metrics=("map@all",))
    ]
    return sum(scores) / len(scores)
