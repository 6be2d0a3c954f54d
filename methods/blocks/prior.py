"""The prior: a d x C matrix that fixes where every class lies in the common space.

DRCL learns it (selective prior learning, SPL: R. Pu et al., IEEE TMM 2025, eqs. 1 and 2; public code
perquisite/DRCL@91910a04); SDML and MARS take columns of a random orthogonal matrix. Any of the three can use
any prior, at its own embedding width:

- ``orthogonal``: the first C columns of a random orthogonal d x d matrix, one per seed or one for all;
- ``selected``: SPL on every modality, the prior with the largest quality score (DRCL's own);
- ``learned:<modality>``: SPL on that modality alone;
- ``matched``: the orthogonal columns, stretched to the column lengths of the selected prior (control: length
  without learned directions; only of use where the host leaves lengths alone);
- ``file:<path>``: a ``.mat`` or ``.npz`` with ``W`` (d x C), as the public code writes it.

``scale_prior`` then brings the columns to the lengths the host needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.arrays import open_arrays
from benchmark.core.config import Betas, Bounds, Config, Count, Weight, Widths
from benchmark.core.data import Split
from benchmark.core.method import FitLog, RunContext, derive_seed
from benchmark.errors import RecipeError, UnknownNameError
from benchmark.training import (
    Adam,
    Batch,
    Model,
    Objective,
    Params,
    Phase,
    RowSampler,
    Select,
    Terms,
    Trained,
    build_replicas,
    train_phase,
)

from .base import Alone, check_width
from .config import TrainedConfig
from .joint import split_tensors
from .layers import UnitMLP, random_orthogonal
from .losses import generalized_cross_entropy, log_label_mass

CHUNK = 4096  # rows per forward pass when a whole split is scored
Seed = Annotated[int, Bounds(-1)]  # of orthogonal columns; -1: every seed of a run has its own
SOURCES = ("orthogonal", "selected", "matched", "learned:<modality>", "file:<path>")


class SPLConfig(Config):
    """Hyper-parameters of SPL.

    Attributes:
        hidden: Widths of the encoder's hidden layers.
        epochs: Epochs per modality.
        batch: Batch size; a smaller modality is served whole.
        lr: Learning rate of encoder and prior.
        betas: Adam's decay rates.
        q_step: q grows by this much per epoch, up to 1.
        q0: Epoch 0: ``skip`` (no movement, as in the public code) or ``ce`` (cross entropy).
        snapshot: Prior after the ``last`` epoch or of the ``best`` score.
        seed: Of the random orthogonal start, the same for all seeds of a run; -1: each its own.
    """

    hidden: Widths
    epochs: Count
    batch: Count
    lr: Weight
    betas: Betas
    q_step: Weight
    q0: Literal["skip", "ce"]
    snapshot: Literal["last", "best"]
    seed: Seed


class PriorConfig(TrainedConfig):
    """Hyper-parameters of every host of a prior, beside those of :class:`TrainedConfig`.

    Attributes:
        dim: Embedding width d.
        prior: Where the prior comes from, as named in the module's docstring.
        prior_scale: Lengths of its columns: ``none`` (as they are), ``unit`` or ``mean``.
        prior_seed: Of the orthogonal columns, the same for all seeds of a run; -1: each its own.
    """

    dim: Count
    prior: str
    prior_scale: Literal["none", "unit", "mean"]
    prior_seed: Seed

    def __post_init__(self) -> None:
        super().__post_init__()
        kind, _, rest = self.prior.partition(":")
        if not (rest if kind in ("learned", "file") else self.prior in SOURCES[:3]):
            raise ValueError(f"prior must be one of {', '.join(SOURCES)}; got {self.prior!r}")


class PriorHost(Alone):
    """Modalities that train alone towards one prior."""

    def check(self, train: Split) -> None:
        """Also refuse an embedding narrower than the number of classes."""
        super().check(train)
        check_width(self, train)

    def spl(self) -> SPLConfig:
        """Hyper-parameters of SPL, for a prior that is learned."""
        found: SPLConfig = self.config.spl
        return found

    def shared(self, train: Split, run: RunContext, log: FitLog) -> Params:
        """The prior, brought to length."""
        prior = make_prior(self.config, self.spl(), train, run, log)
        return {"prior": scale_prior(prior, self.config.prior_scale)}


def make_prior(config: PriorConfig, spl: SPLConfig, train: Split, run: RunContext, log: FitLog) -> Tensor:
    """The prior of every replica, not yet scaled; noted in ``log.notes`` and kept in ``log.arrays``.

    Args:
        config: Source, width and seed of the orthogonal columns.
        spl: Hyper-parameters of SPL, where it is needed.
        train: Training split.
        run: The run.
        log: Receives the prior, and what SPL found.

    Returns:
        ``(R, d, C)`` in the run's precision.

    Raises:
        UnknownNameError: ``learned:`` names a modality the data do not have.
        RecipeError: The file's matrix has another shape.
    """
    kind, _, rest = config.prior.partition(":")
    if kind == "file":
        prior = run.tensor(read_prior(Path(rest), (config.dim, train.classes)))
        return _kept(prior.expand(len(run.seeds), -1, -1), config.prior, log)
    if kind == "orthogonal":
        return _kept(orthogonal_columns(config.dim, train.classes, run, config.prior_seed), kind, log)
    names = (rest,) if kind == "learned" else train.names
    if rest and rest not in train.names:
        raise UnknownNameError("modality of the prior", rest, list(train.names))
    start = orthogonal_columns(config.dim, train.classes, run, spl.seed)
    prior = select_prior({name: _learn(name, start, train, run, log, spl) for name in names}, log)
    if kind == "matched":
        columns = orthogonal_columns(config.dim, train.classes, run, config.prior_seed)
        prior = columns * torch.linalg.vector_norm(prior, dim=1, keepdim=True)
    return _kept(prior, config.prior, log)


def orthogonal_columns(d: int, classes: int, run: RunContext, seed: int) -> Tensor:
    """Random orthogonal columns ``(R, d, C)``: the same ``seed`` for all replicas, or each its own if -1."""
    if seed >= 0:
        return run.tensor(random_orthogonal(d, classes, seed)).expand(len(run.seeds), -1, -1)
    seeds = [derive_seed(own, "prior") for own in run.seeds]
    return run.tensor(torch.stack([random_orthogonal(d, classes, each) for each in seeds]))


def select_prior(learned: Mapping[str, Trained], log: FitLog) -> Tensor:
    """Per replica the prior with the largest score over its epochs (the first among equals), ``(R, d, C)``.

    Args:
        learned: The SPL stage of every modality.
        log: Receives scores, winners, and every modality's prior.
    """
    names = list(learned)
    priors = [learned[name].params["prior"] for name in names]
    scores = np.stack([np.max(learned[name].history["val/quality"], axis=0) for name in names])
    winners = scores.argmax(axis=0).tolist()
    log.notes["prior"] = {
        "score": {name: row.tolist() for name, row in zip(names, scores, strict=True)},
        "selected": [names[w] for w in winners],
    }
    log.arrays |= {f"prior/{name}": prior.cpu().numpy() for name, prior in zip(names, priors, strict=True)}
    return torch.stack([priors[w][r] for r, w in enumerate(winners)])


def scale_prior(prior: Tensor, scale: str) -> Tensor:
    """Columns of priors ``(R, d, C)`` brought to length, in float64.

    ``none``: as they are. ``unit``: every column divided by its length, angles kept. ``mean``: all divided by
    their mean length.
    """
    wide = prior.double()
    lengths = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    if scale == "unit":
        wide = wide / lengths
    elif scale == "mean":
        wide = wide / lengths.mean(dim=2, keepdim=True)
    return wide.to(prior.dtype)


def read_prior(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """``W`` of a ``.mat`` or ``.npz`` file, float32.

    Args:
        path: The file.
        shape: ``(d, C)`` the host needs.

    Raises:
        DataError: A file that cannot be read or has no ``W``.
        RecipeError: Another shape, or values that are not finite.
    """
    matrix = np.asarray(open_arrays(path).read("W"), np.float32)
    if matrix.shape != shape:
        raise RecipeError(
            f"{path}: W is {matrix.shape}, this run needs (width, classes) = {shape}; --set dim=..."
        )
    if not np.isfinite(matrix).all():
        raise RecipeError(f"{path}: W holds NaN or infinite values")
    return matrix


def _kept(prior: Tensor, source: str, log: FitLog) -> Tensor:
    log.notes["prior"] = {"source": source, **log.notes.get("prior", {})}
    log.arrays["prior"] = prior.cpu().numpy()
    return prior


def _learn(name: str, start: Tensor, train: Split, run: RunContext, log: FitLog, spl: SPLConfig) -> Trained:
    """SPL on one modality, from the starts ``(R, d, C)``."""
    seeds = [derive_seed(seed, "spl", name, "weights") for seed in run.seeds]
    encoder, params = build_replicas(lambda: UnitMLP(train[name].dim, spl.hidden, start.shape[1]), seeds, run)
    sampler = RowSampler(*split_tensors(train, name, run), spl.batch, name=name)
    return train_phase(spl_phase(spl, encoder, sampler, f"spl/{name}"), {**params, "prior": start}, run, log)


def spl_phase(spl: SPLConfig, encoder: nn.Module, sampler: RowSampler, name: str) -> Phase:
    """SPL on one modality: encoder and ``prior`` move together on the label loss J_L alone.

    Args:
        spl: Hyper-parameters.
        encoder: Weightless template.
        sampler: Batches of the training rows, all of which the quality score (eq. 2) is taken over.
        name: Of the phase.
    """

    def loss(model: Model, batch: Batch) -> Terms:
        x, y = batch.alone
        label = generalized_cross_entropy(model(x) @ model.prior, y, batch.now["q"])
        return {"total": batch.now["active"] * label, "label": label}

    def validate(model: Model, now: Params) -> Terms:
        del now
        chunks = zip(torch.split(sampler.x, CHUNK), torch.split(sampler.y, CHUNK), strict=True)
        sums = [log_label_mass(model(x) @ model.prior, y).exp().sum() for x, y in chunks]
        return {"quality": torch.stack(sums).sum() / len(sampler.x)}

    def schedule(epoch: int) -> dict[str, float]:
        q = min(1.0, spl.q_step * epoch)  # 0 in the first epoch
        return {"q": q, "active": 0.0 if q == 0 and spl.q0 == "skip" else 1.0}

    return Phase(
        name=name,
        net=encoder,
        epochs=spl.epochs,
        sampler=sampler,
        objectives=(Objective(loss, Adam(spl.lr, spl.betas)),),
        schedule=schedule,
        validate=validate,
        select=Select("max" if spl.snapshot == "best" else "last", "quality"),
        keep=("prior",),
        shared=f"SPL 1 {json.dumps(asdict(spl), sort_keys=True)}",  # 1: raise it when SPL itself changes
    )
