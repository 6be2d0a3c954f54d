"""Hyper-parameters that trained methods have in common."""

from __future__ import annotations

from typing import Literal

from benchmark.core.config import Betas, Config, Count, Weight


class TrainedConfig(Config):
    """What every trained method is told.

    Attributes:
        epochs: Passes over the training rows.
        batch: Rows of every modality per step; a modality with fewer is served whole.
        betas: Adam's decay rates.
    """

    epochs: Count
    batch: Count
    betas: Betas


class JointConfig(TrainedConfig):
    """What methods that train all modalities together are told, too.

    Attributes:
        lr: Learning rate.
        select: Epoch kept: the highest validation ``map``, or the ``last``.
    """

    lr: Weight
    select: Literal["map", "last"]
