"""Losses several methods share, as functions of one replica's tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .layers import unit_rows


def log_label_mass(logits: Tensor, labels: Tensor) -> Tensor:
    """Log of the softmax mass on a row's labels, ``log sum_k y_k p_k``, without leaving log space.

    Args:
        logits: ``(B, C)``.
        labels: ``(B, C)`` non-negative: one-hot, multi-hot or mixed.

    Returns:
        ``(B,)``, 0 for rows without any label (there is nothing to be wrong about).
    """
    labelled = labels.sum(dim=-1, keepdim=True) > 0
    weights = torch.where(labelled, labels, 1.0)
    mass = torch.logsumexp(logits + weights.log(), dim=-1) - torch.logsumexp(logits, dim=-1)
    return torch.where(labelled.squeeze(-1), mass, 0.0)


def generalized_cross_entropy(logits: Tensor, labels: Tensor, q: Tensor) -> Tensor:
    """Mean over the batch of ``(1 - s^q) / q`` with ``s`` the softmax mass on the labels.

    ``q = 0`` is the limit, cross entropy; ``q = 1`` is half the mean absolute error (Zhang and Sabuncu,
    NeurIPS 2018).

    Args:
        logits: ``(B, C)``.
        labels: ``(B, C)`` non-negative rows.
        q: 0-dimensional, not negative.
    """
    mass = log_label_mass(logits, labels)
    positive = torch.where(q == 0, 1.0, q)
    return torch.where(q == 0, -mass, -torch.expm1(positive * mass) / positive).mean()


def shares_label(a: Tensor, b: Tensor) -> Tensor:
    """Which rows have a label in common, ``(n, m)`` boolean, for label rows ``(n, C)`` and ``(m, C)``."""
    return a @ b.mT > 0.5


def label_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Labels in common by labels that either row has (Jaccard), ``(n, m)``; 0 for two rows without any."""
    shared = a @ b.mT
    return shared / (a.sum(dim=-1)[:, None] + b.sum(dim=-1)[None, :] - shared).clamp_min(1)


def labelled_mean(values: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``values`` ``(B,)`` over rows whose ``labels`` ``(B, C)`` name any; 0 if none does."""
    labelled = labels.sum(dim=-1) > 0
    return torch.where(labelled, values, 0.0).sum() / labelled.sum().clamp_min(1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over labelled rows of ``-sum_k y_k log softmax(logits)_k``; several labels add up.

    Args:
        logits: ``(B, C)``.
        labels: ``(B, C)`` one-hot or multi-hot.
    """
    return labelled_mean(-(labels * logits.log_softmax(dim=-1)).sum(dim=-1), labels)


def label_distance(features: Tensor, prior: Tensor, labels: Tensor) -> Tensor:
    """Per row ``||W' h - y||``, not squared; ``(B,)`` for ``(B, d)``, ``(d, C)`` and ``(B, C)``."""
    distance: Tensor = torch.linalg.vector_norm(features @ prior - labels, dim=-1)
    return distance


def pair_likelihood(a: Tensor, b: Tensor, labels_a: Tensor, labels_b: Tensor) -> Tensor:
    """Mean over all pairs of ``log(1 + exp(theta)) - S theta`` with ``theta = 2 cos(a_i, b_j)``.

    ``S_ij`` is 1 where rows i and j share a label. Rows without length have cosine 0 with every other.

    Args:
        a: ``(n, d)``.
        b: ``(m, d)``.
        labels_a: ``(n, C)``.
        labels_b: ``(m, C)``.
    """
    theta = 2 * unit_rows(a) @ unit_rows(b).mT
    return (softplus(theta) - torch.where(shares_label(labels_a, labels_b), theta, 0.0)).mean()


def half_cosine_likelihood(a: Tensor, b: Tensor, labels_a: Tensor, labels_b: Tensor) -> Tensor:
    """Mean over all pairs of ``log(1 + exp(theta)) - s theta`` with ``theta = cos(a_i, b_j) / 2``.

    The common-space term of DSCMR (public code train_model.py), also in the code of ALGCN and GNN4CMR:
    ``s_ij`` is the inner product of the label rows, and the product of the norms is at least 1e-6.

    Args:
        a: ``(n, d)``.
        b: ``(m, d)``.
        labels_a: ``(n, C)``.
        labels_b: ``(m, C)``.
    """
    norms = torch.linalg.vector_norm(a, dim=-1)[:, None] * torch.linalg.vector_norm(b, dim=-1)[None, :]
    theta = 0.5 * (a @ b.mT) / norms.clamp_min(1e-6)
    mean: Tensor = (softplus(theta) - labels_a @ labels_b.mT * theta).mean()
    return mean


def common_space_likelihood(u: Tensor, v: Tensor, y_u: Tensor, y_v: Tensor) -> Tensor:
    """:func:`half_cosine_likelihood` of u with u, u with v, and v with v, added up."""
    return (
        half_cosine_likelihood(u, u, y_u, y_u)
        + half_cosine_likelihood(u, v, y_u, y_v)
        + half_cosine_likelihood(v, v, y_v, y_v)
    )


def robust_clustering(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over rows of ``log(1 - p_y)``, at most 0 and bounded below by what the logits allow.

    The clustering loss of MRL (Hu et al., CVPR 2021) and ELRCMR: its gradient ``-p_y`` with respect to the
    logit of the label is largest where a row is already well classified, so that rows that stay wrong, as
    those with a wrong label do, weigh little. Computed as a difference of two log sums, which stays finite
    where ``p_y`` rounds to 1.

    Args:
        logits: ``(..., N, C)``, divided by the temperature.
        labels: ``(..., N, C)`` one-hot.

    Returns:
        ``(...)``.
    """
    others = logits.masked_fill(labels > 0.5, -torch.inf)
    return (torch.logsumexp(others, dim=-1) - torch.logsumexp(logits, dim=-1)).mean(dim=-1)


def tuple_contrast(z: Tensor, tau: float, *, form: str = "code", dropped: Tensor | None = None) -> Tensor:
    """How little of a row's similarity goes to the rows of its own tuple: ``-log P`` over all m N rows.

    ``P_a`` is the sum of ``exp(z_a . z_b / tau)`` over the rows b of the tuple of a, divided by that over all
    rows b. The multimodal contrastive loss of MRL and ELRCMR.

    Args:
        z: ``(m, N, L)`` unit rows; the same place in every modality is one tuple.
        tau: Temperature.
        form: ``code``: b is never a itself, twice the mean over the rows (a row and a column version that
            are equal). ``paper``: b may be a, sum over modalities of the mean over tuples.
        dropped: ``(m N, m N)`` boolean, pairs that count nowhere (:func:`repeated_pairs`); none if not given.
    """
    modalities, tuples, _ = z.shape
    flat = z.flatten(0, 1)
    place = torch.arange(modalities * tuples, device=z.device)
    together = place[:, None] % tuples == place[None, :] % tuples
    lowest = torch.finfo(z.dtype).min
    scores = flat @ flat.mT / tau
    if form == "code":
        scores = scores.masked_fill(place[:, None] == place[None, :], lowest)
    if dropped is not None:
        scores = scores.masked_fill(dropped, lowest)
    own = torch.logsumexp(scores.masked_fill(~together, lowest), dim=-1)
    terms = torch.logsumexp(scores, dim=-1) - own
    return 2 * terms.mean() if form == "code" else terms.sum() / tuples


def repeated_pairs(rows: Tensor) -> Tensor:
    """Pairs of rows from different tuples that show one item, or two that form a tuple of the batch.

    Where the items of a small modality are served repeatedly, such pairs are no evidence of difference.

    Args:
        rows: ``(m, N)`` row numbers of the items.

    Returns:
        ``(m N, m N)`` boolean, for :func:`tuple_contrast`.
    """
    modalities, tuples = rows.shape
    same = rows[:, :, None] == rows[:, None, :]
    other = ~torch.eye(tuples, dtype=torch.bool, device=rows.device)
    pairs = (same[:, None] | same[None, :]) & other  # (m, m, N, N)
    return pairs.permute(0, 2, 1, 3).reshape(modalities * tuples, modalities * tuples)
