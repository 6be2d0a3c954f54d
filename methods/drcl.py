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
  set to zero explicitly, the step counter of Adam advances as it does there (variant ``ce_start``: cross
  entropy, the limit, instead);
- a modality smaller than the batch is served whole (there: no step, then a failure);
- random streams are derived per seed, stage and modality, so that a modality's training does not depend on
  the others; the public code shares one global stream. The prior's start is the public one (seed 1000).
Kept on purpose: W is the one *after the last* SPL epoch although its score is a maximum over epochs (variant
``best_prior``), and the validation loss that selects the RSC epoch uses the current q (``fixed_selection``).
Validation loss as selection rule is per modality; a selection by retrieval across modalities is not offered,
because modalities train one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.core.config import Least, Positive, Share, Weight, Widths
from benchmark.core.data import Split
from benchmark.core.method import FitLog, RunContext
from benchmark.core.registry import method
from benchmark.training import Batch, Model, Params, Phase, RowSampler, Sampler, Select, Terms, train_phase

from .blocks.layers import UnitMLP
from .blocks.losses import generalized_cross_entropy, log_label_mass
from .blocks.prior import PriorConfig, PriorHost, SPLConfig


class DRCLConfig(PriorConfig):
    """Hyper-parameters, beside those of :class:`PriorConfig`: ``epochs`` are those of SPL and again of RSC.

    ``prior="orthogonal"`` is ablation 1.

    Attributes:
        hidden: Widths of the encoder's hidden layers.
        lr_spl: Learning rate of SPL.
        lr: Learning rate of RSC per modality; ``default`` for those not named. 0 means: try every value of
            ``lr_grid`` and keep the one with the largest label mass on the validation rows.
        lr_grid: Learning rates tried where ``lr`` is 0.
        alpha, beta, eta: Weights of J_D, J_MSE and J_L.
        mix: Share lambda of a row's own features and labels in FA; 1 switches FA off.
        mixup: Where FA mixes: ``embedding`` (the paper) or ``input`` (ablation 11).
        recast: ``pinv`` (eq. 4) or ``transpose`` (W^T in its place; ablation 9, deduced).
        q_step: q grows by this much per epoch, up to 1.
        q_fixed: Fixed q of RSC (ablations 5 to 8); negative for the schedule.
        spl_q0: Epoch 0 of SPL: ``skip`` (no movement, as in the public code) or ``ce`` (cross entropy).
        spl_snapshot: Prior after the ``last`` epoch or of the ``best`` score.
        select: RSC epoch kept: smallest validation ``loss`` with the current q, ``loss_q1`` (q = 1
            throughout), or the ``last``.
    """

    hidden: Widths
    lr_spl: Weight
    lr: Mapping[str, Weight]
    lr_grid: Annotated[tuple[Positive, ...], Least(1)]
    alpha: Weight
    beta: Weight
    eta: Weight
    mix: Share
    mixup: Literal["embedding", "input"]
    recast: Literal["pinv", "transpose"]
    q_step: Weight
    q_fixed: float
    spl_q0: Literal["skip", "ce"]
    spl_snapshot: Literal["last", "best"]
    select: Literal["loss", "loss_q1", "last"]


def augment(x: Tensor, order: Tensor, share: float) -> Tensor:
    """FA (eq. 3): ``share x + (1 - share) x[order]``; the result is not normalised again."""
    return x if share == 1 else share * x + (1 - share) * x.index_select(0, order)


def similarities(a: Tensor, b: Tensor) -> Tensor:
    """``2 cos(a_i, b_j)`` as ``(n_a, n_b)``, the product of the norms at least 1e-6 (eq. 6)."""
    norms = torch.linalg.vector_norm(a, dim=1)[:, None] * torch.linalg.vector_norm(b, dim=1)[None, :]
    found: Tensor = 2 * (a @ b.T) / norms.clamp_min(1e-6)
    return found


def discrepancy(recast: Tensor, features: Tensor) -> Tensor:
    """J_D (eq. 6): similarities among recast features, among features, and across, made equal."""
    within = similarities(recast, recast) - similarities(features, features)
    across = similarities(recast, features)
    return within.square().mean() + (across - across.T).square().mean()


def objective_terms(
    features: Tensor, labels: Tensor, prior: Tensor, recast_map: Tensor, q: Tensor, config: DRCLConfig
) -> Terms:
    """All terms of eq. 8 for features ``(B, d)`` and labels ``(B, C)`` that are already mixed.

    Args:
        features: As the encoder and FA left them.
        labels: Mixed alike.
        prior: W, ``(d, C)``.
        recast_map: ``(C, d)``: the pseudo-inverse of W (or its transpose).
        q: Hardness, 0-dimensional.
        config: Weights.
    """
    recast = labels @ recast_map
    label = generalized_cross_entropy(features @ prior, labels, q)
    pairs = discrepancy(recast, features)
    distance = (recast - features).square().mean()
    return {
        "total": config.eta * label + config.alpha * pairs + config.beta * distance,
        "label": label,
        "discrepancy": pairs,
        "mse": distance,
    }


def q_rsc(epoch: int, step: float) -> float:
    """Hardness of RSC in a 0-based epoch: one step ahead of SPL's."""
    return min(1.0, step * (epoch + 1))


def recast_matrix(prior: Tensor, kind: str) -> Tensor:
    """The map from labels to features in MRR, ``(R, C, d)`` for priors ``(R, d, C)``; taken in float64."""
    wide = prior.double()
    return (torch.linalg.pinv(wide) if kind == "pinv" else wide.mT).to(prior.dtype)


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
class DRCL(PriorHost):
    """Selective prior learning, then reversible semantic consistency."""

    Config = DRCLConfig
    config: DRCLConfig
    stage = "rsc"
    best = Select("min", "total")

    def spl(self) -> SPLConfig:
        """Stage 1 shares what it can with stage 2."""
        config = self.config
        same = {name: getattr(config, name) for name in ("hidden", "epochs", "batch", "betas", "q_step")}
        return SPLConfig(
            **same, lr=config.lr_spl, q0=config.spl_q0, snapshot=config.spl_snapshot, seed=config.prior_seed
        )

    def shared(self, train: Split, run: RunContext, log: FitLog) -> Params:
        """The prior, and the map that recasts labels."""
        found = super().shared(train, run, log)
        return {**found, "recast": recast_matrix(found["prior"], self.config.recast)}

    def network(self, train: Split, modality: str) -> UnitMLP:
        """A fresh encoder."""
        return UnitMLP(train[modality].dim, self.config.hidden, self.config.dim)

    def sampler(self, x: Tensor, y: Tensor, modality: str) -> RowSampler:
        """Rows, with the in-batch permutation that FA mixes by."""
        return RowSampler(x, y, self.config.batch, name=modality, shuffles=("mix",))

    def phase(self, net: nn.Module, sampler: Sampler, held: tuple[Tensor, Tensor], modality: str) -> Phase:
        """RSC of one modality."""
        config = self.config

        def schedule(epoch: int) -> dict[str, float]:
            return {"q": config.q_fixed if config.q_fixed >= 0 else q_rsc(epoch, config.q_step)}

        return replace(super().phase(net, sampler, held, modality), schedule=schedule)

    def loss(self, model: Model, batch: Batch) -> Terms:
        """J of one batch."""
        config, (x, y), order, now = self.config, batch.alone, batch.extra["mix"], batch.now
        features = model(augment(x, order, config.mix) if config.mixup == "input" else x)
        if config.mixup == "embedding":
            features = augment(features, order, config.mix)
        labels = augment(y, order, config.mix)
        return objective_terms(features, labels, now["prior"], now["recast"], now["q"], config)

    def validation(self, held: tuple[Tensor, Tensor], model: Model, now: Params) -> Terms:
        """J without FA, and the label mass."""
        features, labels = model(held[0]), held[1]
        q = torch.ones_like(now["q"]) if self.config.select == "loss_q1" else now["q"]
        terms = objective_terms(features, labels, now["prior"], now["recast"], q, self.config)
        return {**terms, "quality": log_label_mass(features @ now["prior"], labels).exp().mean()}

    def embed(self, model: Model, x: Tensor) -> Tensor:
        """The unit rows f."""
        f: Tensor = model(x)
        return f

    def trained(self, phase: Phase, start: Params, run: RunContext, log: FitLog) -> Params:
        """The trained encoder; where no learning rate is known, that of the best of the grid per seed."""
        modality = phase.name.removeprefix(f"{self.stage}/")
        if self.rate(modality) > 0:
            return super().trained(phase, start, run, log)
        (objective,) = phase.objectives
        tried = []
        for rate in self.config.lr_grid:
            moved = replace(objective, optimizer=replace(objective.optimizer, lr=rate))
            named = replace(phase, name=f"{phase.name}/lr={rate:g}", stream=phase.name, objectives=(moved,))
            tried.append(train_phase(named, start, run, log))
        quality = [[done.history["val/quality"][e][r] for r, e in enumerate(done.epochs)] for done in tried]
        best = np.argmax(quality, axis=0).tolist()
        log.notes.setdefault("tuned_lr", {})[modality] = [self.config.lr_grid[b] for b in best]
        return {n: torch.stack([tried[b].params[n][r] for r, b in enumerate(best)]) for n in start}
