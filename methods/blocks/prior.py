"""The prior: a d x C matrix that fixes where every class lies in the common space.

DRCL learns it (selective prior learning, SPL: R. Pu et al., IEEE TMM 2025, eqs. 1 and 2; public code
perquisite/DRCL@91910a04); SDML and MARS take columns of a random orthogonal matrix. Any of the three can use
any prior, at its own embedding width:

- ``orthogonal``: the first C columns of a random orthogonal d x d matrix: by default the one SPL starts from,
  the same for all seeds of a run; a host may bring its own, one per seed;
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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from benchmark.arrays import open_arrays
from benchmark.core.data import Split
from benchmark.core.method import Run, choice, derive_seed
from benchmark.errors import RecipeError, UnknownNameError
from benchmark.training.samplers import Batch, RowSampler
from benchmark.training.train import (
    Adam,
    Objective,
    Params,
    Phase,
    Select,
    Terms,
    Trained,
    build_replicas,
    train_phase,
)

from .joint import split_tensors
from .layers import UnitMLP, random_orthogonal
from .losses import generalized_cross_entropy, log_label_mass

CHUNK = 4096  # rows per forward pass when a whole split is scored
SOURCES = ("orthogonal", "selected", "matched", "learned:<modality>", "file:<path>")
SCALES = ("none", "unit", "mean", "polar")


@dataclass(frozen=True)
class SPLConfig:
    """Hyper-parameters of SPL; defaults are the publication's for Wikipedia.

    Attributes:
        hidden: Widths of the encoder's hidden layers.
        epochs: Epochs per modality.
        batch: Batch size; a smaller modality is served whole.
        lr: Learning rate of encoder and prior.
        betas: Adam's decay rates.
        q_step: q grows by this much per epoch, up to 1.
        q0: Epoch 0: ``skip`` (no movement, as in the public code) or ``ce`` (cross entropy).
        snapshot: Prior after the ``last`` epoch or of the ``best`` score.
        score_split: Rows of the quality score: ``train`` (the paper) or ``val``.
        keep_remainder: Whether the last, smaller batch of an epoch is served.
        seed: Seed of the random orthogonal start, the same for all seeds of a run.
    """

    hidden: tuple[int, ...] = (4096, 4096)
    epochs: int = 200
    batch: int = 1024
    lr: float = 5e-4
    betas: tuple[float, float] = (0.5, 0.999)
    q_step: float = 0.01
    q0: str = "skip"
    snapshot: str = "last"
    score_split: str = "train"
    keep_remainder: bool = False
    seed: int = 1000

    def __post_init__(self) -> None:
        choice("spl_q0", self.q0, ("skip", "ce"))
        choice("spl_snapshot", self.snapshot, ("last", "best"))
        choice("score_split", self.score_split, ("train", "val"))
        if self.epochs < 1 or self.batch < 1 or min(self.hidden, default=1) < 1:
            raise ValueError("epochs, batch and hidden of SPL must be positive")
        if self.lr < 0:
            raise ValueError(f"learning rates must not be negative, got {self.lr}")


def spl_config(values: Mapping[str, Any]) -> SPLConfig:
    """SPL's hyper-parameters as a recipe's table gives them; ``ValueError`` for a name SPL does not have."""
    names = [each.name for each in fields(SPLConfig)]
    if unknown := sorted(set(values) - set(names)):
        raise ValueError(f"spl has no setting {unknown[0]!r}; it has {', '.join(names)}")
    return SPLConfig(**values)


def check_source(source: str) -> None:
    """Raise ``ValueError`` unless ``source`` is one of the forms named above; for ``Config`` checks."""
    kind, colon, rest = source.partition(":")
    named = kind in ("learned", "file") and colon and rest
    if not (named or source in ("orthogonal", "selected", "matched")):
        raise ValueError(f"prior must be one of {', '.join(SOURCES)}; got {source!r}")


def make_prior(
    source: str,
    d: int,
    train: Split,
    val: Split,
    run: Run,
    spl: SPLConfig,
    columns: Tensor | None = None,
) -> Tensor:
    """The prior of every replica, not yet scaled; noted in ``run.notes`` and kept in ``run.arrays``.

    Args:
        source: As named in the module's docstring.
        d: Embedding width of the host.
        train: Training split.
        val: Validation split (used only with ``score_split="val"``).
        run: The run.
        spl: Hyper-parameters of SPL, where it is needed.
        columns: ``(R, d, C)``, the host's orthogonal columns for ``orthogonal`` and ``matched``; those SPL
            starts from if not given.

    Returns:
        ``(R, d, C)`` in the run's precision.

    Raises:
        UnknownNameError: ``learned:`` names a modality the data do not have.
        RecipeError: The file's matrix has another shape.
    """
    check_source(source)
    kind, _, rest = source.partition(":")
    if kind == "file":
        prior = run.tensor(read_prior(Path(rest), (d, train.classes)))
        return _kept(prior.expand(len(run.seeds), -1, -1), source, run)
    start = orthogonal_columns(d, train.classes, run, spl.seed)
    own = start if columns is None else run.tensor(columns)
    if source == "orthogonal":
        return _kept(own, source, run)
    names = train.names if kind in ("selected", "matched") else (rest,)
    if rest and rest not in train.names:
        raise UnknownNameError("modality of the prior", rest, list(train.names))
    learned = select_prior({name: _learn(name, start, train, val, run, spl) for name in names}, run)
    if source == "matched":
        learned = own * torch.linalg.vector_norm(learned, dim=1, keepdim=True)
    return _kept(learned, source, run)


def orthogonal_columns(d: int, classes: int, run: Run, seed: int) -> Tensor:
    """Random orthogonal columns ``(R, d, C)``: the same ``seed`` for all replicas, or each its own if -1."""
    if seed >= 0:
        return run.tensor(random_orthogonal(d, classes, seed)).expand(len(run.seeds), -1, -1)
    seeds = [derive_seed(own, "prior") for own in run.seeds]
    return run.tensor(torch.stack([random_orthogonal(d, classes, each) for each in seeds]))


def select_prior(learned: Mapping[str, Trained], run: Run) -> Tensor:
    """Per replica the prior with the largest score over its epochs (the first among equals), ``(R, d, C)``.

    Args:
        learned: The SPL stage of every modality.
        run: Receives scores, winners, and every modality's prior.
    """
    names = list(learned)
    priors = [learned[name].params["prior"] for name in names]
    scores = np.stack([np.max(learned[name].history["val/quality"], axis=0) for name in names])
    winners = scores.argmax(axis=0).tolist()
    run.notes["prior"] = {
        "score": {name: row.tolist() for name, row in zip(names, scores, strict=True)},
        "selected": [names[w] for w in winners],
    }
    run.arrays |= {f"prior/{name}": prior.cpu().numpy() for name, prior in zip(names, priors, strict=True)}
    return torch.stack([priors[w][r] for r, w in enumerate(winners)])


def scale_prior(prior: Tensor, scale: str) -> Tensor:
    """Columns of priors ``(R, d, C)`` brought to length, in float64.

    ``none``: as they are. ``unit``: every column divided by its length, angles kept. ``mean``: all divided by
    their mean length. ``polar``: W (W' W)^-1/2, the nearest matrix with orthonormal columns.
    """
    choice("prior_scale", scale, SCALES)
    wide = prior.double()
    lengths = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    if scale == "unit":
        wide = wide / lengths
    elif scale == "mean":
        wide = wide / lengths.mean(dim=2, keepdim=True)
    elif scale == "polar":
        u, _, vh = torch.linalg.svd(wide, full_matrices=False)
        wide = u @ vh
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


def _kept(prior: Tensor, source: str, run: Run) -> Tensor:
    run.notes["prior"] = {"source": source, **run.notes.get("prior", {})}
    run.arrays["prior"] = prior.cpu().numpy()
    return prior


def _learn(name: str, start: Tensor, train: Split, val: Split, run: Run, spl: SPLConfig) -> Trained:
    """SPL on one modality, from the starts ``(R, d, C)``."""
    seeds = [derive_seed(seed, "spl", name, "weights") for seed in run.seeds]
    encoder, params = build_replicas(lambda: UnitMLP(train[name].dim, spl.hidden, start.shape[1]), seeds, run)
    rows = split_tensors(train, name, run)
    scored = rows if spl.score_split == "train" else split_tensors(val, name, run)
    sampler = RowSampler(*rows, spl.batch, keep_remainder=spl.keep_remainder)
    return train_phase(
        spl_phase(spl, encoder, sampler, scored, f"spl/{name}"), {**params, "prior": start}, run
    )


def q_spl(epoch: int, step: float = 0.01) -> float:
    """Hardness of SPL in a 0-based epoch: 0 in the first."""
    return min(1.0, step * epoch)


def spl_phase(
    spl: SPLConfig, encoder: torch.nn.Module, sampler: RowSampler, scored: tuple[Tensor, Tensor], name: str
) -> Phase:
    """SPL on one modality: encoder and ``prior`` move together on the label loss J_L alone.

    Args:
        spl: Hyper-parameters.
        encoder: Weightless template.
        sampler: Batches of the training rows.
        scored: Features and labels of the quality score (eq. 2).
        name: Of the phase.
    """

    def loss(params: Params, batch: Batch, now: Params) -> Terms:
        logits = functional_call(encoder, params, (batch["x"],), strict=False) @ params["prior"]
        label = generalized_cross_entropy(logits, batch["y"], now["q"])
        return {"total": now["active"] * label, "label": label}

    def validate(params: Params, now: Params) -> Terms:  # noqa: ARG001 - the score does not depend on q
        return {"quality": mean_label_mass(encoder, params, *scored, params["prior"])}

    def schedule(epoch: int) -> dict[str, float]:
        q = q_spl(epoch, spl.q_step)
        return {"q": q, "active": 0.0 if q == 0 and spl.q0 == "skip" else 1.0}

    return Phase(
        name=name,
        epochs=spl.epochs,
        sampler=sampler,
        objectives=(Objective(loss, Adam(spl.lr, spl.betas)),),
        schedule=schedule,
        validate=validate,
        select=Select("max" if spl.snapshot == "best" else "last", "quality"),
        keep=("prior",),
        shared=f"SPL 1 {json.dumps(asdict(spl), sort_keys=True)}",  # 1: raise it when SPL itself changes
    )


def mean_label_mass(encoder: torch.nn.Module, params: Params, x: Tensor, y: Tensor, prior: Tensor) -> Tensor:
    """Quality score (eq. 2): mean softmax mass on the labels over all rows, in chunks."""
    sums = [
        log_label_mass(functional_call(encoder, params, (a,), strict=False) @ prior, b).exp().sum()
        for a, b in zip(x.split(CHUNK), y.split(CHUNK), strict=True)
    ]
    return torch.stack(sums).sum() / len(x)
