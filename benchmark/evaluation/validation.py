"""Validation quantities by which a training phase selects its epoch; traceable by ``torch.vmap``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def validation_map(embeddings: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Tensor:
    """Mean MAP@all by cosine over all ordered pairs of modalities.

    Made for validation sets of a few thousand rows: every pair of a query and a database row is in memory.
    Equal scores rank by position; the evaluation of test data treats them with more care
    (:mod:`benchmark.evaluation.metrics`).

    Args:
        embeddings: Per modality ``(n, d)``.
        labels: Per modality ``(n, C)``, one-hot or multi-hot.

    Returns:
        0-dimensional.
    """
    unit = {name: normalize(x, dim=-1) for name, x in embeddings.items()}
    found = []
    for a, b in combinations(unit, 2):
        scores = unit[a] @ unit[b].mT
        relevant = labels[a] @ labels[b].mT > 0
        found += [mean_average_precision(scores, relevant), mean_average_precision(scores.mT, relevant.mT)]
    return torch.stack(found).mean()


def mean_average_precision(scores: Tensor, relevant: Tensor) -> Tensor:
    """MAP@all of queries in rows; 0 for a query without a relevant row.

    Args:
        scores: ``(n_q, n_d)``, higher is more similar.
        relevant: ``(n_q, n_d)`` boolean.
    """
    order = scores.argsort(dim=-1, descending=True, stable=True)
    hits = relevant.to(scores.dtype).gather(-1, order)
    found = hits.cumsum(-1)
    ranks = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype, device=scores.device)
    precision = (hits * found / ranks).sum(-1)
    return (precision / found[..., -1].clamp_min(1)).mean()
