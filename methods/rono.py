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

Kept on purpose: the learning rate of the networks is constant (the public schedule reaches the centres alone,
``decay_networks``), the factor (C+1)/C, rows of the same class as negatives in MG, and centres that hardly
move at the published rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice, derive_seed
from benchmark.core.registry import method
from benchmark.training.samplers import Batch, TupleSampler
from benchmark.training.train import (
    SGD,
    Adam,
    Group,
    Objective,
    Params,
    Phase,
    Select,
    Terms,
    build_replicas,
    train_phase,
)

from .blocks.joint import joint_retrievers, select_by_map
from .blocks.layers import unit_rows
from .blocks.two_branch import TwoBranch, encoder_embed


@dataclass(frozen=True)
class RONOConfig:
    """Hyper-parameters; defaults are the constants of the 3D-MNIST script.

    Attributes:
        hidden: Width of the hidden layers.
        dim: Width D of the common space.
        share_last: Whether the modalities share the last layer of the encoder.
        epochs: Epochs.
        updates: At least as many updates: more epochs where these are short.
        batch: Pairs per batch.
        optimizer: ``adam``, or ``sgd`` with momentum on the networks and none on the centres.
        lr: Learning rate per modality's own layers; ``default`` for those not named, and for shared layers.
        lr_centers: Learning rate of the centres.
        betas: Adam's decay rates.
        momentum: Of ``sgd``.
        weight_decay: On networks and head.
        decay_every: After so many updates the learning rate of the centres falls to a tenth.
        decay_networks: Whether that of networks and head does, too.
        rdc: ``ramp``, or ``warm`` for v = 0 throughout.
        ramp: Share of the epochs over which v rises.
        ramp_updates: At least as many updates long.
        rho: Border between rows that count as correctly and as wrongly labelled.
        a1: Scale of the first half of RDC.
        a2: Scale of the second half.
        kappa: Scale of CRC.
        tau: Temperature of MG.
        w_ce: Weight of CRC.
        w_c: Weight of RDC.
        w_mg: Weight of MG.
        select: Epoch kept: best validation ``map``, or the ``last``.
    """

    hidden: int = 2048
    dim: int = 1024
    share_last: bool = True
    epochs: int = 120
    updates: int = 0
    batch: int = 128
    optimizer: str = "adam"
    lr: Mapping[str, float] = field(default_factory=lambda: {"image": 5e-5, "default": 1e-4})
    lr_centers: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    weight_decay: float = 1e-5
    decay_every: int = 600
    decay_networks: bool = False
    rdc: str = "ramp"
    ramp: float = 0.5
    ramp_updates: int = 0
    rho: float = 0.3
    a1: float = 0.05
    a2: float = 0.05
    kappa: float = 5.0
    tau: float = 0.22
    w_ce: float = 1.0
    w_c: float = 1.0
    w_mg: float = 1.0
    select: str = "map"

    def __post_init__(self) -> None:
        choice("optimizer", self.optimizer, ("adam", "sgd"))
        choice("rdc", self.rdc, ("ramp", "warm"))
        choice("select", self.select, ("map", "last"))
        if self.dim < 2 or min(self.hidden, self.epochs, self.batch, self.decay_every) < 1:
            raise ValueError("hidden, epochs, batch and decay_every must be positive, and dim at least 2")
        if min(self.a1, self.a2, self.tau) <= 0:
            raise ValueError("a1, a2 and tau must be positive")
        if min(self.updates, self.ramp_updates, self.ramp, self.lr_centers) < 0:
            raise ValueError("updates, ramp, ramp_updates and lr_centers must not be negative")
        if "default" not in self.lr or min(self.lr.values()) < 0:
            raise ValueError(f"lr must name a default and no negative rate, got {dict(self.lr)}")


class RONONet(nn.Module):
    """Encoder, head and centres.

    Args:
        widths: Feature width of both modalities.
        config: Widths.
        classes: Number of classes.
    """

    def __init__(self, widths: Mapping[str, int], config: RONOConfig, classes: int) -> None:
        super().__init__()
        d = config.dim
        self.encoder = TwoBranch(widths, config.hidden, d, share_last=config.share_last)
        self.head = nn.Sequential(nn.Linear(d, d // 2), nn.ReLU(), nn.Linear(d // 2, classes))
        self.centers = nn.Parameter(torch.randn(classes, d))

    def forward(self, rows: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """``(B, D)`` features of every modality to ``(B, d)`` embeddings and ``(B, C)`` logits."""
        return {name: (h, self.head(h)) for name, h in self.encoder(rows).items()}


def center_cosines(rows: Tensor, labels: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cosine s to all centres and cosine q to the centre of the label, ``(N,)`` each.

    Args:
        rows: ``(N, d)``.
        labels: ``(N, C)`` one-hot.
        centers: ``(C, d)``, of any length.
    """
    cosines = unit_rows(rows) @ unit_rows(centers).mT
    return cosines.mean(dim=-1), (cosines * labels).sum(dim=-1)


def center_loss(s: Tensor, q: Tensor, classes: int, v: Tensor, config: RONOConfig) -> Tensor:
    """RDC.

    Args:
        s: ``(N,)``, see :func:`center_cosines`.
        q: ``(N,)``.
        classes: C.
        v: Position on the ramp, 0-dimensional in 0..1.
        config: Border and scales.
    """
    warm = (s.exp() - ((classes + 1) / classes * q).exp()).mean() / config.a1
    robust = -(s.exp() - q.exp() + config.rho).abs().mean() / config.a2
    return (1 - v) * warm + v * robust


def label_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``1 - p`` with p the softmax mass on the label; ``(B, C)`` logits, ``(B, C)`` one-hot."""
    return 1 - (logits.softmax(dim=-1) * labels).sum(dim=-1).mean()


def modality_gap(u: Tensor, v: Tensor, tau: float) -> Tensor:
    """MG: twice NT-Xent with the pairs ``(u_i, v_i)`` as positives and all other rows as negatives.

    Args:
        u: ``(n, d)``.
        v: ``(n, d)``.
        tau: Temperature.
    """
    rows = unit_rows(torch.cat([u, v]))
    scores = rows @ rows.mT / tau
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    everyone = torch.where(own, -torch.inf, scores).logsumexp(dim=-1)
    partner = scores.diagonal(offset=len(u)).mean()  # the same seen from either side
    return 2 * (everyone.mean() - partner)


def objective_terms(
    common: tuple[Tensor, Tensor],
    logits: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor],
    centers: Tensor,
    v: Tensor,
    config: RONOConfig,
) -> Terms:
    """All terms of L, and the share of rows that count as wrongly labelled.

    Args:
        common: Embeddings of both modalities, ``(n, d)``.
        logits: Outputs of the head, ``(n, C)``.
        labels: One-hot ``(n, C)``; they differ only where labels are noisy.
        centers: ``(C, d)``.
        v: Position on the ramp, 0-dimensional.
        config: Weights and constants.
    """
    s, q = center_cosines(torch.cat(common), torch.cat(labels), centers)
    rdc = center_loss(s, q, len(centers), v, config)
    crc = config.kappa * (label_error(logits[0], labels[0]) + label_error(logits[1], labels[1]))
    mg = modality_gap(*common, config.tau)
    return {
        "total": config.w_ce * crc + config.w_c * rdc + config.w_mg * mg,
        "rdc": rdc,
        "crc": crc,
        "mg": mg,
        "noisy": (q.exp() - s.exp() < config.rho).to(q.dtype).mean(),
        "own_cosine": q.mean(),
    }


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


def rono_objective(config: RONOConfig, names: tuple[str, str], loss: Callable[..., Terms]) -> Objective:
    """The loss with the optimisers of networks, head and centres."""

    def settings(lr: float) -> Adam | SGD:
        if config.optimizer == "adam":
            return Adam(lr, config.betas, weight_decay=config.weight_decay)
        return SGD(lr, config.momentum, config.weight_decay)

    def decay(epoch: int, update: int) -> float:  # noqa: ARG001 - by updates alone
        return center_factor(update, config.decay_every)

    rate = config.lr_centers
    of_centers = Adam(rate, config.betas) if config.optimizer == "adam" else SGD(rate)
    slow = decay if config.decay_networks else None
    own = [
        Group(_own_layers(place, config.share_last), settings(config.lr[name]), slow)
        for place, name in enumerate(names)
        if name in config.lr
    ]
    groups = (Group(("centers",), of_centers, decay), *own)
    return Objective(loss, settings(config.lr["default"]), groups=groups, factor=slow)


def _own_layers(place: int, share_last: bool) -> tuple[str, ...]:
    """Prefixes of the parameters that one modality has alone."""
    layers = ("branches",) if share_last else ("branches", "common")
    return tuple(f"encoder.{layer}.{place}." for layer in layers)


def rono_phase(
    config: RONOConfig,
    net: RONONet,
    sampler: TupleSampler,
    validate: Callable[[Params, Params], Terms],
    start: Params,
) -> Phase:
    """Training of all layers and centres.

    Args:
        config: Hyper-parameters.
        net: Weightless template.
        sampler: Pairs.
        validate: Gives ``map``.
        start: Initial parameters, stacked.
    """
    first, second = names = net.encoder.names
    steps = len(sampler.sizes)
    epochs = max(config.epochs, math.ceil(config.updates / steps))
    length = max(round(config.ramp * epochs), math.ceil(config.ramp_updates / steps))

    def loss(params: Params, batch: Batch, now: Params) -> Terms:
        found = functional_call(net, params, ({name: batch[f"x/{name}"] for name in names},))
        common, logits = zip(found[first], found[second], strict=True)
        labels = batch[f"y/{first}"], batch[f"y/{second}"]
        return objective_terms(common, logits, labels, params["centers"], now["v"], config)

    def watched(params: Params, now: Params) -> Terms:
        return {**validate(params, now), "rotation": rotation(params["centers"], now["start"])}

    return Phase(
        name="rono",
        epochs=epochs,
        sampler=sampler,
        objectives=(rono_objective(config, names, loss),),
        constants={"start": start["centers"]},
        schedule=lambda epoch: {"v": 0.0 if config.rdc == "warm" else ramp_position(epoch, length)},
        validate=watched,
        select=Select("last") if config.select == "last" else Select("max", "map"),
        keep=("encoder.",),
    )


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
class RONO(Method):
    """Class centres that reject rows, a robust head, contrast between the modalities."""

    Config = RONOConfig
    config: RONOConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        return {"hidden": 16, "dim": 12, "epochs": 4, "batch": 16, "lr": {"default": 1e-3}}

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring."""
        config = self.config
        widths = {m.name: m.dim for m in train}
        net, start = build_replicas(
            lambda: RONONet(widths, config, train.classes),
            [derive_seed(seed, "rono", "weights") for seed in run.seeds],
            run,
        )
        embed = encoder_embed(net.encoder)
        sampler = TupleSampler(train, run, config.batch)
        phase = rono_phase(config, net, sampler, select_by_map(embed, val, run), start)
        return joint_retrievers(embed, train_phase(phase, start, run).params)
