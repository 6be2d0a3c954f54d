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
constant. ``decoder_norm`` switches that off (variant ``plain_decoder``).

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

from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.core.config import Rates, Share, Widths
from benchmark.core.data import Split
from benchmark.core.registry import method
from benchmark.training import Batch, Model, Params, Select, Terms

from .blocks.layers import MLP
from .blocks.losses import label_distance, labelled_mean
from .blocks.prior import PriorConfig, PriorHost, SPLConfig


class SDMLConfig(PriorConfig):
    """Hyper-parameters, beside those of :class:`PriorConfig`.

    Attributes:
        hidden: Widths of the encoder's hidden layers; the decoder has them in reverse.
        lr: Learning rate per modality; ``default`` for those not named.
        alpha: Weight of the reconstruction; the label term has the rest to 1.
        decoder_norm: Whether reconstructions get unit length, as in the public code.
        select: Epoch kept: smallest validation ``label`` term, or the ``last``.
        spl: Hyper-parameters of selective prior learning, where ``prior`` needs it.
    """

    hidden: Widths
    lr: Rates
    alpha: Share
    decoder_norm: bool
    select: Literal["label", "last"]
    spl: SPLConfig


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
class SDML(PriorHost):
    """One auto-encoder per modality, tied to fixed class directions."""

    Config = SDMLConfig
    config: SDMLConfig
    stage = "sdml"
    keep = ("encoder.",)
    best = Select("min", "label")

    def network(self, train: Split, modality: str) -> AutoEncoder:
        """Encoder and decoder."""
        config = self.config
        return AutoEncoder(train[modality].dim, config.hidden, config.dim, config.decoder_norm)

    def loss(self, model: Model, batch: Batch) -> Terms:
        """L of one batch."""
        x, y = batch.alone
        h, reconstruction = model(x)
        return objective_terms(h, reconstruction, x, y, batch.now["prior"], self.config.alpha)

    def validation(self, held: tuple[Tensor, Tensor], model: Model, now: Params) -> Terms:
        """The label term over all rows."""
        x, y = held
        return {"label": label_distance(self.embed(model, x), now["prior"], y).mean()}

    def embed(self, model: Model, x: Tensor) -> Tensor:
        """The unit rows h."""
        h: Tensor = model.encoder(x)
        return h
