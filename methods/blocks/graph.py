"""Graphs of class labels, and classifiers made from them; shared by ALGCN and GNN4CMR.

Both let a graph convolutional network over the C classes produce one classifier per class, and score an
embedding by its cosine with every classifier. The features that the classes start from are learned along.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad

from benchmark.core.config import Bounds
from benchmark.core.data import Split
from benchmark.core.method import RunContext

from .layers import unit_rows

Threshold = Annotated[float, Bounds(0, 1, open=True)]
"""From which share or cosine on two classes are neighbours; not 0, where all would be."""
ROW_SUM_FLOOR = 1e-6
SLOPE = 0.2


def co_occurrence(labels: Tensor) -> tuple[Tensor, Tensor]:
    """How often two classes occur together, ``(C, C)``, and each class at all, ``(C,)``."""
    return labels.mT @ labels, labels.sum(dim=0)


def static_graph(labels: Tensor, threshold: float, condition: str = "column") -> Tensor:
    """``0.5 [P >= threshold] + I`` with P_ij the share of class j's items that have class i, ``(C, C)``.

    Labels of one class per item give 1.5 I: there are no edges. A class without items has none either (in
    the public codes its column is NaN).

    Args:
        labels: ``(n, C)``, 0 or 1.
        threshold: In (0, 1].
        condition: ``column`` divides by the count of class j; ``row`` by that of class i, as is usual for
            label graphs.
    """
    together, counts = co_occurrence(labels)
    by = counts[None, :] if condition == "column" else counts[:, None]
    edges = together / by.clamp_min(1) >= threshold
    return 0.5 * edges + torch.eye(len(counts), dtype=labels.dtype, device=labels.device)


def label_graph(train: Split, run: RunContext, threshold: float, condition: str = "column") -> Tensor:
    """The :func:`static_graph` of all training labels, ``(C, C)`` float64 on the run's device.

    It depends on ratios only, so that a pair may count once per modality.
    """
    labels = torch.from_numpy(np.concatenate([train.label_matrix(m) for m in train.names]))
    return static_graph(labels.to(run.device, torch.float64), threshold, condition)


def normalized(graph: Tensor) -> Tensor:
    """``A_ji / sqrt(r_i r_j)`` with r the row sums of A: the transpose, scaled by sums of A itself.

    Args:
        graph: ``(C, C)``, not negative. Row sums below 1e-6 count as 1e-6, or a row that has become zero
            would make everything NaN.
    """
    scale = graph.sum(dim=1).clamp_min(ROW_SUM_FLOOR).rsqrt()
    return graph.mT * scale[:, None] * scale[None, :]


def above(similarity: Tensor, threshold: float) -> Tensor:
    """Values below the threshold set to 0."""
    return torch.where(similarity >= threshold, similarity, 0.0)


def cosine_graph(nodes: Tensor, threshold: float) -> Tensor:
    """Cosines of node features ``(..., C, d)``, without those below the threshold, ``(..., C, C)``."""
    unit = unit_rows(nodes)
    return above(unit @ unit.mT, threshold)


def head_graph(nodes: Tensor, heads: Tensor, threshold: float) -> Tensor:
    """Mean over heads of the cosines of reweighted node features, without those below the threshold.

    Args:
        nodes: ``(C, d)``.
        heads: ``(k, d)``.
        threshold: Least cosine.
    """
    unit = unit_rows(nodes * heads[:, None, :])
    return above((unit @ unit.mT).mean(dim=0), threshold)


class LabelNet(nn.Module):
    """Graph convolutions over the classes, and one classifier per class.

    ``H_l = LeakyReLU(Ahat H_{l-1} T_l)`` with slope 0.2, and a linear layer on all H_l side by side.

    Args:
        nodes: Where the classes start, H_0, ``(C, node_dim)``; learned along.
        dim: Width of every H_l and of the classifiers.
        layers: Number of convolutions.

    T_l starts uniform in +-1/sqrt(dim).
    """

    def __init__(self, nodes: Tensor, dim: int, layers: int) -> None:
        super().__init__()
        self.nodes = nn.Parameter(nodes)
        bound = 1 / math.sqrt(dim)
        widths = [nodes.shape[1]] + [dim] * (layers - 1)
        self.layers = nn.ParameterList(torch.empty(w, dim).uniform_(-bound, bound) for w in widths)
        self.last = nn.Linear(dim * layers, dim)

    def forward(self, graph: Tensor) -> Tensor:
        """Normalised graph ``(C, C)`` to classifiers ``(C, dim)``."""
        found: list[Tensor] = [self.nodes]
        for weight in self.layers:
            found.append(leaky_relu(graph @ (found[-1] @ weight), SLOPE))
        classifiers: Tensor = self.last(torch.cat(found[1:], dim=-1))
        return classifiers


def label_scores(embeddings: Tensor, classifiers: Tensor) -> Tensor:
    """Cosines of rows ``(n, d)`` with classifiers ``(C, d)``, 1e-6 added to the product of the lengths."""
    rows: Tensor = torch.linalg.vector_norm(embeddings, dim=-1)
    columns: Tensor = torch.linalg.vector_norm(classifiers, dim=-1)
    return embeddings @ classifiers.mT / (rows[:, None] * columns[None, :] + 1e-6)


def score_distance(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over rows of ``||p_i - y_i||``, not squared; both ``(n, C)``."""
    distances: Tensor = torch.linalg.vector_norm(scores - labels, dim=-1)
    return distances.mean()


def random_nodes(source: str, classes: int, dim: int) -> Tensor:
    """``(classes, dim)`` from torch's global generator: U[0, 1) for ``learned_uniform``, or else N(0, 1)."""
    return torch.rand(classes, dim) if source == "learned_uniform" else torch.randn(classes, dim)


def class_means(train: Split, modality: str, dim: int) -> Tensor:
    """The mean of a class's rows minus that of all rows, of unit length, padded with zeros or cut.

    Args:
        train: The training split.
        modality: Whose rows.
        dim: Number of columns.

    Returns:
        ``(C, dim)`` float32; zero for a class without rows.
    """
    labels, x = train.label_matrix(modality), train[modality].features.astype(np.float64)
    counts = labels.sum(axis=0)[:, None]
    means = np.where(counts > 0, labels.T @ x / np.maximum(counts, 1) - x.mean(axis=0), 0)
    kept = unit_rows(torch.from_numpy(means).float())[:, :dim]
    return pad(kept, (0, dim - kept.shape[1]))
