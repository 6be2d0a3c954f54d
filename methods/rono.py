"""RONO: Robust Discriminative Learning with Noisy Labels for 2D-3D Cross-Modal Retrieval.

Y. Feng, H. Zhu, D. Peng, X. Peng, P. Hu, CVPR 2023, pp. 11610-11619. Public code: penghu-cs/RONO, two
branches with different constants: @0580fdf8 (3D-MNIST) and @978d9288 (ModelNet).

Both modalities are embedded by the network of DSCMR (the backbone of the DRCL paper's comparison); a head of
two layers classifies the embeddings. With C learned centres and all vectors at unit length, let q_i be the
cosine of row i to the centre of its label, s_i its mean cosine to all centres, and v the ramp from 0 to 1
over the first epochs. Over the N = 2n rows of n pairs,

    L     = w_ce CRC + w_c RDC + w_mg MG
    RDC   = (1 - v) mean_i [exp(s_i) - exp((C+1)/C q_i)] / a1  -  v mean_i |exp(s_i) - exp(q_i) + rho| / a2
    CRC   = kappa (mean_i (1 - p_i) of one modality + the same of the other), p_i the mass on the label
    MG    = 2 NT-Xent of the pairs at temperature tau, without labels

The second half of RDC draws a row towards its centre if exp(q) - exp(s) > rho and pushes it away otherwise:
such a row counts as wrongly labelled. The share of these rows is logged as ``noisy``. Correct labels can be
taken for wrong ones if the ramp rises before rows have come near their centres, all the more with many
classes; compare runs by that share. ``val/rotation`` is the mean angle, in degrees, by which the centres
have turned since the start.

Where this differs from the public code:
- features are vectors, and the network is that of DSCMR with D = 1024 (there: an image CNN and a point cloud
  network, D = 256, no layer shared before the head; see ``dim`` and ``share_last``);
- the kept epoch has the best mean MAP on validation rows (there: a checkpoint of fixed number, and no
  validation); the last batch of an epoch is left out if it is a single pair;
- the length of the ramp is a share of the epochs (the public ratios), and at least ``ramp_updates`` updates;
- a ramp of one epoch means v = 1 (there: a division by zero);
- RDC takes one product of rows and centres (there: all their differences in memory).

Kept on purpose: the learning rate of the networks is constant (the public schedule reaches the centres
alone), the factor (C+1)/C, rows of the same class as negatives in MG, and centres that hardly move at the
published rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from benchmark.core.config import Bounds, Count, Positive, Rates, Share, Weight, Whole
from benchmark.core.data import Split
from benchmark.core.method import RunContext
from benchmark.core.registry import method
from benchmark.training import SGD, Adam, Batch, Group, Model, Objective, Params, Phase, Sampler, Terms

from .blocks.base import Joint
from .blocks.config import TrainedConfig
from .blocks.joint import select_by_map
from .blocks.layers import unit_rows
from .blocks.two_branch import TwoBranch

Pair = tuple[Tensor, Tensor]  # of both modalities


class RONOConfig(TrainedConfig):
    """Hyper-parameters, beside those of :class:`TrainedConfig`.

    Attributes:
        hidden, dim: Widths of the hidden layers, and D of the common space.
        share_last: Whether the modalities share the last layer of the encoder.
        updates: Where ``epochs`` passes have fewer updates than this, there are more passes.
        optimizer: ``adam``, or ``sgd`` with momentum on the networks and none on the centres.
        lr: Learning rate per modality's own layers; ``default`` for those not named, and for shared layers.
        lr_centers: Learning rate of the centres.
        momentum: Of ``sgd``.
        weight_decay: On networks and head.
        decay_every: After so many updates the learning rate of the centres falls to a tenth.
        ramp: Share of the epochs over which v rises.
        ramp_updates: At least as many updates long.
        rho: Border between rows that count as correctly and as wrongly labelled.
        a1, a2: Scales of the first and of the second half of RDC.
        kappa: Scale of CRC.
        tau: Temperature of MG.
        w_ce, w_c, w_mg: Weights of CRC, RDC and MG.
        select: Epoch kept: the highest validation ``map``, or the ``last``.
    """

    hidden: Count
    dim: Annotated[int, Bounds(2)]
    share_last: bool
    updates: Whole
    optimizer: Literal["adam", "sgd"]
    lr: Rates
    lr_centers: Weight
    momentum: Share
    weight_decay: Weight
    decay_every: Count
    ramp: Weight
    ramp_updates: Whole
    rho: float
    a1: Positive
    a2: Positive
    kappa: Weight
    tau: Positive
    w_ce: Weight
    w_c: Weight
    w_mg: Weight
    select: Literal["map", "last"]


class RONONet(nn.Module):
    """Encoder, head and centres."""

    def __init__(self, widths: Mapping[str, int], config: RONOConfig, classes: int) -> None:
        super().__init__()
        d = config.dim
        self.encoder = TwoBranch(widths, config.hidden, d, share_last=config.share_last)
        self.head = nn.Sequential(nn.Linear(d, d // 2), nn.ReLU(), nn.Linear(d // 2, classes))
        self.centers = nn.Parameter(torch.randn(classes, d))


def center_cosines(rows: Tensor, labels: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines s and q, ``(N,)``, from rows ``(N, d)``, one-hot labels ``(N, C)`` and centres ``(C, d)``."""
    cosines = unit_rows(rows) @ unit_rows(centers).mT
    return cosines.mean(dim=-1), (cosines * labels).sum(dim=-1)


def center_loss(s: Tensor, q: Tensor, classes: int, v: Tensor, config: RONOConfig) -> Tensor:
    """RDC for s and q ``(N,)``, C classes, and 0-dimensional v."""
    warm = (s.exp() - ((classes + 1) / classes * q).exp()).mean() / config.a1
    robust = -(s.exp() - q.exp() + config.rho).abs().mean() / config.a2
    return (1 - v) * warm + v * robust


def label_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``1 - p`` with p the softmax mass on the label; ``(B, C)`` logits, ``(B, C)`` one-hot."""
    return 1 - (logits.softmax(dim=-1) * labels).sum(dim=-1).mean()


def modality_gap(u: Tensor, v: Tensor, tau: float) -> Tensor:
    """MG for ``(n, d)`` rows: ``(u_i, v_i)`` are positives, all other rows negatives."""
    rows = unit_rows(torch.cat([u, v]))
    scores = rows @ rows.mT / tau
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    everyone = torch.where(own, -torch.inf, scores).logsumexp(dim=-1)
    partner = scores.diagonal(offset=len(u)).mean()  # the same seen from either side
    return 2 * (everyone.mean() - partner)


def objective_terms(
    common: Pair, logits: Pair, labels: Pair, centers: Tensor, v: Tensor, config: RONOConfig
) -> Terms:
    """All terms of L, and the share of rows that count as wrongly labelled.

    ``common`` are the embeddings ``(n, d)``, ``logits`` the head's outputs and ``labels`` one-hot, ``(n, C)``
    (labels differ only where they are noisy); ``centers`` are ``(C, d)``, and ``v`` is 0-dimensional.
    """
    s, q = center_cosines(torch.cat(common), torch.cat(labels), centers)
    rdc = center_loss(s, q, len(centers), v, config)
    crc = config.kappa * (label_error(logits[0], labels[0]) + label_error(logits[1], labels[1]))
    mg = modality_gap(*common, config.tau)
    total = config.w_ce * crc + config.w_c * rdc + config.w_mg * mg
    noisy = (q.exp() - s.exp() < config.rho).to(q.dtype).mean()
    return {"total": total, "rdc": rdc, "crc": crc, "mg": mg, "noisy": noisy, "own_cosine": q.mean()}


def rotation(now: Tensor, start: Tensor) -> Tensor:
    """Mean angle between the rows of two ``(C, d)`` matrices, degrees."""
    a, b = unit_rows(now), unit_rows(start)
    chord = torch.linalg.vector_norm(a - b, dim=-1)  # exact for small angles, where a cosine is not
    return torch.rad2deg(2 * (chord / 2).clamp_max(1).asin()).mean()


def ramp_position(epoch: int, length: int) -> float:
    """The ramp v in a 0-based epoch: 0 in the first, 1 in the last of ``length`` epochs and after."""
    return min(epoch / (length - 1), 1.0) if length > 1 else 1.0


def center_factor(update: int, every: int) -> float:
    """Factor of the learning rate of a 0-based update: a tenth after updates 0..every, and so on."""
    return float(0.1 ** (max(update - 1, 0) // every))


@method(
    "rono",
    title="RONO",
    paper="RONO: Robust Discriminative Learning with Noisy Labels for 2D-3D Cross-Modal Retrieval",
    venue="CVPR",
    year=2023,
    group="paired-oriented",
    modalities="two",
    pairwise=True,
    multilabel=False,
    version=1,
    doi="10.1109/CVPR52729.2023.01117",
)
class RONO(Joint):
    """Class centres that reject rows, a robust head, contrast between the modalities."""

    Config = RONOConfig
    config: RONOConfig

    def network(self, train: Split) -> RONONet:
        """Encoder, head and centres."""
        return RONONet({m.name: m.dim for m in train}, self.config, train.classes)

    def constants(self, train: Split, start: Params, run: RunContext) -> Params:
        """The centres at the start."""
        del train, run
        return {"start": start["centers"]}

    def objectives(self, net: nn.Module) -> tuple[Objective, ...]:
        """L, with the optimisers of networks, head and centres."""
        assert isinstance(net, RONONet)
        config, rate = self.config, self.config.lr["default"]
        centers: Adam | SGD = Adam(config.lr_centers, config.betas)
        networks: Adam | SGD = Adam(rate, config.betas, weight_decay=config.weight_decay)
        if config.optimizer == "sgd":
            centers, networks = SGD(config.lr_centers), SGD(rate, config.momentum, config.weight_decay)
        parts = ("branches",) if config.share_last else ("branches", "common")
        own = [
            Group(tuple(f"encoder.{part}.{k}." for part in parts), replace(networks, lr=config.lr[name]))
            for k, name in enumerate(net.encoder.names)
            if name in config.lr
        ]
        slow = Group(("centers",), centers, lambda _, update: center_factor(update, config.decay_every))
        return (Objective(self.loss, networks, groups=(slow, *own)),)

    def phase(self, net: nn.Module, sampler: Sampler) -> Phase:
        """All training; epochs and ramp have their least numbers of updates."""
        config, steps, phase = self.config, len(sampler.sizes), super().phase(net, sampler)
        epochs = max(config.epochs, math.ceil(config.updates / steps))
        length = max(round(config.ramp * epochs), math.ceil(config.ramp_updates / steps))
        return replace(phase, epochs=epochs, schedule=lambda epoch: {"v": ramp_position(epoch, length)})

    def loss(self, model: Model, batch: Batch) -> Terms:
        """L of one batch."""
        u, v = model.encoder(batch.x).values()
        logits = model.head(u), model.head(v)
        y_u, y_v = batch.y.values()
        return objective_terms((u, v), logits, (y_u, y_v), model.centers, batch.now["v"], self.config)

    def validation(self, val: Split, run: RunContext) -> Callable[[Model, Params], Terms]:
        """``map``, and how far the centres have turned."""
        by_map = select_by_map(self.embed, val, run)

        def validate(model: Model, now: Params) -> Terms:
            return {**by_map(model, now), "rotation": rotation(model.centers, now["start"])}

        return validate

    def embed(self, model: Model, modality: str, x: Tensor) -> Tensor:
        """Of the common space."""
        found: Tensor = model.encoder({modality: x})[modality]
        return found
