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
is the number of labels in common and may exceed 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.core.config import Count, Weight
from benchmark.core.data import Split
from benchmark.core.method import RunContext
from benchmark.core.registry import method
from benchmark.training import Batch, Model, Terms, TupleSampler

from .blocks.base import Joint
from .blocks.config import JointConfig
from .blocks.losses import common_space_likelihood
from .blocks.two_branch import TwoBranch


class DSCMRConfig(JointConfig):
    """Hyper-parameters, beside those of :class:`JointConfig`.

    Attributes:
        hidden: Width of the hidden layers.
        dim: Width of the common space.
        alpha: Weight of J2.
        beta: Weight of J3.
        norm: ``row``: mean of row norms; ``frobenius``: norm of the matrix divided by the number of rows.
        shuffle: Fresh order of the pairs every epoch, or that of the files.
    """

    hidden: Count
    dim: Count
    alpha: Weight
    beta: Weight
    norm: Literal["row", "frobenius"]
    shuffle: bool


class DSCMRNet(nn.Module):
    """Encoder of both modalities, and the classifier they share."""

    def __init__(self, widths: Mapping[str, int], hidden: int, d: int, classes: int) -> None:
        super().__init__()
        self.encoder = TwoBranch(widths, hidden, d)
        self.classifier = nn.Linear(d, classes)


def distance(a: Tensor, b: Tensor, norm: str = "row") -> Tensor:
    """Distance of two ``(n, d)`` matrices, see ``DSCMRConfig.norm``; no infinite slope where they agree."""
    found: Tensor
    if norm == "frobenius":
        found = torch.linalg.matrix_norm(a - b) / len(a)
    else:
        found = torch.linalg.vector_norm(a - b, dim=-1).mean()
    return found


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
    (u, v), (y_u, y_v) = common, labels
    j1 = distance(outputs[0], y_u, config.norm) + distance(outputs[1], y_v, config.norm)
    j2 = common_space_likelihood(u, v, y_u, y_v)
    j3 = distance(u, v, config.norm)
    total = j1 + config.alpha * j2 + config.beta * j3
    return {"total": total, "label": j1, "common": j2, "invariance": j3}


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
class DSCMR(Joint):
    """Two hidden layers, a shared linear layer, a shared classifier."""

    Config = DSCMRConfig
    config: DSCMRConfig

    def network(self, train: Split) -> DSCMRNet:
        """Encoder and classifier."""
        widths = {m.name: m.dim for m in train}
        return DSCMRNet(widths, self.config.hidden, self.config.dim, train.classes)

    def sampler(self, train: Split, run: RunContext) -> TupleSampler:
        """Pairs."""
        return TupleSampler(train, run, self.config.batch, shuffle=self.config.shuffle)

    def loss(self, model: Model, batch: Batch) -> Terms:
        """J of one batch."""
        u, v = model.encoder(batch.x).values()
        outputs = model.classifier(u), model.classifier(v)
        y_u, y_v = batch.y.values()
        return objective_terms((u, v), outputs, (y_u, y_v), self.config)

    def embed(self, model: Model, modality: str, x: Tensor) -> Tensor:
        """Rows of the common space."""
        found: Tensor = model.encoder({modality: x})[modality]
        return found
