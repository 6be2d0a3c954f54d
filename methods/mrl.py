"""MRL: Learning Cross-Modal Retrieval with Noisy Labels.

P. Hu, X. Peng, H. Zhu, L. Zhen, J. Lin, CVPR 2021, pp. 5403-5413. Public code: penghu-cs/MRL@e0f5c8f4.

An encoder per modality gives unit rows z, and all modalities share a matrix C (d x classes) whose columns are
brought back to unit length before every step. With p = softmax(C'z / tau):

    L = beta sum_v RC_v + (1 - beta) MC
    RC_v = mean over rows of log(1 - p_y)                              (robust clustering)
    MC   = 2 mean over the rows of all modalities of -log P            (multimodal contrast)

where P is the share of the rows of the same tuple in a row's exponential similarity to all other rows of the
batch. The learning rate falls along a cosine over all epochs, one epoch late, as the code calls its schedule.

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

from typing import Literal

from torch import Tensor

from benchmark.core.registry import method
from benchmark.training import Batch, Model, Terms

from .blocks.clustering import Clustering, ClusteringConfig
from .blocks.losses import repeated_pairs, robust_clustering, tuple_contrast


class MRLConfig(ClusteringConfig):
    """Hyper-parameters; ``tau`` is the temperature of both terms.

    Attributes:
        mc_form: The contrast of the ``code`` or of the ``paper``.
    """

    mc_form: Literal["code", "paper"]


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
    clustering = robust_clustering(z @ classes / config.tau, y).sum()
    contrast = tuple_contrast(z, config.tau, form=config.mc_form, dropped=dropped)
    total = config.beta * clustering + (1 - config.beta) * contrast
    return {"total": total, "clustering": clustering, "contrast": contrast}


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
class MRL(Clustering):
    """Robust clustering around shared class directions, and a contrast of tuples."""

    Config = MRLConfig
    config: MRLConfig

    def loss(self, model: Model, batch: Batch) -> Terms:
        """L of one batch."""
        z, y, rows = self.tuples(model, batch)
        dropped = repeated_pairs(rows) if self.config.mc_mask_duplicates else None
        return objective_terms(z, model.classes, y, self.config, dropped)
