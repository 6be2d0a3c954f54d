"""Graphs of class labels, and classifiers made from them; shared by ALGCN and GNN4CMR.

Both let a graph convolutional network over the C classes produce one classifier per class, and score an
embedding by its cosine with every classifier. What the classes start from is the option ``node_features``:

- ``learned_uniform``, ``learned_normal``: drawn from U[0, 1) or N(0, 1), then learned;
- ``onehot``: the unit vector of the class, padded with zeros, then learned;
- ``class_mean``: the class's training mean in one modality minus the mean of all classes, of unit length,
  padded with zeros or cut, then learned;
- ``file:<path>``: a matrix with one row per class in class order, ``.npy`` or numbers in lines of text (word
  vectors, say).
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from benchmark.core.data import Split
from benchmark.core.method import Run, choice
from benchmark.errors import DataError, UnsupportedError

from .layers import unit_rows

NODES = ("learned_uniform", "learned_normal", "onehot", "class_mean")
FILE = "file:"
CONDITIONS = ("column", "row")
ROW_SUM_FLOOR = 1e-6
SLOPE = 0.2


def training_labels(train: Split, run: Run) -> Tensor:
    """Label rows of all modalities below each other, ``(n, C)`` float64.

    The graph depends on ratios only, so that a pair may count once per modality.
    """
    return torch.from_numpy(np.concatenate([train.label_matrix(m) for m in train.names])).to(
        run.device, torch.float64
    )


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
    """Cosines of node features ``(C, d)``, without those below the threshold, ``(C, C)``."""
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
        nodes: Where the classes start, H_0, ``(C, node_dim)``.
        learned: Whether ``nodes`` is a parameter; else it is a buffer, to be named in ``Phase.state``.
        dim: Width of every H_l and of the classifiers.
        layers: Number of convolutions.

    T_l starts uniform in +-1/sqrt(dim).
    """

    def __init__(self, nodes: Tensor, learned: bool, dim: int, layers: int) -> None:
        super().__init__()
        if learned:
            self.nodes = nn.Parameter(nodes)
        else:
            self.register_buffer("nodes", nodes)
        bound = 1 / math.sqrt(dim)
        widths = [nodes.shape[1]] + [dim] * (layers - 1)
        self.layers = nn.ParameterList(torch.empty(w, dim).uniform_(-bound, bound) for w in widths)
        self.last = nn.Linear(dim * layers, dim)

    def forward(self, graph: Tensor) -> Tensor:
        """Normalised graph ``(C, C)`` to classifiers ``(C, dim)``."""
        h, found = self.nodes, []
        for weight in self.layers:
            h = leaky_relu(graph @ (h @ weight), SLOPE)
            found.append(h)
        return self.last(torch.cat(found, dim=-1))


def label_scores(embeddings: Tensor, classifiers: Tensor) -> Tensor:
    """Cosines of rows ``(n, d)`` with classifiers ``(C, d)``, 1e-6 added to the product of the lengths."""
    lengths = torch.linalg.vector_norm(embeddings, dim=-1), torch.linalg.vector_norm(classifiers, dim=-1)
    return embeddings @ classifiers.mT / (lengths[0][:, None] * lengths[1][None, :] + 1e-6)


def label_distance(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over rows of ``||p_i - y_i||``, not squared; both ``(n, C)``."""
    return torch.linalg.vector_norm(scores - labels, dim=-1).mean()


def check_nodes(source: str) -> None:
    """Raise ``ValueError`` unless ``source`` is a valid value of ``node_features``."""
    if not source.startswith(FILE):
        choice("node_features", source, (*NODES, f"{FILE}<path>"))


def class_rows(source: str, train: Split, modality: str, dim: int, run: Run) -> Tensor | None:
    """Node features that do not depend on the seed, ``(C, dim)`` float32 on the CPU; ``None`` for the others.

    Args:
        source: Value of ``node_features``.
        train: The training split.
        modality: Whose class means ``class_mean`` takes.
        dim: Number of columns; a file has its own.
        run: Receives the checksum of a file as a note.

    Raises:
        UnsupportedError: ``onehot`` with more classes than columns.
        DataError: A file that cannot be read or does not fit the classes.
    """
    if source.startswith(FILE):
        return _read_rows(Path(source.removeprefix(FILE)), train.classes, run)
    if source == "onehot":
        if train.classes > dim:
            raise UnsupportedError(
                f"node_features onehot needs node_dim of at least {train.classes}, not {dim}"
            )
        return torch.eye(train.classes, dim)
    if source == "class_mean":
        labels, x = train.label_matrix(modality), train[modality].features.astype(np.float64)
        counts = labels.sum(axis=0)[:, None]
        means = np.where(counts > 0, labels.T @ x / np.maximum(counts, 1) - x.mean(axis=0), 0)
        kept = unit_rows(torch.from_numpy(means).float())[:, :dim]
        return torch.nn.functional.pad(kept, (0, dim - kept.shape[1]))
    return None


def starting_nodes(source: str, fixed: Tensor | None, classes: int, dim: int) -> Tensor:
    """Node features of one seed, ``(C, dim)``; random ones come from torch's global generator."""
    if fixed is not None:
        return fixed.clone()
    return torch.rand(classes, dim) if source == "learned_uniform" else torch.randn(classes, dim)


def _read_rows(path: Path, classes: int, run: Run) -> Tensor:
    try:
        rows = np.load(path) if path.suffix == ".npy" else np.loadtxt(path, ndmin=2)
        content = path.read_bytes()
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"node_features {path}: {str(error).partition(chr(10))[0]}") from None
    if rows.ndim != 2 or len(rows) != classes or not rows.shape[1]:
        raise DataError(
            f"node_features {path}: shape {rows.shape}, expected ({classes}, d), a row for every class"
        )
    if not np.issubdtype(rows.dtype, np.number) or not np.isfinite(rows).all():
        raise DataError(f"node_features {path}: not all entries are finite numbers")
    run.notes["node_features_sha256"] = hashlib.sha256(content).hexdigest()
    return torch.from_numpy(rows.astype(np.float32))
