"""ELRCMR: Early-Learning Regularized Contrastive Learning for Cross-Modal Retrieval with Noisy Labels.

T. Xu, X. Liu, Z. Huang, D. Guo, R. Hong, M. Wang, ACM MM 2022, pp. 629-637. Public code:
h10666/Early-Learning-regularized-Contrastive-Learning-for-Cross-Modal-Retrieval-with-Noisy-Labels@f5a2c13a.

MRL (``mrl.py``) with three additions. Every training item keeps a target t, a running average of the
class probabilities it was given (0.9 of the old, 0.1 of the new), to which a regulariser pulls it back; rows
of one modality with the same predicted class are contrasted with the others; the weight beta_t of all that
uses labels falls with the number of steps. With q the probabilities clipped to 1e-4 .. 1 - 1e-4,

    L = beta_t sum_v (RC_v + lama ELR_v)  +  (1 - beta_t) (zeta sum_v IN_v + MC)
    ELR_v  = mean over rows of log(1 - t'q)
    IN_v   = sum over rows i of 1 / (2 |R_i| - 1) sum_{j in R_i} -log(e^{z_i'z_j} / sum_{a != i} e^{z_i'z_a})
    beta_t = beta (1 - exp(-5 (1 - min(t, S) / S)^2))

with R_i the other rows of the batch that get the class of i; the temperature tau holds for RC_v alone. Before
training, a pass over the training data fills the targets; another after every epoch updates them once more.

Where this differs from the public code:
- validation and test rows never change a target (there they overwrite those of the first training items);
- every modality has targets of its own (there all but the second share one buffer);
- targets belong to items. In the code they belong to tuples, which is the same where every item is in one
  tuple. Items served several times in a batch contribute the mean of their predictions;
- the passes before training and after an epoch update every item once, with unit columns of C;
- IN_v and the shrinking below are applied to all modalities (there: image and text, the only ones);
- S is ``ramp_fraction`` of all steps, the pass before training included, unless ``ramp_steps`` names it;
- for the rest see :mod:`benchmark.methods.mrl`.

Kept on purpose: the divisor 2 |R_i| - 1 and the sum in place of a mean in IN_v. The code's "weight averaging"
averages live parameters with themselves, so that in effect every encoder is multiplied by alpha (2 - alpha)
after a step, a slow decay of weights (``weight_avg="effective"``). With ``ema`` the new parameters are
averaged with those before the step, as was meant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice
from benchmark.core.registry import method
from benchmark.training.samplers import Batch, Sampler, TupleSampler
from benchmark.training.train import Adam, Hook, Objective, Params, Phase, Select, Terms, train_phase

from .blocks.joint import CHUNK, Embed, joint_retrievers, select_by_map
from .blocks.losses import repeated_pairs, robust_clustering, tuple_contrast
from .mrl import check_width, late_cosine, stacked, start_joint, unit_classes

CLIP = 1e-4
MOMENTUM = 0.9


@dataclass(frozen=True)
class ELRCMRConfig:
    """Hyper-parameters; defaults are those of the public code's command for Wikipedia.

    Attributes:
        hidden: Widths of the hidden layers of every encoder.
        dim: Embedding width d.
        epochs: Passes over the training tuples.
        batch: Tuples per step; the remainder of an epoch is served too.
        lr: Learning rate at the start.
        lr_period: Epochs in which the cosine brings the learning rate to 0; 0: ``epochs``.
        betas: Adam's decay rates.
        tau: Temperature of the class probabilities.
        beta: Weight of the clustering at the start.
        lama: Weight of the early-learning term.
        zeta: Weight of the contrast within modalities.
        ramp_fraction: Steps S until beta_t is 0, as a share of all steps.
        ramp_steps: S itself; 0: by ``ramp_fraction``.
        weight_avg: ``effective``, ``ema`` or ``off``, see the module's docstring.
        setp: Epochs plus steps of the epoch until alpha is 0.
        alpha0: Alpha at the start.
        warm_pass: Fill targets in a pass before training, whose steps count for beta_t.
        elr_epoch_update: Update targets in a pass after every epoch, and once before the first.
        mc_form: The contrast of the ``code`` or of the MRL ``paper``.
        mc_mask_duplicates: Drop pairs of repeated items from the contrast between modalities.
        select: Epoch kept: the highest validation ``map``, or the ``last``.
    """

    hidden: tuple[int, ...] = (4096, 4096)
    dim: int = 512
    epochs: int = 100
    batch: int = 100
    lr: float = 1e-4
    lr_period: int = 100
    betas: tuple[float, float] = (0.5, 0.999)
    tau: float = 1.0
    beta: float = 0.75
    lama: float = 1.0
    zeta: float = 1e-3
    ramp_fraction: float = 1.35
    ramp_steps: int = 0
    weight_avg: str = "effective"
    setp: int = 100_000
    alpha0: float = 1.0
    warm_pass: bool = True
    elr_epoch_update: bool = True
    mc_form: str = "code"
    mc_mask_duplicates: bool = False
    select: str = "map"

    def __post_init__(self) -> None:
        choice("weight_avg", self.weight_avg, ("effective", "ema", "off"))
        choice("mc_form", self.mc_form, ("code", "paper"))
        choice("select", self.select, ("map", "last"))
        if min(self.epochs, self.batch, self.dim, *self.hidden) < 1 or self.lr_period < 0:
            raise ValueError("epochs, batch, dim and hidden must be positive, lr_period not negative")
        if not 0 <= self.beta <= 1 or min(self.tau, self.ramp_fraction, self.setp) <= 0:
            raise ValueError("beta must lie in 0..1; tau, ramp_fraction and setp be positive")
        if not 0 < self.alpha0 <= 1 or self.ramp_steps < 0:
            raise ValueError("alpha0 must lie above 0 and up to 1, ramp_steps not be negative")


def ramp_down(step: int, steps: float) -> float:
    """``1 - exp(-5 (1 - step / steps)^2)``: 0.993 at 0, 0 from ``steps`` on."""
    return -math.expm1(-5 * (1 - min(step, steps) / steps) ** 2)


def averaging_weight(epoch_plus_step: int, config: ELRCMRConfig) -> float:
    """Alpha, the weight of the new parameters; ``alpha0`` in the very first step."""
    return config.alpha0 * (ramp_down(epoch_plus_step, config.setp) if epoch_plus_step else 1.0)


def clipped(logits: Tensor) -> Tensor:
    """Class probabilities q, without gradient where clipped; ``(..., C)``."""
    return logits.softmax(dim=-1).clamp(CLIP, 1 - CLIP)


def moved_targets(old: Tensor, q: Tensor) -> Tensor:
    """Targets ``(..., C)`` moved towards probabilities, without gradient."""
    new = q.detach()
    return MOMENTUM * old + (1 - MOMENTUM) * new / new.sum(dim=-1, keepdim=True)


def updated_targets(targets: Tensor, rows: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Targets after a batch.

    Args:
        targets: ``(n, C)`` of all items.
        rows: ``(N,)`` items in the batch, repeated ones contribute the mean of their predictions.
        q: ``(N, C)`` clipped probabilities.

    Returns:
        All targets ``(n, C)``, those of other items unchanged, and those of the batch ``(N, C)``.
    """
    same = (rows[:, None] == rows[None, :]).to(q.dtype)
    shares = q.detach() / q.detach().sum(dim=-1, keepdim=True)
    mean = same @ shares / same.sum(dim=-1, keepdim=True)
    mean = mean[same.argmax(dim=-1)]  # copies agree to the last bit, so the order of writing is no matter
    new = moved_targets(targets[rows], mean)
    return targets.scatter(0, rows[:, None].expand(-1, targets.shape[1]), new), new


def early_learning(q: Tensor, targets: Tensor) -> Tensor:
    """ELR of ``(..., N, C)`` clipped probabilities and targets: ``(...)``."""
    return torch.log1p(-(targets * q).sum(dim=-1)).mean(dim=-1)


def class_contrast(z: Tensor, predicted: Tensor) -> Tensor:
    """IN of unit rows ``(..., N, d)`` and their predicted classes ``(..., N)``: ``(...)``."""
    itself = torch.eye(z.shape[-2], dtype=torch.bool, device=z.device)
    scores = z @ z.mT
    others = torch.logsumexp(scores.masked_fill(itself, torch.finfo(z.dtype).min), dim=-1, keepdim=True)
    alike = (predicted[..., :, None] == predicted[..., None, :]) & ~itself
    rows = torch.where(alike, others - scores, 0.0).sum(dim=-1)
    return (rows / (2 * alike.sum(dim=-1) - 1)).sum(dim=-1)  # without any alike: 0 / -1


def objective_terms(
    z: Tensor,
    classes: Tensor,
    y: Tensor,
    targets: Sequence[Tensor],
    rows: Tensor,
    beta: Tensor | float,
    config: ELRCMRConfig,
) -> tuple[Terms, list[Tensor]]:
    """All terms of L, and the targets of all items afterwards.

    Args:
        z: ``(m, N, d)`` unit rows.
        classes: C, ``(d, classes)`` with unit columns.
        y: ``(m, N, classes)`` one-hot.
        targets: Per modality ``(n_v, classes)``.
        rows: ``(m, N)`` row numbers of the items.
        beta: beta_t.
        config: Hyper-parameters.
    """
    cosines = z @ classes
    q = clipped(cosines / config.tau)
    moved = [updated_targets(*each) for each in zip(targets, rows, q, strict=True)]
    terms = {
        "clustering": robust_clustering(cosines / config.tau, y).sum(),
        "early_learning": early_learning(q, torch.stack([own for _, own in moved])).sum(),
        "within": class_contrast(z, cosines.argmax(dim=-1)).sum(),
        "contrast": tuple_contrast(
            z, 1.0, form=config.mc_form, dropped=repeated_pairs(rows) if config.mc_mask_duplicates else None
        ),
    }
    labelled = terms["clustering"] + config.lama * terms["early_learning"]
    contrasts = config.zeta * terms["within"] + terms["contrast"]
    return {"total": beta * labelled + (1 - beta) * contrasts, **terms}, [every for every, _ in moved]


def target_pass(embed: Embed, features: Mapping[str, Tensor], tau: float) -> Hook:
    """A pass over the training data that updates every target once and no parameter."""

    def update(params: Params, now: Params) -> Params:  # noqa: ARG001 - the model alone decides
        classes = unit_classes(params, {})["classes"]
        found = {}
        for name, x in features.items():
            logits = torch.cat([embed(params, name, part) @ classes for part in x.split(CHUNK)]) / tau
            found[f"targets.{name}"] = moved_targets(params[f"targets.{name}"], clipped(logits))
        return found

    return update


def after_step(config: ELRCMRConfig) -> Hook | None:
    """What happens to the encoders behind every step, by ``weight_avg``."""

    def shrink(params: Params, now: Params) -> Params:
        factor = now["alpha"] * (2 - now["alpha"])
        return {n: factor * p for n, p in params.items() if n.startswith("encoders.")}

    def average(params: Params, now: Params) -> Params:
        mean = {
            n: torch.lerp(params[f"previous.{n}"], p, now["alpha"])
            for n, p in params.items()
            if n.startswith("encoders.")
        }
        return mean | {f"previous.{n}": p for n, p in mean.items()}

    return {"effective": shrink, "ema": average, "off": None}[config.weight_avg]


def step_weights(config: ELRCMRConfig, steps: int) -> Callable[[int], dict[str, list[float]]]:
    """Per epoch ``beta`` and ``alpha`` of its steps, of which an epoch has ``steps``."""
    before = steps if config.warm_pass else 0
    until = config.ramp_steps or config.ramp_fraction * (before + config.epochs * steps)

    def weights(epoch: int) -> dict[str, list[float]]:
        counts = [before + epoch * steps + number + 1 for number in range(steps)]
        return {
            "beta": [config.beta * ramp_down(count, until) for count in counts],
            "alpha": [averaging_weight(epoch + number, config) for number in range(steps)],
        }

    return weights


def with_state(start: Params, train: Split, config: ELRCMRConfig, update: Hook) -> Params:
    """Initial parameters with the targets, filled as the passes before training do, and averages."""
    params = dict(start)
    classes = start["classes"]
    for m in train:
        params[f"targets.{m.name}"] = classes.new_zeros(len(classes), len(m), train.classes)
    for _ in range(config.warm_pass + config.elr_epoch_update):
        params |= torch.vmap(lambda p: update(p, {}))(params)
    if config.weight_avg == "ema":
        params |= {f"previous.{n}": p for n, p in start.items() if n.startswith("encoders.")}
    return params


def joint_phase(
    config: ELRCMRConfig, embed: Embed, names: Sequence[str], sampler: Sampler, update: Hook
) -> Phase:
    """Training of all encoders and C, without a validation quantity yet."""

    def loss(params: Params, batch: Batch, now: Params) -> Terms:
        z = torch.stack([embed(params, name, batch[f"x/{name}"]) for name in names])
        y, rows = stacked(batch, "y", names), stacked(batch, "row", names)
        targets = [params[f"targets.{name}"] for name in names]
        terms, moved = objective_terms(z, params["classes"], y, targets, rows, now["beta"], config)
        return terms | {f"state/targets.{n}": each for n, each in zip(names, moved, strict=True)}

    adam = Adam(config.lr, config.betas)
    return Phase(
        name="elrcmr",
        epochs=config.epochs,
        sampler=sampler,
        objectives=(Objective(loss, adam, factor=late_cosine(config.lr_period or config.epochs)),),
        per_step=step_weights(config, len(sampler.sizes)),
        state=("targets.", "previous."),
        before=unit_classes,
        after=after_step(config),
        after_epoch=update if config.elr_epoch_update else None,
        select=Select("last") if config.select == "last" else Select("max", "map"),
        keep=("encoders.", "classes"),
    )


@method(
    "elrcmr",
    title="ELRCMR",
    paper="Early-Learning regularized Contrastive Learning for Cross-Modal Retrieval with Noisy Labels",
    venue="ACM MM",
    year=2022,
    group="paired-oriented",
    modalities="many",
    multilabel=False,
    version=1,
    doi="10.1145/3503161.3548066",
)
class ELRCMR(Method):
    """MRL with targets from early predictions, contrast within modalities, and a falling weight of labels."""

    Config = ELRCMRConfig
    config: ELRCMRConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        return {"hidden": (16, 16), "dim": 16, "epochs": 3, "batch": 12, "lr": 2e-3}

    def check(self, train: Split) -> None:
        """Also refuse an embedding narrower than the number of classes."""
        super().check(train)
        check_width("elrcmr", train, self.config.dim)

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring."""
        config = self.config
        embed, start = start_joint(train, config.hidden, config.dim, run, "elrcmr")
        sampler = TupleSampler(train, run, config.batch)
        update = target_pass(embed, sampler.features, config.tau)
        phase = joint_phase(config, embed, train.names, sampler, update)
        phase = replace(phase, validate=select_by_map(embed, val, run))
        start = with_state(start, train, config, update)
        return joint_retrievers(embed, train_phase(phase, start, run).params)
