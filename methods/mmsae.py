"""MMSAE: Multi-Modal Semantic AutoEncoder.

Y. Wu, S. Wang, Q. Huang, Neurocomputing 331, 2019, pp. 165-175. Public code: yiling2018/mmsae@ef7b1128
(MATLAB).

Of every modality X (n x D, rows aligned into tuples) the principal axes with 99 % of the variance are kept:
X <- X E (n x r), without subtracting the mean of X E. With Y_s the label rows minus their mean, stage 1
chooses codes that the features can predict,

    N = sum_X Y_s' X (X'X + 0.001 I)^-1 X' Y_s,    B = the h leading eigenvectors of N,    S = Y_s B,

and stage 2 fits linear encoders P (h x r) with tied decoders P' and codes U (n x h), from U = S,

    J = sum_X ( ||X P' - U||^2 + alpha ||X - U P||^2 ) + beta ||U - S||^2

by 5 passes of two exact minimisations, over all P and then over U:

    alpha U'U P + P X'X = (1 + alpha) U'X,
    U (alpha sum_X P P' + (m + beta) I) = (1 + alpha) sum_X X P' + beta S,    m modalities.

Both matrices of the first are symmetric, so in their eigenvectors it is one division. The final P are those
before the last U. Items are compared by the inner product of their codes P E' x, not by the cosine.

Y_s has rank C - 1 at most, so for h >= C - 1 stage 1 only rotates the codes, which J and the inner product do
not see.

Where this differs from the public code:
- input preparation: the code has none and reads prepared files whose names say "normalised, zero mean"; the
  default ``l2_center`` follows the names (``prepare = "none"``: the code alone);
- h is the number of classes, as in the code's only demonstration, 10 for the 10 classes of Wikipedia;
- modalities without native pairs are matched by class (the code knows pairs only);
- a modality that never varies embeds as zero.
Without ``prepare`` the axes are those of centred rows while the rows are not centred, as there.
Everything is float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from benchmark.core import pairing
from benchmark.core.config import Bounds, Config, Count, Positive, Weight, Whole
from benchmark.core.data import Split
from benchmark.core.method import FitLog, Method, Retriever, RunContext, derive_seed
from benchmark.core.registry import method
from benchmark.evaluation.similarity import product

from .blocks.layers import unit_rows
from .blocks.multiset import principal_basis

DIAGONAL = 1e-13  # of the largest entry; what is not on the diagonal is rounding up to that


class MMSAEConfig(Config):
    """Hyper-parameters.

    Attributes:
        prepare: Features as used: ``l2_center`` (rows of length 1, minus the training mean), or ``none``.
        energy: Share of a modality's variance to keep.
        h: Code width; 0: the number of classes, which is also the most there can be.
        ridge: Of stage 1.
        alpha, beta: Weights of the decoders, and of the distance of the codes to those of stage 1.
        passes: How often both parts are minimised.
    """

    prepare: Literal["l2_center", "none"]
    energy: Annotated[float, Bounds(0, 1, open=True)]
    h: Whole
    ridge: Positive
    alpha: Weight
    beta: Weight
    passes: Count


@dataclass(frozen=True)
class Preparation:
    """What happens to features before anything else.

    Attributes:
        unit: Whether rows get length 1 first.
        mean: ``(D,)``, subtracted then.
    """

    unit: bool
    mean: Tensor

    @classmethod
    def of(cls, x: Tensor, rule: str) -> Preparation:
        """Statistics of training rows ``(n, D)`` float64, see ``MMSAEConfig.prepare``."""
        if rule == "none":
            return cls(False, torch.zeros_like(x[0]))
        x = unit_rows(x)
        _, mean = torch.std_mean(x, dim=0, correction=0)  # x.mean rounds differently
        constant = x.amax(0) == x.amin(0)  # of which rounding would leave something
        return cls(True, torch.where(constant, x[0], mean))

    def __call__(self, x: Tensor) -> Tensor:
        """Prepare rows ``(n, D)`` float64."""
        return (unit_rows(x) if self.unit else x) - self.mean


@dataclass(frozen=True)
class View:
    """One modality in its principal axes.

    Attributes:
        x: X, ``(n, r)``.
        values: ``(r,)`` eigenvalues of X'X.
        vectors: ``(r, r)`` its eigenvectors Q.
    """

    x: Tensor
    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, x: Tensor) -> View:
        """Decompose X'X, which is diagonal already if X is centred."""
        squares = x.T @ x
        values = squares.diagonal()
        if not len(values) or float((squares - values.diag()).abs().max()) <= DIAGONAL * float(values.max()):
            return cls(x, values, torch.eye(len(values)).to(x))
        values, vectors = torch.linalg.eigh(squares)
        return cls(x, values.clamp_min(0), vectors)

    def explained(self, y: Tensor, ridge: float) -> Tensor:
        """Y' X (X'X + ridge I)^-1 X' Y for Y ``(n, C)``: ``(C, C)``."""
        turned = self.vectors.T @ (self.x.T @ y)
        return turned.T @ (turned / (self.values + ridge)[:, None])

    def encoder(self, codes: Tensor, alpha: float) -> Tensor:
        """The best P ``(h, r)`` for codes U ``(n, h)``."""
        own, turn = torch.linalg.eigh(alpha * codes.T @ codes)
        target = turn.T @ ((1 + alpha) * codes.T @ self.x) @ self.vectors
        sums = own.clamp_min(0)[:, None] + self.values
        if sums.numel():
            sums = sums.clamp_min(torch.finfo(sums.dtype).eps * float(self.values.max()))
        found: Tensor = turn @ (target / sums) @ self.vectors.T
        return found


def semantic_codes(views: Sequence[View], labels: Tensor, h: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Stage 1.

    Args:
        views: All modalities, n rows each.
        labels: ``(n, C)``.
        h: Code width, at most C.
        ridge: Of the regression of labels on features.

    Returns:
        S ``(n, h)``, and the eigenvalues of N ``(C,)``, decreasing.
    """
    centred = labels - labels.mean(0)
    values, vectors = torch.linalg.eigh(sum(view.explained(centred, ridge) for view in views))
    return centred @ vectors.flip(1)[:, :h], values.flip(0)


def objective(
    views: Sequence[View], encoders: Sequence[Tensor], codes: Tensor, semantic: Tensor, config: MMSAEConfig
) -> Tensor:
    """J for P ``(h, r)`` of every modality, codes U ``(n, h)`` and those of stage 1, S ``(n, h)``."""
    total = config.beta * (codes - semantic).square().sum()
    for view, p in zip(views, encoders, strict=True):
        total = total + (view.x @ p.T - codes).square().sum()
        total = total + config.alpha * (view.x - codes @ p).square().sum()
    return total


def best_codes(
    views: Sequence[View], encoders: Sequence[Tensor], semantic: Tensor, config: MMSAEConfig
) -> Tensor:
    """The best U ``(n, h)`` for encoders P."""
    encoded = [view.x @ p.T for view, p in zip(views, encoders, strict=True)]
    right = (1 + config.alpha) * torch.stack(encoded).sum(0) + config.beta * semantic
    left = config.alpha * torch.stack([p @ p.T for p in encoders]).sum(0)
    left += (len(views) + config.beta) * torch.eye(len(left)).to(left)
    found: Tensor = torch.linalg.solve(left, right, left=False)
    return found


def alternate(
    views: Sequence[View], semantic: Tensor, config: MMSAEConfig
) -> tuple[list[Tensor], Tensor, list[float]]:
    """Stage 2 for all modalities and S ``(n, h)``.

    Returns:
        The encoders, the codes, and J after every half of a pass.
    """
    codes, encoders, trace = semantic, [], []
    for _ in range(config.passes):
        encoders = [view.encoder(codes, config.alpha) for view in views]
        trace.append(float(objective(views, encoders, codes, semantic, config)))
        codes = best_codes(views, encoders, semantic, config)
        trace.append(float(objective(views, encoders, codes, semantic, config)))
    return encoders, codes, trace


class MMSAERetriever(Retriever):
    """Linear encoders of all modalities, compared by the inner product.

    Args:
        encoders: Per modality the preparation and ``(D, h)``, the matrix E P' of its linear map.
    """

    def __init__(self, encoders: dict[str, tuple[Preparation, Tensor]]) -> None:
        self.encoders = encoders

    def embed(self, modality: str, features: Tensor) -> Tensor:
        """Codes ``(n, h)`` of features ``(n, D)``, computed in float64 and returned in their type."""
        prepare, matrix = self.encoders[modality]
        return (prepare(features.double()) @ matrix).to(features.dtype)

    def similarity(self, query: str, queries: Tensor, database: str, items: Tensor) -> Tensor:
        """Inner products of codes ``(n_q, n_d)``, in the type of the features."""
        return product(self.embed(query, queries), self.embed(database, items))


@method(
    "mmsae",
    title="MMSAE",
    paper="Multi-modal semantic autoencoder for cross-modal retrieval",
    venue="IJON",
    year=2019,
    group="paired-oriented",
    modalities="two",
    kinds=("image", "text"),
    trained=False,
    version=1,
    doi="10.1016/j.neucom.2018.11.042",
)
class MMSAE(Method):
    """Closed-form steps; the only randomness is how modalities without native pairs are matched."""

    Config = MMSAEConfig
    config: MMSAEConfig

    def check(self, train: Split) -> None:
        """Also refuse rows that cannot be matched by class."""
        super().check(train)
        pairing.class_rows(train, seed=0)

    def fit(self, train: Split, val: Split, run: RunContext, log: FitLog) -> list[Retriever]:
        """Fit once per seed, or once for all where all rows are pairs; validation rows are not used."""
        del val
        matched = len(pairing.units(train)) > 1
        keys = [seed if matched else None for seed in run.seeds]
        fitted = {key: self._fit(train, key or 0, run) for key in dict.fromkeys(keys)}  # pairs read no seed
        log.notes["fits"] = [{"seed": key, **facts} for key, (_, facts) in fitted.items()]
        return [fitted[key][0] for key in keys]

    def _fit(self, train: Split, seed: int, run: RunContext) -> tuple[Retriever, dict[str, Any]]:
        config = self.config
        table = pairing.class_rows(train, derive_seed(seed, "mmsae", "pairs"))
        prepared, axes, views = {}, {}, {}
        for m in train:
            x = torch.from_numpy(m.features[table[m.name]]).to(run.device, torch.float64)
            prepared[m.name] = Preparation.of(x, config.prepare)
            x = prepared[m.name](x)
            axes[m.name] = principal_basis(x, config.energy)
            views[m.name] = View.of(x @ axes[m.name])
        first = train.names[0]
        labels = torch.from_numpy(train.label_matrix(first)[table[first]]).to(run.device, torch.float64)
        h = min(config.h or train.classes, train.classes)
        every = list(views.values())
        semantic, spectrum = semantic_codes(every, labels, h, config.ridge)
        fitted, _, trace = alternate(every, semantic, config)
        encoders = {name: (prepared[name], axes[name] @ p.T) for name, p in zip(views, fitted, strict=True)}
        kept = {name: basis.shape[1] for name, basis in axes.items()}
        facts = {"h": h, "axes": kept, "objective": trace, "spectrum": spectrum.tolist()}
        if missing := pairing.left_out(train):
            facts["rows_without_partner"] = missing
        return MMSAERetriever(encoders), facts
