"""SDML: Scalable Deep Multimodal Learning for Cross-Modal Retrieval.

P. Hu, L. Zhen, D. Peng, P. Liu, SIGIR 2019, pp. 635-644. Public code: penghu-cs/SDML@b71a8dc8.

Every modality trains alone, an encoder to unit rows h and a decoder back to the features; all that the
modalities share is a fixed matrix P (d x C) with orthonormal columns. Over a batch of B rows, B_l of them
labelled,

    L = alpha (1/B) sum_i ||r_i - x_i||  +  (1 - alpha) (1/B_l) sum_{i labelled} ||P' h_i - y_i||

with norms that are not squared. The label term is zero exactly where h is the column of P of its class. The
kept epoch is the one with the smallest label term over all validation rows.

The decoder ends in the same row normalisation as the encoder, so a reconstruction has unit length while the
features have not: for features much longer than 1 the first term is in effect a cosine, plus a large
constant. ``decoder_norm`` switches that off.

Where this differs from the public code:
- a modality smaller than the batch is served whole (there: no step, then a failure);
- a batch without labelled rows has a label term of 0 (there: NaN); rows without length do not divide by 0;
- random streams are derived per seed and modality; the public code resets all to seed 0 per modality. P is
  drawn from the run's seed (there: read from a file).

``prior`` puts another matrix in the place of P. The label term needs its columns to have unit length: if they
are longer, W' h = y has solutions inside the unit sphere, and what is missing to unit length is left to
chance. Hence ``prior_scale`` is ``unit``, which changes nothing for orthonormal columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
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
from .blocks.layers import MLP, part_of
from .blocks.losses import label_distance, labelled_mean
from .blocks.prior import (
    SCALES,
    check_source,
    make_prior,
    orthogonal_columns,
    scale_prior,
    spl_config,
)
from .blocks.retrievers import one_per_replica


@dataclass(frozen=True)
class SDMLConfig:
    """Hyper-parameters; defaults are those of the public code.

    Attributes:
        hidden: Widths of the encoder's hidden layers; the decoder has them in reverse.
        dim: Embedding width d.
        epochs: Epochs per modality.
        batch: Batch size; a smaller modality is served whole.
        lr: Learning rate per modality; ``default`` for those not named.
        betas: Adam's decay rates.
        alpha: Weight of the reconstruction; the label term has the rest to 1.
        decoder_norm: Whether reconstructions get unit length, as in the public code.
        unit_labels: Divide the row of an item with several labels by its length, so that it can be met.
        select: Epoch kept: smallest validation ``label`` term, or the ``last``.
        prior: Where P comes from, see ``methods/prior.py``.
        prior_scale: Lengths of its columns: ``unit``, ``mean``, ``polar`` or ``none``.
        prior_seed: Seed of the orthogonal columns, the same for all seeds of a run; -1: each seed its own.
        spl: Hyper-parameters of selective prior learning where ``prior`` needs it, as ``SPLConfig`` names
            them; its defaults for those not named.
    """

    hidden: tuple[int, ...] = (1024, 1024)
    dim: int = 512
    epochs: int = 200
    batch: int = 100
    lr: Mapping[str, float] = field(default_factory=lambda: {"image": 1e-4, "default": 2e-4})
    betas: tuple[float, float] = (0.5, 0.999)
    alpha: float = 0.5
    decoder_norm: bool = True
    unit_labels: bool = False
    select: str = "label"
    prior: str = "orthogonal"
    prior_scale: str = "unit"
    prior_seed: int = -1
    spl: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        choice("select", self.select, ("label", "last"))
        check_source(self.prior)
        choice("prior_scale", self.prior_scale, SCALES)
        if self.epochs < 1 or self.batch < 1 or self.dim < 1 or min(self.hidden, default=1) < 1:
            raise ValueError("epochs, batch, dim and hidden must be positive")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in 0..1, got {self.alpha}")
        if "default" not in self.lr or min(self.lr.values()) < 0:
            raise ValueError(f"lr must name a default and no negative rate, got {dict(self.lr)}")
        spl_config(self.spl)


class AutoEncoder(nn.Module):
    """Encoder to unit rows, and decoder back.

    Args:
        width: Feature width D.
        hidden: Widths of the encoder's hidden layers.
        d: Embedding width.
        decoder_norm: Whether reconstructions get unit length.
    """

    def __init__(self, width: int, hidden: tuple[int, ...], d: int, decoder_norm: bool) -> None:
        super().__init__()
        self.encoder = MLP(width, hidden, d, unit=True)
        self.decoder = MLP(d, hidden[::-1], width, unit=decoder_norm)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, D)`` features to ``(B, d)`` unit rows and ``(B, D)`` reconstructions."""
        h = self.encoder(x)
        return h, self.decoder(h)


def objective_terms(
    h: Tensor, reconstruction: Tensor, x: Tensor, y: Tensor, prior: Tensor, alpha: float
) -> Terms:
    """All terms of L.

    Args:
        h: ``(B, d)`` unit rows.
        reconstruction: ``(B, D)``.
        x: ``(B, D)`` features.
        y: ``(B, C)`` label rows; all zero where unlabelled.
        prior: P, ``(d, C)``.
        alpha: Weight of the reconstruction.
    """
    distance = torch.linalg.vector_norm(reconstruction - x, dim=-1).mean()
    label = labelled_mean(label_distance(h, prior, y), y)
    return {
        "total": alpha * distance + (1 - alpha) * label,
        "reconstruction": distance,
        "label": label,
    }


def unit_label_rows(y: Tensor) -> Tensor:
    """Label rows divided by their length; rows without labels stay zero."""
    return y / torch.linalg.vector_norm(y, dim=-1, keepdim=True).clamp_min(1)


def modality_phase(
    config: SDMLConfig,
    net: AutoEncoder,
    sampler: RowSampler,
    held: tuple[Tensor, Tensor],
    prior: Tensor,
    name: str,
) -> Phase:
    """Training of one modality.

    Args:
        config: Hyper-parameters.
        net: Weightless template.
        sampler: Batches of the training rows.
        held: Validation features and labels.
        prior: P of every replica, ``(R, d, C)``.
        name: Of the modality.
    """

    def loss(params: Params, batch: Batch, now: Params) -> Terms:
        h, reconstruction = functional_call(net, params, (batch["x"],))
        return objective_terms(h, reconstruction, batch["x"], batch["y"], now["prior"], config.alpha)

    def validate(params: Params, now: Params) -> Terms:
        h = functional_call(net.encoder, part_of(params, "encoder."), (held[0],))
        return {"label": label_distance(h, now["prior"], held[1]).mean()}

    return Phase(
        name=f"sdml/{name}",
        epochs=config.epochs,
        sampler=sampler,
        objectives=(Objective(loss, Adam(config.lr.get(name, config.lr["default"]), config.betas)),),
        constants={"prior": prior},
        validate=validate,
        select=Select("last") if config.select == "last" else Select("min", "label"),
        keep=("encoder.",),
    )


@method(
    "sdml",
    title="SDML",
    paper="Scalable Deep Multimodal Learning for Cross-Modal Retrieval",
    venue="SIGIR",
    year=2019,
    group="paired-free",
    modalities="many",
    version=1,
    doi="10.1145/3331184.3331213",
)
class SDML(Method):
    """One auto-encoder per modality, tied to fixed class directions."""

    Config = SDMLConfig
    config: SDMLConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        spl = {"hidden": (16,), "epochs": 3, "batch": 16, "q_step": 0.5}
        return {
            "hidden": (16,),
            "dim": 16,
            "epochs": 4,
            "batch": 16,
            "lr": {"default": 1e-3},
            "spl": spl,
        }

    def check(self, train: Split) -> None:
        """Also refuse an embedding narrower than the number of classes."""
        super().check(train)
        if train.classes > self.config.dim:
            raise UnsupportedError(
                f"sdml needs an embedding at least as wide as the {train.classes} classes, not "
                f"{self.config.dim}; --set dim={train.classes}"
            )

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring."""
        config = self.config
        columns = orthogonal_columns(config.dim, train.classes, run, config.prior_seed)
        prior = scale_prior(
            make_prior(config.prior, config.dim, train, val, run, spl_config(config.spl), columns),
            config.prior_scale,
        )
        encoders: dict[str, nn.Module] = {}
        params: dict[str, Params] = {}
        for name in train.names:
            encoders[name], params[name] = self._train(name, prior, train, val, run)
        return one_per_replica(encoders, params)

    def _train(
        self, name: str, prior: Tensor, train: Split, val: Split, run: Run
    ) -> tuple[nn.Module, Params]:
        config = self.config
        seeds = [derive_seed(seed, "sdml", name, "weights") for seed in run.seeds]
        net, start = build_replicas(
            lambda: AutoEncoder(train[name].dim, tuple(config.hidden), config.dim, config.decoder_norm),
            seeds,
            run,
        )
        x, y = split_tensors(train, name, run)
        x_val, y_val = split_tensors(val, name, run)
        if config.unit_labels:
            y, y_val = unit_label_rows(y), unit_label_rows(y_val)
        sampler = RowSampler(x, y, config.batch)
        phase = modality_phase(config, net, sampler, (x_val, y_val), prior, name)
        return net.encoder, part_of(train_phase(phase, start, run).params, "encoder.")
