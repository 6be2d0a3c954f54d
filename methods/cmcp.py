"""CMCP: Cross-Modality Correlation Propagation.

X. Zhai, Y. Peng, J. Xiao, ICASSP 2012, pp. 2337-2340. Public code: PKU-ICST-MIPL/CMCP_ICASSP2012@3a383438
(MATLAB).

Nothing is trained, and an item has no embedding: the queries and the database are nodes of the graphs on
which labels spread (transductive learning), so every score depends on all of them. Test labels are not used.

Per modality, the N training and test rows, training rows first, are z-normalised with the statistics of the
training rows, twice. Every row is linked to the k rows of largest cosine, W; with W <- (W + W') / 2 and
degrees d, S = D^-1/2 W D^-1/2. Labels spread as F <- alpha S F + (1 - alpha) Y, whose limit is P Y with

    P = (1 - alpha) (I - alpha S)^-1.

Modalities a and b meet in the signed matrix of training rows L: L_ij = 1/n_c for rows of the same class, else
-1/(n_a - n_c), with c the class of j and n_c its rows in a. It spreads over both graphs, and the scores are

    R = P_a[test, train] L P_b[train, test].

L has rank C at most, L = E_a M E_b' with one-hot labels E, so that R = G_a M G_b' where G is P [E; 0] in the
test rows: C columns spread per modality, where R as written takes the inverse of an N x N matrix. From b to
a, M holds the counts of b, so R of the two directions are not each other's transpose.

Training rows need not be paired, and pairs are not used. Distances between rows and the graph are float64;
scores are divided by the largest one, for float32.

Where this differs from the public code:
- a column that is constant in training and not in test is dropped (there: divided by 0.001 twice, so that
  it decides every cosine; ``constant_features = "as_published"``);
- a row is kept out of its own neighbours by its number (there: as the first of the sorted row, which among
  exact duplicates may be another; ``self_match = "first"``);
- negative cosines among the neighbours stay as there, unless a degree is not positive (there: NaN); then
  they become 0, and degrees are at least 1e-12. Rows of zeros have cosine 0 with all others (there: NaN);
- a class without training rows, or the only one, does not divide by 0;
- the kernel's exponent 1/beta is left out: at the public value, 1, it does nothing, at others it takes
  logarithms of negative numbers.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, eye_array
from scipy.sparse.linalg import splu
from torch import Tensor

from benchmark.core.config import Bounds, Config, Count, Part
from benchmark.core.data import Split
from benchmark.core.method import FitLog, Method, Retriever, RunContext
from benchmark.core.registry import method

from .blocks.joint import split_tensors

PASSES = 2  # of the z-normalisation
ADDED = 1e-3  # to all deviations if one is 0
FLOOR = 1e-12  # of lengths and degrees
CHUNK_BYTES = 64 * 2**20  # of the cosines held at once
DIVERGED = 1e6


class CMCPConfig(Config):
    """Hyper-parameters.

    Attributes:
        alpha: Share of the neighbours in every step of propagation.
        k: Neighbours per row; all others where there are fewer.
        tolerance: Propagation ends when no entry changes by more.
        constant_features: Columns constant in training: ``drop``, or ``as_published``.
        self_match: What is left out of a row's neighbours: itself (``row``), or the ``first`` of the sorted
            row.
    """

    alpha: Part
    k: Count
    tolerance: Annotated[float, Bounds(0, 1, open=True)]
    constant_features: Literal["drop", "as_published"]
    self_match: Literal["row", "first"]


def znorm(x: Tensor, train: int, constant_features: str = "drop") -> Tensor:
    """Z-normalise ``x`` ``(N, d)`` float64, in place, with the statistics of the first ``train`` rows."""
    known = x[:train]
    constant = known.amax(0) == known.amin(0)
    for _ in range(PASSES):
        deviation, mean = torch.std_mean(known, dim=0, correction=0)
        mean = torch.where(constant, known[0], mean)  # rounding would leave something of a constant
        if constant.any():
            deviation = torch.where(constant, 0, deviation) + ADDED
        x.sub_(mean).div_(deviation)
    if constant_features == "drop":
        x[:, constant] = 0
    return x


def neighbours(x: Tensor, k: int, self_match: str = "row") -> tuple[Tensor, Tensor]:
    """The ``k`` largest cosines of every row with others, and whose they are; a block of rows at a time.

    Rows ``(N, d)`` are divided by their lengths in place. Cosines and row numbers are ``(N, k)``; at most
    N - 1 are found.
    """
    x.div_(torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(FLOOR))
    count = len(x)
    k = min(k, count - 1)
    step = max(1, CHUNK_BYTES // (x.element_size() * count))
    found = []
    for start in range(0, count, step):
        cosine = x[start : start + step] @ x.T
        own = torch.arange(len(cosine), device=x.device)
        if self_match == "row":
            cosine[own, own + start] = -torch.inf
            found.append(tuple(cosine.topk(k)))
        else:
            cosine[own, own + start] = 1
            values, columns = cosine.clamp_(max=1).sort(dim=1, descending=True, stable=True)
            found.append((values[:, 1 : k + 1].clone(), columns[:, 1 : k + 1].clone()))
    values, columns = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, columns


def normalised_graph(cosines: NDArray[np.float64], rows: NDArray[np.int64]) -> tuple[csr_array, int]:
    """S ``(N, N)`` of cosines ``(N, k)`` and whose they are, and the number of negative weights set to 0."""
    count, k = rows.shape
    starts = np.arange(count + 1) * k
    directed = csr_array((cosines.ravel(), rows.ravel(), starts), shape=(count, count))
    weights = (directed + directed.T) / 2
    clipped = 0
    if weights.sum(axis=1).min() <= 0:
        clipped = int((weights.data < 0).sum())
        weights.data.clip(0, out=weights.data)
    scale = diags_array(weights.sum(axis=1).clip(FLOOR) ** -0.5)
    return csr_array(scale @ weights @ scale), clipped


def propagate(
    graph: csr_array, start: NDArray[np.float64], alpha: float, tolerance: float
) -> tuple[NDArray[np.float64], int]:
    """(1 - alpha) (I - alpha S)^-1 Y for ``(N, N)`` and ``(N, C)``: repeated F <- alpha S F + (1 - alpha) Y.

    A step shrinks the difference by alpha, unless S has negative weights. If that keeps it from settling, the
    equations are solved directly.

    Returns:
        ``(N, C)``, and the number of steps (0: solved directly).
    """
    steps = 10 + 2 * math.ceil(math.log(tolerance) / math.log(alpha)) if alpha else 2
    values = start
    for step in range(1, steps + 1):
        following = alpha * (graph @ values) + (1 - alpha) * start
        change = np.abs(following - values).max()
        values = following
        if change < tolerance:
            return values, step
        if change > DIVERGED:
            break
    equations = (eye_array(graph.shape[0]) - alpha * graph).tocsc()
    return splu(equations).solve((1 - alpha) * start), 0


def class_correlation(counts: Tensor) -> Tensor:
    """M for the counts ``(C,)`` of the training rows of the modality of the queries: ``(C, C)``."""
    same = 1 / counts.clamp_min(1)
    other = 1 / (counts.sum() - counts).clamp_min(1)
    return torch.diag(same + other) - other


class CMCPRetriever(Retriever):
    """Training rows and labels of every modality; the rest waits for test rows.

    Call ``similarity`` with all queries and all database rows at once: a part of them gives other scores.
    What has spread over the graph of a modality's last test rows is kept, for the other direction and for
    other seeds.

    Args:
        config: Hyper-parameters.
        train: Features ``(n, D)`` and one-hot labels ``(n, C)`` per modality.
        notes: Filled with facts of the graphs by modality.
    """

    def __init__(
        self, config: CMCPConfig, train: dict[str, tuple[Tensor, Tensor]], notes: dict[str, Any]
    ) -> None:
        self.config, self.train, self.notes = config, train, notes
        self.last: dict[str, tuple[bytes, Tensor]] = {}

    def similarity(self, query: str, queries: Tensor, database: str, items: Tensor) -> Tensor:
        """R between all queries and all database rows over its largest magnitude, float32."""
        counts = self.train[query][1].sum(0).to(queries.device, torch.float64)
        scores = self.spread(query, queries) @ class_correlation(counts) @ self.spread(database, items).T
        return scores.div_(scores.abs().max().clamp_min(torch.finfo(torch.float64).tiny)).float()

    def spread(self, modality: str, test: Tensor) -> Tensor:
        """G, the class scores of the test rows: ``(n_test, D)`` features to ``(n_test, C)`` float64."""
        digest = hashlib.blake2b(test.detach().cpu().contiguous().numpy().data).digest()
        kept = self.last.get(modality)
        if kept is None or kept[0] != digest:
            self.last[modality] = kept = digest, self._spread(modality, test)
        return kept[1].to(test.device)

    def _spread(self, modality: str, test: Tensor) -> Tensor:
        c, (known, labels) = self.config, self.train[modality]
        train, count = len(known), len(known) + len(test)
        rows = torch.empty(count, known.shape[1], dtype=torch.float64, device=test.device)
        rows[:train], rows[train:] = known, test
        cosines, columns = neighbours(znorm(rows, train, c.constant_features), c.k, c.self_match)
        graph, clipped = normalised_graph(cosines.cpu().numpy(), columns.cpu().numpy())
        start = np.zeros((count, labels.shape[1]))
        start[:train] = labels.cpu().numpy()
        values, steps = propagate(graph, start, c.alpha, c.tolerance)
        self.notes[modality] = {
            "rows": count,
            "neighbours": cosines.shape[1],
            "negative": int((cosines < 0).sum()),
            "clipped": clipped,
            "steps": steps,
        }
        return torch.from_numpy(values[train:])


@method(
    "cmcp",
    title="CMCP",
    paper="Cross-Modality Correlation Propagation for Cross-Media Retrieval",
    venue="ICASSP",
    year=2012,
    group="paired-oriented",
    modalities="two",
    kinds=("image", "text"),
    trained=False,
    transductive=True,
    multilabel=False,
    version=1,
    doi="10.1109/ICASSP.2012.6288383",
)
class CMCP(Method):
    """Propagation of labels over graphs of training and test rows; nothing is random."""

    Config = CMCPConfig
    config: CMCPConfig

    def fit(self, train: Split, val: Split, run: RunContext, log: FitLog) -> list[Retriever]:
        """Keep the training rows; validation rows are not used. The same retriever serves all seeds."""
        del val
        known = {name: split_tensors(train, name, run) for name in train.names}
        graphs: dict[str, Any] = {}
        log.notes["graphs"] = graphs
        return [CMCPRetriever(self.config, known, graphs)] * len(run.seeds)
