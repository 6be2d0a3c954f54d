"""Losses several methods share, as functions of one replica's tensors."""

from __future__ import annotations

import torch
from torch import Tensor


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
