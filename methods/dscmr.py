"""DSCMR: Deep Supervised Cross-modal Retrieval.

L. Zhen, P. Hu, X. Wang, D. Peng, CVPR 2019, pp. 10394-10403. Public code: penghu-cs/DSCMR@0e110b92.

Images and texts go through a hidden layer of their own and one linear layer g that they share, to u_i and
v_i; a linear classifier h, shared too, gives label-space outputs p_i = h(u_i) and q_i = h(v_i). Over a batch
of n pairs with label rows y_i,

    J  = J1 + alpha J2 + beta J3
    J1 = mean_i ||p_i - y_i|| + mean_i ||q_i - y_i||              label space
    J2 = l(U, U) + l(U, V) + l(V, V)                              common space
    J3 = mean_i ||u_i - v_i||                                     modality invariance

with l the mean over all pairs of log(1 + exp(theta)) - (y_i . y_j) theta, theta = cos / 2, the diagonal
included, and norms that are not squared. Test rows are compared by the cosine of u and v.

Where this differs from the public code:
- pairs are served in a fresh order every epoch (there: always in the order of the file, which is sorted by
  class in the data it ships, so that a batch holds few classes); ``shuffle`` switches that off;
- the kept epoch has the best mean MAP on validation rows (there: on test rows, which ``fit`` never sees, so
  that this selection is not offered);
- the last batch of an epoch is left out if it is a single pair.

Kept on purpose: J1 and J3 average norms of rows, where the paper writes Frobenius norms of matrices divided
by n (``norm``); the classifier is an ordinary layer with bias; for items with several labels the target of J2
is the number of labels in common and may exceed 1 (``similarity``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice, derive_seed
from benchmark.core.registry import method
from benchmark.training.samplers import Batch, TupleSampler
from benchmark.training.train import (
    Adam,
    Objective,
    Params,
    Phase,
    Select,
    Terms,
    build_replicas,
    train_phase,
)

from .blocks.joint import joint_retrievers, select_by_map
from .blocks.losses import half_cosine_likelihood
from .blocks.two_branch import TwoBranch, encoder_embed


@dataclass(frozen=True)
class DSCMRConfig:
    """Hyper-parameters; defaults are those of the public code.

    Attributes:
        hidden: Width of the hidden layers.
        dim: Width of the common space.
        epochs: Epochs.
        batch: Pairs per batch.
        lr: Learning rate.
        betas: Adam's decay rates.
        alpha: Weight of J2.
        beta: Weight of J3.
        norm: ``row``: mean of row norms; ``frobenius``: norm of the matrix divided by the number of rows.
        similarity: Target of J2: ``inner`` product of label rows, or ``binary``, 1 where a label is shared.
        shuffle: Fresh order of the pairs every epoch, or that of the files.
        select: Epoch kept: best validation ``map``, or the ``last``.
    """

    hidden: int = 2048
    dim: int = 1024
    epochs: int = 500
    batch: int = 100
    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    alpha: float = 1e-3
    beta: float = 1e-1
    norm: str = "row"
    similarity: str = "inner"
    shuffle: bool = True
    select: str = "map"

    def __post_init__(self) -> None:
        choice("norm", self.norm, ("row", "frobenius"))
        choice("similarity", self.similarity, ("inner", "binary"))
        choice("select", self.select, ("map", "last"))
        if min(self.hidden, self.dim, self.epochs, self.batch) < 1:
            raise ValueError("hidden, dim, epochs and batch must be positive")
        if min(self.lr, self.alpha, self.beta) < 0:
            raise ValueError("lr, alpha and beta must not be negative")


class DSCMRNet(nn.Module):
    """Encoder and classifier.

    Args:
        widths: Feature width of both modalities.
        hidden: Width of the hidden layers.
        d: Width of the common space.
        classes: Number of classes.
    """

    def __init__(self, widths: Mapping[str, int], hidden: int, d: int, classes: int) -> None:
        super().__init__()
        self.encoder = TwoBranch(widths, hidden, d)
        self.classifier = nn.Linear(d, classes)

    def forward(self, rows: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """``(B, D)`` features of every modality to ``(B, d)`` representations and ``(B, C)`` outputs."""
        return {name: (h, self.classifier(h)) for name, h in self.encoder(rows).items()}


def distance(a: Tensor, b: Tensor, norm: str = "row") -> Tensor:
    """Distance of two ``(n, d)`` matrices, see ``DSCMRConfig.norm``; no infinite slope where they agree."""
    if norm == "frobenius":
        return torch.linalg.matrix_norm(a - b) / len(a)
    return torch.linalg.vector_norm(a - b, dim=-1).mean()


def objective_terms(
    common: tuple[Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor],
    config: DSCMRConfig,
) -> Terms:
    """All terms of J.

    Args:
        common: u and v, ``(n, d)``.
        outputs: p and q, ``(n, C)``.
        labels: Label rows of both modalities, ``(n, C)``; they differ only where labels are noisy.
        config: Weights and options.
    """
    (u, v), (y_u, y_v), binary = common, labels, config.similarity == "binary"
    j1 = sum(distance(p, y, config.norm) for p, y in zip(outputs, labels, strict=True))
    j2 = (
        half_cosine_likelihood(u, u, y_u, y_u, binary=binary)
        + half_cosine_likelihood(u, v, y_u, y_v, binary=binary)
        + half_cosine_likelihood(v, v, y_v, y_v, binary=binary)
    )
    j3 = distance(u, v, config.norm)
    total = j1 + config.alpha * j2 + config.beta * j3
    return {"total": total, "label": j1, "common": j2, "invariance": j3}


def dscmr_phase(
    config: DSCMRConfig,
    net: DSCMRNet,
    sampler: TupleSampler,
    validate: Callable[[Params, Params], Terms] | None,
) -> Phase:
    """Training of all layers.

    Args:
        config: Hyper-parameters.
        net: Weightless template.
        sampler: Pairs.
        validate: Gives ``map``.
    """
    first, second = net.encoder.names

    def loss(params: Params, batch: Batch, now: Params) -> Terms:  # noqa: ARG001 - nothing is scheduled
        rows = {name: batch[f"x/{name}"] for name in (first, second)}
        found = functional_call(net, params, (rows,))
        common, outputs = zip(found[first], found[second], strict=True)
        return objective_terms(common, outputs, (batch[f"y/{first}"], batch[f"y/{second}"]), config)

    return Phase(
        name="dscmr",
        epochs=config.epochs,
        sampler=sampler,
        objectives=(Objective(loss, Adam(config.lr, config.betas)),),
        validate=validate,
        select=Select("last") if config.select == "last" else Select("max", "map"),
        keep=("encoder.",),
    )


@method(
    "dscmr",
    title="DSCMR",
    paper="Deep Supervised Cross-modal Retrieval",
    venue="CVPR",
    year=2019,
    group="paired-oriented",
    modalities="two",
    kinds=("image", "text"),
    version=1,
    doi="10.1109/CVPR.2019.01064",
)
class DSCMR(Method):
    """Two hidden layers, a shared linear layer, a shared classifier."""

    Config = DSCMRConfig
    config: DSCMRConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        return {"hidden": 16, "dim": 12, "epochs": 4, "batch": 16, "lr": 1e-3}

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring."""
        config = self.config
        widths = {m.name: m.dim for m in train}
        net, start = build_replicas(
            lambda: DSCMRNet(widths, config.hidden, config.dim, train.classes),
            [derive_seed(seed, "dscmr", "weights") for seed in run.seeds],
            run,
        )
        embed = encoder_embed(net.encoder)
        sampler = TupleSampler(train, run, config.batch, shuffle=config.shuffle)
        phase = dscmr_phase(config, net, sampler, select_by_map(embed, val, run))
        return joint_retrievers(embed, train_phase(phase, start, run).params)
