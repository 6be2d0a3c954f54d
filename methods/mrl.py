"""MRL: Learning Cross-Modal Retrieval with Noisy Labels.

P. Hu, X. Peng, H. Zhu, L. Zhen, J. Lin, CVPR 2021, pp. 5403-5413. Public code: penghu-cs/MRL@e0f5c8f4.

An encoder per modality gives unit rows z, and all modalities share a matrix C (d x classes) whose columns are
brought back to unit length before every step. With p = softmax(C'z / tau):

    L = beta sum_v RC_v + (1 - beta) MC
    RC_v = mean over rows of log(1 - p_y)                              (robust clustering)
    MC   = 2 mean over the rows of all modalities of -log P            (multimodal contrast)

where P is the share of the rows of the same tuple in a row's exponential similarity to all other rows of the
batch. The learning rate falls along a cosine, one epoch late, as the code calls its schedule.

Where this differs from the public code:
- the full pass without an update that the code makes first is left out: it changes nothing;
- every validation and test row is used (the code leaves out what does not fill a batch and, where modalities
  differ in size, reads predictions at the wrong places), and validation labels are those of the files (the
  code shifts the labels of one modality only where they start at 1);
- selection on test data is not offered;
- rows without length do not divide by 0.

Kept on purpose: ``mc_form="code"``, which leaves a row itself out of its own contrast and weighs MC by 2 / m
of what the publication's formula gives for m modalities (``paper``, where tuples also contain the row
itself); items that repeated sampling puts into a batch several times are contrasted with each other
(``mc_mask_duplicates`` drops such pairs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice, derive_seed
from benchmark.core.registry import method
from benchmark.errors import UnsupportedError
from benchmark.training.optim import Factor
from benchmark.training.samplers import Batch, Sampler, TupleSampler
from benchmark.training.train import (
    Adam,
    Objective,
    Params,
    Phase,
    Select,
    Terms,
    build_replicas,
    train_phase,
)

from .blocks.joint import Embed, embed_by_encoder, joint_retrievers, select_by_map
from .blocks.layers import MLP, random_orthogonal
from .blocks.losses import cross_entropy, repeated_pairs, robust_clustering, tuple_contrast


@dataclass(frozen=True)
class MRLConfig:
    """Hyper-parameters; defaults are those of the public code's command for Wikipedia.

    Attributes:
        hidden: Widths of the hidden layers of every encoder.
        dim: Embedding width d.
        epochs: Passes over the training tuples.
        batch: Tuples per step; the remainder of an epoch is served too.
        lr: Learning rate at the start.
        lr_period: Epochs in which the cosine brings the learning rate to 0; 0: ``epochs``.
        betas: Adam's decay rates.
        tau: Temperature of both terms.
        beta: Weight of the clustering; the contrast has the rest to 1.
        clustering: ``robust``, or ``ce`` for a cross entropy in its place.
        mc_form: The contrast of the ``code`` or of the ``paper``.
        mc_mask_duplicates: Drop pairs of repeated items from the contrast.
        select: Epoch kept: the highest validation ``map``, or the ``last``.
    """

    hidden: tuple[int, ...] = (4096, 4096)
    dim: int = 512
    epochs: int = 30
    batch: int = 100
    lr: float = 1e-4
    lr_period: int = 0
    betas: tuple[float, float] = (0.5, 0.999)
    tau: float = 1.0
    beta: float = 0.7
    clustering: str = "robust"
    mc_form: str = "code"
    mc_mask_duplicates: bool = False
    select: str = "map"

    def __post_init__(self) -> None:
        choice("clustering", self.clustering, ("robust", "ce"))
        choice("mc_form", self.mc_form, ("code", "paper"))
        choice("select", self.select, ("map", "last"))
        if min(self.epochs, self.batch, self.dim, *self.hidden) < 1 or self.lr_period < 0:
            raise ValueError("epochs, batch, dim and hidden must be positive, lr_period not negative")
        if not 0 <= self.beta <= 1 or self.tau <= 0:
            raise ValueError("beta must lie in 0..1 and tau be positive")


class Encoders(nn.Module):
    """One encoder to unit rows per modality, all of the same build."""

    def __init__(self, widths: Sequence[int], hidden: Sequence[int], d: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(MLP(width, hidden, d, unit=True) for width in widths)


def start_joint(train: Split, hidden: Sequence[int], d: int, run: Run, stream: str) -> tuple[Embed, Params]:
    """How modalities are embedded, and initial parameters stacked ``(R, ...)``: encoders, and C ``classes``.

    C starts as the first columns of a random orthogonal matrix.
    """
    seeds = [derive_seed(seed, stream, "weights") for seed in run.seeds]
    net, start = build_replicas(lambda: Encoders([m.dim for m in train], hidden, d), seeds, run)
    classes = [random_orthogonal(d, train.classes, derive_seed(s, stream, "classes")) for s in run.seeds]
    start["classes"] = torch.stack(classes).to(run.device, run.dtype)
    return embed_by_encoder(net.encoders, train.names), start


def check_width(name: str, train: Split, d: int) -> None:
    """Raise ``UnsupportedError`` for more classes than orthogonal columns of length ``d``."""
    if train.classes > d:
        raise UnsupportedError(
            f"{name} needs an embedding at least as wide as the {train.classes} classes, not {d}; "
            f"--set dim={train.classes}"
        )


def unit_classes(params: Params, now: Params) -> Params:  # noqa: ARG001 - a hook
    """C with columns of unit length, outside of the gradient."""
    return {"classes": normalize(params["classes"], dim=0, eps=1e-12)}


def late_cosine(period: int) -> Factor:
    """Half a cosine from 1 to 0 in ``period`` epochs; the second epoch still has the first's rate."""
    return lambda epoch, _: (1 + math.cos(math.pi * max(epoch - 1, 0) / period)) / 2


def stacked(batch: Batch, prefix: str, names: Sequence[str]) -> Tensor:
    """Entries ``<prefix>/<modality>`` of a batch as one tensor ``(m, N, ...)``."""
    return torch.stack([batch[f"{prefix}/{name}"] for name in names])


def objective_terms(
    z: Tensor, classes: Tensor, y: Tensor, config: MRLConfig, dropped: Tensor | None = None
) -> Terms:
    """All terms of L.

    Args:
        z: ``(m, N, d)`` unit rows.
        classes: C, ``(d, classes)`` with unit columns.
        y: ``(m, N, classes)`` one-hot.
        config: Hyper-parameters.
        dropped: Pairs that count nowhere in the contrast.
    """
    logits = z @ classes / config.tau
    if config.clustering == "robust":
        clustering = robust_clustering(logits, y).sum()
    else:
        clustering = torch.stack([cross_entropy(*each) for each in zip(logits, y, strict=True)]).sum()
    contrast = tuple_contrast(z, config.tau, form=config.mc_form, dropped=dropped)
    total = config.beta * clustering + (1 - config.beta) * contrast
    return {"total": total, "clustering": clustering, "contrast": contrast}


def joint_phase(config: MRLConfig, embed: Embed, names: Sequence[str], sampler: Sampler) -> Phase:
    """Training of all encoders and C, without a validation quantity yet."""

    def loss(params: Params, batch: Batch, now: Params) -> Terms:  # noqa: ARG001 - no constants
        z = torch.stack([embed(params, name, batch[f"x/{name}"]) for name in names])
        dropped = repeated_pairs(stacked(batch, "row", names)) if config.mc_mask_duplicates else None
        return objective_terms(z, params["classes"], stacked(batch, "y", names), config, dropped)

    adam = Adam(config.lr, config.betas)
    return Phase(
        name="mrl",
        epochs=config.epochs,
        sampler=sampler,
        objectives=(Objective(loss, adam, factor=late_cosine(config.lr_period or config.epochs)),),
        before=unit_classes,
        select=Select("last") if config.select == "last" else Select("max", "map"),
        keep=("encoders.", "classes"),
    )


@method(
    "mrl",
    title="MRL",
    paper="Learning cross-modal retrieval with noisy labels",
    venue="CVPR",
    year=2021,
    group="paired-oriented",
    modalities="many",
    multilabel=False,
    version=1,
    doi="10.1109/CVPR46437.2021.00536",
)
class MRL(Method):
    """Robust clustering around shared class directions, and a contrast of tuples."""

    Config = MRLConfig
    config: MRLConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        return {"hidden": (16, 16), "dim": 16, "epochs": 3, "batch": 12, "lr": 2e-3}

    def check(self, train: Split) -> None:
        """Also refuse an embedding narrower than the number of classes."""
        super().check(train)
        check_width("mrl", train, self.config.dim)

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring."""
        config = self.config
        embed, start = start_joint(train, config.hidden, config.dim, run, "mrl")
        phase = joint_phase(config, embed, train.names, TupleSampler(train, run, config.batch))
        phase = replace(phase, validate=select_by_map(embed, val, run))
        return joint_retrievers(embed, train_phase(phase, start, run).params)
