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
does not say what it did; ``pairing`` names the choices (its default, ``cycle``, fits the reported numbers:
image-text above chance, everything else at chance). Everything is computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmark.core import pairing
from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice, derive_seed
from benchmark.core.registry import method
from benchmark.errors import UnsupportedError

from .blocks.multiset import Axes, Problem, couple_joint, couple_truncated, principal_axes

FALLBACK_KAPPA, FALLBACK_K = 0.1, 50  # with selection off


@dataclass(frozen=True)
class MCCAConfig:
    """Hyper-parameters; nothing is published, all values are recommendations.

    Attributes:
        pairing: ``cycle``, ``truncate_pair`` (every C_uv from the rows both have), ``truncate_all``, or
            ``class`` (rows of equal class: uses labels, a supervised variant).
        permute_unpaired: Permute units that are not paired with each other; else file order is taken.
        scope: ``joint``, or ``pairwise``: one fit for every two modalities.
        select: ``validation``: the kappa and k with the highest mean MAP@all; ``off``: none.
        kappa: Relative ridges to choose from. Several with selection off: 0.1.
        k: Numbers of components to choose from, capped at the positive eigenvalues. Several with selection
            off: 50.
        pca_energy: Share of a modality's variance to keep, in (0, 1].
        lambda_power: Component j is multiplied by lambda_j to this power.
    """

    pairing: str = "cycle"
    permute_unpaired: bool = True
    scope: str = "joint"
    select: str = "validation"
    kappa: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    k: tuple[int, ...] = (10, 20, 50, 100, 200)
    pca_energy: float = 1.0
    lambda_power: float = 0.0

    def __post_init__(self) -> None:
        choice("pairing", self.pairing, ("cycle", "truncate_pair", "truncate_all", "class"))
        choice("scope", self.scope, ("joint", "pairwise"))
        choice("select", self.select, ("validation", "off"))
        for name in ("kappa", "k"):
            given = getattr(self, name)
            values = tuple(given) if isinstance(given, list | tuple) else (given,)
            object.__setattr__(self, name, values)  # lists come from TOML
        if not self.kappa or not all(0 <= kappa < float("inf") for kappa in self.kappa):
            raise ValueError(f"kappa must be one or several numbers of at least 0; got {list(self.kappa)}")
        if not self.k or not all(isinstance(k, int) and k > 0 for k in self.k):
            raise ValueError(f"k must be one or several whole numbers above 0; got {list(self.k)}")
        if not 0 < self.pca_energy <= 1:
            raise ValueError(f"pca_energy must be above 0 and at most 1; got {self.pca_energy}")
        if not abs(self.lambda_power) < float("inf"):
            raise ValueError(f"lambda_power must be a finite number; got {self.lambda_power}")

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


class PairwiseRetriever(Retriever):
    """One linear model for every two modalities."""

    def __init__(self, models: dict[frozenset[str], LinearRetriever]) -> None:
        self.models = models

    def similarity(self, query: str, queries: Tensor, database: str, items: Tensor) -> Tensor:
        """Cosine in the space of these two modalities."""
        if query == database:
            raise UnsupportedError(f"mcca with scope pairwise has no model of {query} alone")
        model = self.models[frozenset((query, database))]
        return normalize(model.embed(query, queries)) @ normalize(model.embed(database, items)).T


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

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """For contract checks."""
        return {"kappa": [0.1, 1.0], "k": [2, 4]}

    def check(self, train: Split) -> None:
        """Refuse what every method refuses, and pairing by class where items have several labels."""
        super().check(train)
        if self.config.pairing == "class":
            pairing.class_rows(train, seed=0)

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """Fit once per seed, or once for all where no rows have to be matched at random."""
        pairwise = self.config.scope == "pairwise"
        groups = list(combinations(train.names, 2)) if pairwise else [train.names]
        fitted: dict[tuple[tuple[str, ...], int | None], LinearRetriever] = {}
        whole: dict[str, Axes] = {}  # of modalities whose rows are all used once, whatever the seed
        fits: list[dict[str, Any]] = []
        retrievers: list[Retriever] = []
        for seed in run.seeds:
            models = {}
            for names in groups:
                part = train.restrict(names)
                key = (names, seed if self._random(part) else None)
                if key not in fitted:
                    fitted[key], facts = self._fit(part, val.restrict(names), seed, run, whole)
                    fits.append({"modalities": list(names), "seed": key[1], **facts})
                models[frozenset(names)] = fitted[key]
            retrievers.append(PairwiseRetriever(models) if pairwise else models[frozenset(train.names)])
        run.notes |= {"pairing": self.config.pairing, "scope": self.config.scope, "fits": fits}
        return retrievers

    def _random(self, train: Split) -> bool:
        matched = len(pairing.units(train)) > 1
        return matched and (self.config.permute_unpaired or self.config.pairing == "class")

    def _fit(
        self, train: Split, val: Split, seed: int, run: Run, whole: dict[str, Axes]
    ) -> tuple[LinearRetriever, dict[str, Any]]:
        device = run.device
        problem = self._align(train, seed, device, whole)
        ridges, sizes = self.config.grid()
        compare = len(ridges) * len(sizes) > 1
        best: dict[str, Any] = {"val_map": -1.0}
        for step, kappa in enumerate(ridges, start=1):
            values, parts = problem.solve(kappa, max(sizes))
            for k in sorted({min(size, len(values)) for size in sizes}):
                weights = values[:k] ** self.config.lambda_power
                means = [axes.mean for axes in problem.axes]
                # no positive eigenvalue: one column of zeros, an embedding that ties everything
                kept = [part[:, :k] * weights if k else part.new_zeros(len(part), 1) for part in parts]
                model = LinearRetriever(dict(zip(train.names, zip(means, kept, strict=True), strict=True)))
                score = _mean_map(model, val, device) if compare else 0.0
                if score > best["val_map"]:
                    best = {"val_map": score, "kappa": kappa, "k": k, "model": model, "values": values[:k]}
            if run.progress is not None:
                run.progress("ridge", step, len(ridges), {"val_map": best["val_map"]} if compare else {})
        facts = {"kappa": best["kappa"], "k": best["k"], "eigenvalues": best["values"].tolist()}
        facts |= {"val_map": best["val_map"]} if compare else {}
        if missing := pairing.left_out(train):
            facts["rows_without_partner"] = missing
        return best["model"], facts

    def _align(self, train: Split, seed: int, device: torch.device, whole: dict[str, Axes]) -> Problem:
        rule = self.config.pairing

        def seed_of(name: str) -> int:
            return derive_seed(seed, "mcca", name)

        seeds = seed_of if self.config.permute_unpaired else None
        if rule == "cycle":
            table = pairing.cycle_rows(train, seeds)
        elif rule == "class":
            table = pairing.class_rows(train, seed_of("class"))
        else:
            table = pairing.ordered_rows(train, seeds)
            table = pairing.truncate(table) if rule == "truncate_all" else table
        axes, rows, counts = [], [], []
        for modality in train:
            uses = np.bincount(table[modality.name], minlength=len(modality))
            used = np.flatnonzero(uses)
            rows.append(torch.from_numpy(np.searchsorted(used, table[modality.name])).to(device))
            counts.append(torch.from_numpy(uses[used]).to(device))
            one = whole.get(modality.name) if (uses == 1).all() else None
            if one is None:
                features = torch.from_numpy(modality.features[used]).to(device, torch.float64)
                one = principal_axes(features, counts[-1], self.config.pca_energy)
            if (uses == 1).all():
                whole[modality.name] = one
            axes.append(one)
        return Problem(
            axes, couple_truncated(rows) if rule == "truncate_pair" else couple_joint(rows, counts)
        )


def _mean_map(model: LinearRetriever, val: Split, device: torch.device) -> float:
    """Mean MAP@all over all ordered pairs of modalities of the validation split."""
    from benchmark.evaluation.metrics import evaluate

    embedded = {m.name: model.embed(m.name, torch.from_numpy(m.features).to(device)) for m in val}
    labels = {m.name: torch.from_numpy(m.labels).to(device) for m in val}
    scores = [
        each.mean("map@all")
        for a, b in combinations(val.names, 2)
        for each in evaluate(embedded[a], labels[a], embedded[b], labels[b], measures=("map@all",))
    ]
    return sum(scores) / len(scores)
