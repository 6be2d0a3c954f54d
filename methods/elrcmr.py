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

with R_i the other rows of the batch that get the class of i, and MC as MRL's code has it at temperature 1;
tau holds for class probabilities alone. Before training, two passes over the training data fill the targets
(a pass without an update, and an evaluation); another after every epoch updates them once more.

Where this differs from the public code:
- validation and test rows never change a target (there they overwrite those of the first training items);
- every modality has targets of its own (there all but the second share one buffer);
- targets belong to items. In the code they belong to tuples, which is the same where every item is in one
  tuple. Items served several times in a batch contribute the mean of their predictions;
- every pass before training and after an epoch updates every item once, with unit columns of C;
- IN_v and the shrinking below are applied to all modalities (there: image and text, the only ones);
- S is ``ramp_fraction`` of all steps, the pass without an update included, unless ``ramp_steps`` names it;
- for the rest see :mod:`benchmark.methods.mrl`.

Kept on purpose: the divisor 2 |R_i| - 1 and the sum in place of a mean in IN_v. The code's "weight averaging"
averages live parameters with themselves, so that in effect every encoder is multiplied by alpha (2 - alpha)
after a step, a slow decay of weights (``weight_avg="effective"``). With ``ema`` the new parameters are
averaged with those before the step, as was meant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from benchmark.core.config import Bounds, Count, Positive, Weight, Whole
from benchmark.core.data import Split
from benchmark.core.method import RunContext
from benchmark.core.registry import method
from benchmark.training import STATE, Batch, Model, Params, Phase, Sampler, Terms, TupleSampler

from .blocks.clustering import Clustering, ClusteringConfig, unit_classes
from .blocks.joint import CHUNK
from .blocks.losses import repeated_pairs, robust_clustering, tuple_contrast

CLIP = 1e-4
MOMENTUM = 0.9


class ELRCMRConfig(ClusteringConfig):
    """Hyper-parameters; ``tau`` is the temperature of the class probabilities.

    Attributes:
        lr_period: Epochs in which the cosine brings the learning rate to 0; 0: ``epochs``.
        lama: Weight of the early-learning term.
        zeta: Weight of the contrast within modalities.
        ramp_fraction: Steps S until beta_t is 0, as a share of all steps.
        ramp_steps: S itself; 0: by ``ramp_fraction``.
        weight_avg: ``effective``, ``ema`` or ``off``, see the module's docstring.
        setp: Epochs plus steps of the epoch until alpha is 0.
        alpha0: Alpha at the start.
    """

    lr_period: Whole
    lama: Weight
    zeta: Weight
    ramp_fraction: Positive
    ramp_steps: Whole
    weight_avg: Literal["effective", "ema", "off"]
    setp: Count
    alpha0: Annotated[float, Bounds(0, 1, open=True)]


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
    dropped = repeated_pairs(rows) if config.mc_mask_duplicates else None
    terms = {
        "clustering": robust_clustering(cosines / config.tau, y).sum(),
        "early_learning": early_learning(q, torch.stack([own for _, own in moved])).sum(),
        "within": class_contrast(z, cosines.argmax(dim=-1)).sum(),
        "contrast": tuple_contrast(z, 1.0, dropped=dropped),
    }
    labelled = terms["clustering"] + config.lama * terms["early_learning"]
    contrasts = config.zeta * terms["within"] + terms["contrast"]
    return {"total": beta * labelled + (1 - beta) * contrasts, **terms}, [every for every, _ in moved]


def step_weights(config: ELRCMRConfig, steps: int) -> Callable[[int], dict[str, list[float]]]:
    """Per epoch ``beta`` and ``alpha`` of its ``steps``; a pass without an update came before the first."""
    until = config.ramp_steps or config.ramp_fraction * ((config.epochs + 1) * steps)

    def weights(epoch: int) -> dict[str, list[float]]:
        counts = [(epoch + 1) * steps + number + 1 for number in range(steps)]
        return {
            "beta": [config.beta * ramp_down(count, until) for count in counts],
            "alpha": [averaging_weight(epoch + number, config) for number in range(steps)],
        }

    return weights


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
class ELRCMR(Clustering):
    """MRL with targets from early predictions, contrast within modalities, and a falling weight of labels."""

    Config = ELRCMRConfig
    config: ELRCMRConfig

    @property
    def lr_epochs(self) -> int:
        """As ``lr_period`` says."""
        return self.config.lr_period or self.config.epochs

    def start(self, train: Split, run: RunContext) -> tuple[nn.Module, Params]:
        """Also targets, filled by two passes, and for ``ema`` the encoders to average with."""
        net, params = super().start(train, run)
        if self.config.weight_avg == "ema":
            params |= {f"previous.{n}": p for n, p in params.items() if n.startswith("encoders.")}
        for m in train:
            params[f"targets.{m.name}"] = params["classes"].new_zeros(len(run.seeds), len(m), train.classes)
        features = {m.name: run.tensor(m.features) for m in train}
        for _ in range(2):
            params |= torch.vmap(lambda each: self.after_pass(features, Model(net, each), {}))(params)
        return net, params

    def phase(self, net: nn.Module, sampler: Sampler) -> Phase:
        """Targets are state; hooks follow a step and an epoch."""
        assert isinstance(sampler, TupleSampler), "targets belong to the items that form tuples"
        return replace(
            super().phase(net, sampler),
            per_step=step_weights(self.config, len(sampler.sizes)),
            state=("targets.", "previous."),
            after=None if self.config.weight_avg == "off" else self.after_step,
            after_epoch=partial(self.after_pass, sampler.features),
        )

    def loss(self, model: Model, batch: Batch) -> Terms:
        """L of one batch, and the targets after it."""
        z, y, rows = self.tuples(model, batch)
        targets = [model.tensors[f"targets.{name}"] for name in batch.row]
        terms, moved = objective_terms(z, model.classes, y, targets, rows, batch.now["beta"], self.config)
        return terms | {f"{STATE}targets.{name}": each for name, each in zip(batch.row, moved, strict=True)}

    def after_step(self, model: Model, now: Params) -> Params:
        """Shrunk or averaged encoders; the mean is also what the next step's parameters are averaged with."""
        encoders = {name: p for name, p in model.tensors.items() if name.startswith("encoders.")}
        if self.config.weight_avg == "effective":
            factor = now["alpha"] * (2 - now["alpha"])
            return {name: factor * p for name, p in encoders.items()}
        old = model.tensors
        mean = {name: torch.lerp(old[f"previous.{name}"], p, now["alpha"]) for name, p in encoders.items()}
        return mean | {f"previous.{name}": p for name, p in mean.items()}

    def after_pass(self, features: Mapping[str, Tensor], model: Model, now: Params) -> Params:
        """Targets after a pass over the training data: every one is updated once, and no parameter."""
        classes, found = unit_classes(model, now)["classes"], {}
        for name, x in features.items():
            parts = [self.embed(model, name, part) @ classes for part in torch.split(x, CHUNK)]
            q = clipped(torch.cat(parts) / self.config.tau)
            found[f"targets.{name}"] = moved_targets(model.tensors[f"targets.{name}"], q)
        return found
