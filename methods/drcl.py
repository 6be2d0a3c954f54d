"""DRCL: Deep Reversible Consistency Learning for Cross-modal Retrieval.

R. Pu, Y. Qin, D. Peng, X. Song, H. Zheng, IEEE Transactions on Multimedia, 2025 (arXiv 2501.05686).
Public code: perquisite/DRCL@91910a04.

Stage 1, selective prior learning (SPL): on every modality alone, an encoder and a prior W (d x C) minimise
the generalised cross entropy J_L of the logits f W with a hardness q that grows with the epoch (eq. 1). The
prior of the modality with the largest quality score (eq. 2, mean label mass over all training rows) wins.
Stage 2, reversible semantic consistency (RSC): W is frozen and every modality trains a fresh encoder on

    J = eta J_L + alpha J_D + beta J_MSE                                                        (eq. 8)

with mixed features and labels (FA, eq. 3), labels recast through the Moore-Penrose inverse of W as targets
(MRR, eq. 4), the distance J_MSE to them (eq. 5) and their pairwise similarities J_D (eq. 6).

Where this differs from the public code, by default:
- epoch 0 of SPL has q = 0, whose loss is 0/0 there while its gradient is exactly zero; here the gradient is
  set to zero explicitly (``spl_q0="skip"``), the step counter of Adam advances as it does there;
- a modality smaller than the batch is served whole (there: no step, then a failure);
- random streams are derived per seed, stage and modality, so that a modality's training does not depend on
  the others; the public code shares one global stream. The prior's start is the public one (seed 1000).
Kept on purpose: W is the one *after the last* SPL epoch although its score is a maximum over epochs
(``spl_snapshot``), and the validation loss that selects the RSC epoch uses the current q (``select``).
Validation loss as selection rule is per modality; a selection by retrieval across modalities is not offered,
because modalities train one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice, derive_seed
from benchmark.core.registry import method
from benchmark.errors import UnsupportedError
from benchmark.training.samplers import Batch, RowSampler
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

from .blocks.joint import split_tensors
from .blocks.layers import UnitMLP
from .blocks.losses import generalized_cross_entropy, log_label_mass
from .blocks.prior import SCALES, SPLConfig, check_source, make_prior, scale_prior
from .blocks.retrievers import one_per_replica


@dataclass(frozen=True)
class DRCLConfig:
    """Hyper-parameters; defaults are the publication's for Wikipedia.

    Attributes:
        hidden: Widths of the encoder's hidden layers.
        dim: Embedding width d.
        epochs: Epochs of SPL and of RSC, per modality.
        batch: Batch size; a smaller modality is served whole.
        lr_spl: Learning rate of SPL.
        lr: Learning rate of RSC per modality; ``default`` for those not named. 0 means: try every value of
            ``lr_grid`` and keep the one with the largest label mass on the validation rows.
        lr_grid: Learning rates tried where ``lr`` is 0.
        betas: Adam's decay rates.
        alpha, beta, eta: Weights of J_D, J_MSE and J_L.
        mix: Share lambda of a row's own features and labels in FA; 1 switches FA off.
        mixup: Where FA mixes: ``embedding`` (the paper) or ``input`` (ablation 11).
        recast: ``pinv`` (eq. 4) or ``transpose`` (W^T in its place; ablation 9, deduced).
        q_step: q grows by this much per epoch, up to 1.
        q_fixed: Fixed q of RSC (ablations 5 to 8); negative for the schedule.
        prior: Where W comes from, see ``methods/prior.py``; ``orthogonal`` is ablation 1.
        prior_scale: Lengths of its columns: ``none`` (as they are), ``unit``, ``mean`` or ``polar``.
        spl_q0: Epoch 0 of SPL: ``skip`` (no movement, as in the public code) or ``ce`` (cross entropy).
        spl_snapshot: Prior after the ``last`` epoch or of the ``best`` score.
        score_split: Rows of the quality score: ``train`` (the paper) or ``val``.
        select: RSC epoch kept: smallest validation ``loss`` with the current q, ``loss_q1`` (q = 1
            throughout), or the ``last``.
        keep_remainder: Whether the last, smaller batch of an epoch is served.
        prior_seed: Seed of the prior's random orthogonal start, the same for all seeds of a run.
    """

    hidden: tuple[int, ...] = (4096, 4096)
    dim: int = 2048
    epochs: int = 200
    batch: int = 1024
    lr_spl: float = 5e-4
    lr: Mapping[str, float] = field(default_factory=lambda: {"image": 6e-6, "text": 5e-3, "default": 0.0})
    lr_grid: tuple[float, ...] = (6e-6, 5e-5, 4e-4, 3e-3)
    betas: tuple[float, float] = (0.5, 0.999)
    alpha: float = 0.1
    beta: float = 0.1
    eta: float = 1.0
    mix: float = 0.9
    mixup: str = "embedding"
    recast: str = "pinv"
    q_step: float = 0.01
    q_fixed: float = -1.0
    prior: str = "selected"
    prior_scale: str = "none"
    spl_q0: str = "skip"
    spl_snapshot: str = "last"
    score_split: str = "train"
    select: str = "loss"
    keep_remainder: bool = False
    prior_seed: int = 1000

    def __post_init__(self) -> None:
        choice("mixup", self.mixup, ("embedding", "input"))
        choice("recast", self.recast, ("pinv", "transpose"))
        check_source(self.prior)
        choice("prior_scale", self.prior_scale, SCALES)
        choice("select", self.select, ("loss", "loss_q1", "last"))
        if self.epochs < 1 or self.batch < 1 or self.dim < 1 or min(self.hidden, default=1) < 1:
            raise ValueError("epochs, batch, dim and hidden must be positive")
        if not 0 <= self.mix <= 1:
            raise ValueError(f"mix must lie in 0..1, got {self.mix}")
        if any(rate < 0 for rate in (self.lr_spl, *self.lr.values(), *self.lr_grid)):
            raise ValueError("learning rates must not be negative")
        if not self.lr_grid and 0 in self.lr.values():
            raise ValueError("lr is 0 (search) but lr_grid is empty")
        self.spl()

    def spl(self) -> SPLConfig:
        """The part that concerns stage 1."""
        return SPLConfig(
            hidden=self.hidden,
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr_spl,
            betas=self.betas,
            q_step=self.q_step,
            q0=self.spl_q0,
            snapshot=self.spl_snapshot,
            score_split=self.score_split,
            keep_remainder=self.keep_remainder,
            seed=self.prior_seed,
        )


# The losses, as functions of one replica.


def augment(x: Tensor, order: Tensor, share: float) -> Tensor:
    """FA (eq. 3): ``share x + (1 - share) x[order]``; the result is not normalised again."""
    return x if share == 1 else share * x + (1 - share) * x.index_select(0, order)


def similarities(a: Tensor, b: Tensor) -> Tensor:
    """``2 cos(a_i, b_j)`` as ``(n_a, n_b)``, the product of the norms at least 1e-6 (eq. 6)."""
    norms = torch.linalg.vector_norm(a, dim=1)[:, None] * torch.linalg.vector_norm(b, dim=1)[None, :]
    return 2 * (a @ b.T) / norms.clamp_min(1e-6)


def discrepancy(recast: Tensor, features: Tensor) -> Tensor:
    """J_D (eq. 6): similarities among recast features, among features, and across, made equal."""
    within = similarities(recast, recast) - similarities(features, features)
    across = similarities(recast, features)
    return within.square().mean() + (across - across.T).square().mean()


def objective_terms(
    features: Tensor,
    labels: Tensor,
    prior: Tensor,
    recast_map: Tensor,
    q: Tensor,
    weights: tuple[Any, Any, Any],
) -> Terms:
    """All terms of eq. 8 for features ``(B, d)`` and labels ``(B, C)`` that are already mixed.

    Args:
        features: As the encoder and FA left them.
        labels: Mixed alike.
        prior: W, ``(d, C)``.
        recast_map: ``(C, d)``: the pseudo-inverse of W (or its transpose).
        q: Hardness, 0-dimensional.
        weights: eta, alpha, beta.
    """
    eta, alpha, beta = weights
    recast = labels @ recast_map
    label = generalized_cross_entropy(features @ prior, labels, q)
    pairs = discrepancy(recast, features)
    distance = (recast - features).square().mean()
    return {
        "total": eta * label + alpha * pairs + beta * distance,
        "label": label,
        "discrepancy": pairs,
        "mse": distance,
    }


def q_rsc(epoch: int, step: float = 0.01) -> float:
    """Hardness of RSC in a 0-based epoch: one step ahead of SPL's."""
    return min(1.0, step * (epoch + 1))


def recast_matrix(prior: Tensor, kind: str) -> Tensor:
    """The map from labels to features in MRR, ``(R, C, d)`` for priors ``(R, d, C)``; taken in float64."""
    wide = prior.double()
    return (torch.linalg.pinv(wide) if kind == "pinv" else wide.mT).to(prior.dtype)


# The two stages, as phases of the training loop.


def rsc_phase(
    config: DRCLConfig,
    encoder: UnitMLP,
    sampler: RowSampler,
    held: tuple[Tensor, Tensor],
    prior: tuple[Tensor, Tensor],
    rate: float,
    run: Run,
) -> Phase:
    """Stage 2 on one modality: the encoder moves on eq. 8, the prior stays.

    Args:
        config: Hyper-parameters.
        encoder: Weightless template.
        sampler: Batches of the training rows, with the in-batch permutation ``mix``.
        held: Validation features and labels.
        prior: W ``(R, d, C)`` and its recast matrix ``(R, C, d)``.
        rate: Learning rate.
        run: Gives eta, alpha and beta of every replica.
    """

    def loss(params: Params, batch: Batch, now: Params) -> Terms:
        x, order = batch["x"], batch["mix"]
        inputs = augment(x, order, config.mix) if config.mixup == "input" else x
        features = functional_call(encoder, params, (inputs,))
        if config.mixup == "embedding":
            features = augment(features, order, config.mix)
        labels = augment(batch["y"], order, config.mix)
        return objective_terms(features, labels, now["prior"], now["recast"], now["q"], weights(now))

    def validate(params: Params, now: Params) -> Terms:
        features = functional_call(encoder, params, (held[0],))
        q = torch.ones_like(now["q"]) if config.select == "loss_q1" else now["q"]
        terms = objective_terms(features, held[1], now["prior"], now["recast"], q, weights(now))
        return {**terms, "quality": log_label_mass(features @ now["prior"], held[1]).exp().mean()}

    def weights(now: Params) -> tuple[Tensor, Tensor, Tensor]:
        return now["eta"], now["alpha"], now["beta"]

    def schedule(epoch: int) -> dict[str, float]:
        return {"q": config.q_fixed if config.q_fixed >= 0 else q_rsc(epoch, config.q_step)}

    def repeated(value: float) -> Tensor:
        return torch.full((len(run.seeds),), value, dtype=run.dtype, device=run.device)

    constants = {name: repeated(getattr(config, name)) for name in ("eta", "alpha", "beta")}
    return Phase(
        name="rsc",
        epochs=config.epochs,
        sampler=sampler,
        objectives=(Objective(loss, Adam(rate, config.betas)),),
        constants={"prior": prior[0], "recast": prior[1], **constants},
        schedule=schedule,
        validate=validate,
        select=Select("last" if config.select == "last" else "min"),
    )


@method(
    "drcl",
    title="DRCL",
    paper="Deep Reversible Consistency Learning for Cross-modal Retrieval",
    venue="TMM",
    year=2025,
    group="paired-free",
    modalities="many",
    version=1,
    doi="arXiv:2501.05686",
)
class DRCL(Method):
    """Selective prior learning, then reversible semantic consistency."""

    Config = DRCLConfig
    config: DRCLConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        return {"hidden": (16,), "dim": 16, "epochs": 4, "batch": 16, "q_step": 0.25, "lr": {"default": 1e-3}}

    def check(self, train: Split) -> None:
        """Also refuse an embedding narrower than the number of classes."""
        super().check(train)
        if train.classes > self.config.dim:
            raise UnsupportedError(
                f"drcl needs an embedding at least as wide as the {train.classes} classes, not "
                f"{self.config.dim}; --set dim={train.classes}"
            )

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring."""
        config = self.config
        prior = scale_prior(
            make_prior(config.prior, config.dim, train, val, run, config.spl()), config.prior_scale
        )
        inverse = recast_matrix(prior, self.config.recast)
        encoders: dict[str, UnitMLP] = {}
        params: dict[str, Params] = {}
        for name in train.names:
            encoders[name], params[name] = self._train_encoder(name, prior, inverse, train, val, run)
        return one_per_replica(encoders, params)

    def _encoder(self, split: Split, name: str, run: Run) -> tuple[UnitMLP, Params]:
        seeds = [derive_seed(seed, "rsc", name, "weights") for seed in run.seeds]
        return build_replicas(
            lambda: UnitMLP(split[name].dim, self.config.hidden, self.config.dim), seeds, run
        )

    def _train_encoder(
        self, name: str, prior: Tensor, inverse: Tensor, train: Split, val: Split, run: Run
    ) -> tuple[UnitMLP, Params]:
        """RSC of one modality; where no learning rate is known, the best of the grid per seed."""
        rate = self.config.lr.get(name, self.config.lr.get("default", 0.0))
        rates = (rate,) if rate > 0 else self.config.lr_grid
        encoder, params = self._encoder(train, name, run)
        x, y = split_tensors(train, name, run)
        sampler = RowSampler(
            x, y, self.config.batch, keep_remainder=self.config.keep_remainder, shuffles=("mix",)
        )
        held = split_tensors(val, name, run)
        runs = []
        for candidate in rates:
            label = f"rsc/{name}" if len(rates) == 1 else f"rsc/{name}/lr={candidate:g}"
            phase = rsc_phase(self.config, encoder, sampler, held, (prior, inverse), candidate, run)
            named = replace(phase, name=label, stream=f"rsc/{name}")
            runs.append(train_phase(named, params, run))
        if len(rates) == 1:
            return encoder, runs[0].params
        quality = [[done.history["val/quality"][e][r] for r, e in enumerate(done.epochs)] for done in runs]
        best = np.argmax(quality, axis=0).tolist()
        run.notes.setdefault("tuned_lr", {})[name] = [rates[b] for b in best]
        return encoder, {
            n: torch.stack([runs[b].params[n][r] for r, b in enumerate(best)]) for n in runs[0].params
        }
