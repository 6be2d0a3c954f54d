"""The terms of ACMR (methods/acmr.py), as functions of one replica's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .blocks.layers import unit_rows
from .blocks.losses import cross_entropy

if TYPE_CHECKING:
    from .acmr import ACMRConfig


def norm(x: Tensor, dim: int | None = None) -> Tensor:
    """L2 norm, with gradient 0 where it is 0."""
    squares = (x * x).sum() if dim is None else (x * x).sum(dim)
    return torch.where(squares > 0, squares, 1.0).sqrt() * (squares > 0)


def reverse(x: Tensor, coefficient: Tensor) -> Tensor:
    """``x``, whose gradient is multiplied by ``-coefficient``."""
    return x.detach() - coefficient * (x - x.detach())


def differ(a: Tensor, b: Tensor) -> Tensor:
    """``(n, m)`` boolean: label rows ``(n, C)`` and ``(m, C)`` share no class."""
    return a @ b.mT == 0


def label_loss(logits: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """L_lab from the logits ``(n, C)`` and label rows ``(n, C)`` of both modalities."""
    return cross_entropy(logits[0], labels[0]) + cross_entropy(logits[1], labels[1])


def domain_loss(image: Tensor, text: Tensor) -> Tensor:
    """L_dom from the logits of D, ``(n, 2)`` each; column 1 stands for images."""
    return -(image.log_softmax(dim=-1)[:, 1].mean() + text.log_softmax(dim=-1)[:, 0].mean())


def dissimilarity(v: Tensor, w: Tensor, different: Tensor, margin: float, true_distance: bool) -> Tensor:
    """``(1/n^2) sum_ij max(0, m - [classes differ] D_ij)``; pairs of one class add the margin, a constant.

    Args:
        v: ``(n, d)``.
        w: ``(n, d)``.
        different: ``(n, n)`` boolean.
        margin: m.
        true_distance: Whether D_ij is the squared distance.
    """
    if true_distance:
        distance = (v * v).sum(1)[:, None] + (w * w).sum(1)[None, :] - 2 * v @ w.mT
    else:
        distance = v.sum(1)[:, None] + w.sum(1)[None, :] - v @ w.mT
    return (margin - torch.where(different, distance, 0.0)).relu().mean()


def hardest(x: Tensor, different: Tensor) -> tuple[Tensor, Tensor]:
    """For every row the most similar one of another class, by the cosine of features.

    Args:
        x: ``(n, D)``.
        different: ``(n, n)`` boolean.

    Returns:
        Row numbers ``(n,)``, and 1 or 0 ``(n,)``: whether there is such a row.
    """
    unit = unit_rows(x)
    cosines = torch.where(different, unit @ unit.mT, -torch.inf)
    return cosines.argmax(dim=1), different.any(dim=1).to(x.dtype)


def triplet_parts(v: Tensor, w: Tensor, negatives: Tensor, has: Tensor) -> tuple[Tensor, Tensor]:
    """Half the summed squared distances of ``v_i`` to its partner and to its negative, both 0-dimensional.

    Args:
        v: Anchors ``(n, d)``.
        w: Of the other modality, ``(n, d)``.
        negatives: Row numbers in ``w``, ``(n,)``.
        has: ``(n,)``, 0 for anchors to leave out.
    """
    positive = ((v - w) ** 2).sum(1)
    negative = ((v - w[negatives]) ** 2).sum(1)
    return (positive * has).sum() / 2, (negative * has).sum() / 2


def triplet(v: Tensor, w: Tensor, negatives: Tensor, has: Tensor, margin: float, weight: float) -> Tensor:
    """One hinge of the batch, ``max(0, m + s P - N)``; 0 if no anchor has a negative."""
    positive, negative = triplet_parts(v, w, negatives, has)
    return (margin + weight * positive - negative).relu() * (has.sum() > 0)


def push(v: Tensor, w: Tensor, negatives: Tensor, has: Tensor, margin: float) -> Tensor:
    """``sum_i max(0, m - ||v_i - w_negative(i)||)`` over anchors that have a negative."""
    return ((margin - norm(v - w[negatives], 1)).relu() * has).sum()


def embedding_terms(
    config: ACMRConfig,
    embedded: Sequence[Tensor],
    logits: Sequence[Tensor],
    features: Sequence[Tensor],
    labels: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> dict[str, Tensor]:
    """L_emb as ``embedding``, and its parts.

    Args:
        config: Hyper-parameters.
        embedded: v and w, ``(n, d)`` each.
        logits: Of the label classifier, ``(n, C)`` each.
        features: Raw, ``(n, D)`` each.
        labels: ``(n, C)`` each.
        weights: Matrices of the projectors.
    """
    v, w = embedded
    label = label_loss(logits, labels)
    different = differ(*labels)
    if config.embedding_loss == "contrastive":
        similar = norm(v - w)
        dissimilar = dissimilarity(v, w, different, config.margin, config.true_distance)
        rest = config.similar_weight * similar + config.dissimilar_weight * dissimilar
        parts = {"similar": similar, "dissimilar": dissimilar}
    else:
        to_text, to_image = hardest(features[0], different), hardest(features[1], different.mT)
        if config.embedding_loss == "triplet":
            m, s = config.margin, config.positive_weight
            rest = triplet(v, w, *to_text, m, s) + triplet(w, v, *to_image, m, s)
            parts = {"triplet": rest}
        else:
            similar = 2 * norm(v - w, 1).sum()
            dissimilar = push(v, w, *to_text, config.margin) + push(w, v, *to_image, config.margin)
            size = torch.stack([norm(each) for each in weights]).sum()
            rest = config.similar_weight * (similar + config.dissimilar_weight * dissimilar)
            rest = rest + config.decay * size
            parts = {"similar": similar, "dissimilar": dissimilar, "weights": size}
    return {"embedding": config.label_weight * label + rest, "label": label, **parts}
