"""What MRL and ELRCMR share: an encoder to unit rows per modality, and a unit direction C of every class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmark.core.config import Count, Positive, Share, Widths
from benchmark.core.data import Split
from benchmark.core.method import RunContext, derive_seed
from benchmark.training import Batch, Factor, Model, Objective, Params, Phase, Sampler

from .base import Joint, check_width
from .config import JointConfig
from .layers import MLP, random_orthogonal


class ClusteringConfig(JointConfig):
    """Hyper-parameters of both, beside those of :class:`JointConfig`.

    Attributes:
        hidden: Widths of the hidden layers of every encoder.
        dim: Embedding width d.
        tau: Temperature.
        beta: Weight of the clustering, at the start where it changes; contrasts have the rest to 1.
        mc_mask_duplicates: Drop pairs of repeated items from the contrast between modalities.
    """

    hidden: Widths
    dim: Count
    tau: Positive
    beta: Share
    mc_mask_duplicates: bool


class Encoders(nn.Module):
    """One encoder to unit rows per modality, all of the same build."""

    def __init__(self, widths: Mapping[str, int], hidden: Sequence[int], d: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {name: MLP(width, hidden, d, unit=True) for name, width in widths.items()}
        )


def unit_classes(model: Model, now: Params) -> Params:
    """C with columns of unit length, outside of the gradient; for ``Phase.before``."""
    del now
    return {"classes": normalize(model.classes, dim=0, eps=1e-12)}


def late_cosine(period: int) -> Factor:
    """Half a cosine from 1 to 0 in ``period`` epochs; the second epoch still has the first's rate."""
    return lambda epoch, _: (1 + math.cos(math.pi * max(epoch - 1, 0) / period)) / 2


class Clustering(Joint):
    """Joint training of encoders and C, whose columns are brought back to unit length before every step."""

    config: ClusteringConfig
    keep = ("encoders.",)

    def check(self, train: Split) -> None:
        """Also refuse an embedding narrower than the number of classes."""
        super().check(train)
        check_width(self, train)

    @property
    def lr_epochs(self) -> int:
        """Epochs in which the cosine brings the learning rate to 0."""
        return self.config.epochs

    def network(self, train: Split) -> nn.Module:
        """The encoders."""
        return Encoders({m.name: m.dim for m in train}, self.config.hidden, self.config.dim)

    def start(self, train: Split, run: RunContext) -> tuple[nn.Module, Params]:
        """Also C, ``classes`` ``(R, d, C)``: the first columns of a random orthogonal matrix."""
        net, params = super().start(train, run)
        seeds = [derive_seed(seed, self.info.id, "classes") for seed in run.seeds]
        drawn = torch.stack([random_orthogonal(self.config.dim, train.classes, seed) for seed in seeds])
        return net, {**params, "classes": drawn.to(run.device, run.dtype)}

    def objectives(self, net: nn.Module) -> tuple[Objective, ...]:
        """The loss, at a rate that falls along a cosine."""
        del net
        return (Objective(self.loss, self.optimizer(), factor=late_cosine(self.lr_epochs)),)

    def phase(self, net: nn.Module, sampler: Sampler) -> Phase:
        """Joint training with unit columns in every step."""
        return replace(super().phase(net, sampler), before=unit_classes)

    def tuples(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of all modalities z ``(m, N, d)``, label rows ``(m, N, C)`` and row numbers ``(m, N)``."""
        z = torch.stack([self.embed(model, name, x) for name, x in batch.x.items()])
        return z, torch.stack(list(batch.y.values())), torch.stack(list(batch.row.values()))

    def embed(self, model: Model, modality: str, x: Tensor) -> Tensor:
        """z, unit rows."""
        found: Tensor = model.encoders[modality](x)
        return found
