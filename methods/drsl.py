"""DRSL: Deep Relational Similarity Learning for Cross-modal Retrieval.

X. Wang, P. Hu, L. Zhen, D. Peng, Information Sciences 546 (2021), pp. 298-311. Public code:
wangxu-scu/DRSL@20ae58a1.

A network per modality gives non-negative features a_i of images and b_j of texts, and a third one, the
relation network, scores the two side by side: s_ij = R([a_i; b_j]). Over all n^2 combinations of a batch

    L = (1/n) sum_ij (s_ij - y_ij)^2,      y_ij = 1 where image i and text j are of one class, else 0.

There is no common space: retrieval ranks by s_ij, all batch normalisations by their running statistics.

The first relation layer is computed as W_a a_i + W_b b_j + c: two halves of n rows instead of n^2 rows. Its
batch statistics over the full grid are exact sums of those of the halves, so that n^2 rows are formed only
behind it.

Kept on purpose: the sum over n^2 terms is divided by n, not n^2, which matters for the balance with the
coupled weight decay (``reduction``); epoch e = 1, 2, ... runs at the learning rate times 0.98^e, the first
included; weight decay on biases and normalisations too; no weights against the imbalance of y; the last
epoch.

Where this differs from the public code:
- a last batch of a single tuple is dropped (there: batch normalisation fails);
- items with several labels count as of one class if they share any (there: one label per item);
- ``select="map"`` keeps the epoch with the best validation MAP, and ``sampler="independent"`` serves
  images and texts that need not be paired; neither is in the public code.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from benchmark.core.config import Bounds, Count, Least, Weight, Widths
from benchmark.core.data import Split
from benchmark.core.method import RunContext
from benchmark.core.registry import method
from benchmark.training import STATE, Adam, Batch, IndependentSampler, Model, Objective, Terms, TupleSampler

from .blocks.base import PairScoring
from .blocks.config import JointConfig
from .blocks.layers import BatchNorm
from .blocks.losses import shares_label

State = dict[str, Tensor]
PAIRS = 32768
"""Pairs scored at once: 128 MiB per activation of 1024 columns."""
ROWS = 4096
"""Rows that get their features at once."""


class DRSLConfig(JointConfig):
    """Hyper-parameters, beside those of :class:`JointConfig`.

    Attributes:
        hidden: Widths of the hidden layers of both feature networks.
        features: Width of the features that are compared.
        relation: Widths of the relation network's hidden layers, one at least.
        batch: Tuples per batch; the relation network sees its square.
        decay: Factor of the learning rate per epoch, the first included.
        weight_decay: Coupled, on all parameters.
        reduction: What the sum of squares is divided by: ``batch`` (n) or ``pairs`` (n^2).
        sampler: ``tuples`` of one class, or ``independent`` batches of images and of texts.
    """

    hidden: Widths
    features: Count
    relation: Annotated[Widths, Least(1)]
    batch: Annotated[int, Bounds(2)]
    decay: Weight
    weight_decay: Weight
    reduction: Literal["batch", "pairs"]
    sampler: Literal["tuples", "independent"]


class PairNorm(BatchNorm):
    """Batch normalisation of the n m rows ``u_i + t_j``, given the halves."""

    def train_halves(self, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor, State]:
        """Halves whose sums are the normalised rows, and the new running statistics by their names.

        Over the full grid the mean of the sums is the sum of the means, and the biased variance is the sum of
        the variances. ``u`` is ``(n, width)``, ``t`` is ``(m, width)``.
        """
        var_u, mean_u = torch.var_mean(u, dim=0, correction=0)
        var_t, mean_t = torch.var_mean(t, dim=0, correction=0)
        var, rows = var_u + var_t, len(u) * len(t)
        unbiased = var * rows / max(rows - 1, 1)
        running = {
            "running_mean": torch.lerp(self.running_mean, (mean_u + mean_t).detach(), self.momentum),
            "running_var": torch.lerp(self.running_var, unbiased.detach(), self.momentum),
        }
        scale = self._scale(var)
        return (u - mean_u) * scale, (t - mean_t) * scale + self.bias, running

    def halves(self, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The same by the running statistics."""
        scale = self._scale(self.running_var)
        return u * scale, (t - self.running_mean) * scale + self.bias

    def _scale(self, var: Tensor) -> Tensor:
        return (var + self.eps).rsqrt() * self.weight


class FeatureNet(nn.Module):
    """Blocks of a linear layer, batch normalisation and ReLU; ``sizes`` from the input to the output."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.layers: Any = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms: Any = nn.ModuleList(BatchNorm(b) for b in sizes[1:])

    def forward(self, x: Tensor) -> Tensor:
        """``(n, sizes[0])`` to non-negative ``(n, sizes[-1])``, by the running statistics."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(layer(x)).relu()
        return x

    def train_rows(self, x: Tensor) -> tuple[Tensor, State]:
        """The same by the batch's own statistics, and the new running statistics by their names."""
        state: State = {}
        for k, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x, running = norm.train_rows(layer(x))
            state |= {f"norms.{k}.{name}": value for name, value in running.items()}
            x = x.relu()
        return x, state


class RelationNet(nn.Module):
    """Scores of all combinations of two sets of features; ``hidden`` are the widths of hidden layers."""

    def __init__(self, features: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        sizes = [2 * features, *hidden]
        self.layers: Any = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms: Any = nn.ModuleList([PairNorm(sizes[1]), *map(BatchNorm, sizes[2:])])
        self.last = nn.Linear(sizes[-1], 1)

    def first(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """First layer in halves ``(n, h)`` and ``(m, h)``: their sum is its output for ``[a_i; b_j]``."""
        weight, width = self.layers[0].weight, a.shape[-1]
        return a @ weight[:, :width].mT, b @ weight[:, width:].mT + self.layers[0].bias

    def train_pairs(self, a: Tensor, b: Tensor) -> tuple[Tensor, State]:
        """Scores ``(n, m)`` of ``(n, features)`` and ``(m, features)`` by the statistics of all n m pairs."""
        u, t, running = self.norms[0].train_halves(*self.first(a, b))
        x = _grid(u, t).relu()
        state = {f"norms.0.{name}": value for name, value in running.items()}
        for k in range(1, len(self.layers)):
            x, running = self.norms[k].train_rows(self.layers[k](x))
            state |= {f"norms.{k}.{name}": value for name, value in running.items()}
            x = x.relu()
        return self.last(x).reshape(len(a), len(b)), state

    def forward(self, a: Tensor, b: Tensor, pairs: int = PAIRS) -> Tensor:
        """Scores ``(n, m)`` by the running statistics, ``pairs`` of them at once."""
        u, t = self.norms[0].halves(*self.first(a, b))
        folded = list(self._folded())
        blocks = []
        for some in torch.split(u, max(1, pairs // max(len(b), 1))):
            x = _grid(some, t).relu_()
            for weight, bias in folded:
                x = linear(x, weight, bias).relu_()
            blocks.append(self.last(x).reshape(len(some), len(b)))
        return torch.cat(blocks)

    def _folded(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The further layers with their normalisations in weight and bias."""
        for layer, norm in zip(self.layers[1:], self.norms[1:], strict=True):
            scale = (norm.running_var + norm.eps).rsqrt() * norm.weight
            yield layer.weight * scale[:, None], (layer.bias - norm.running_mean) * scale + norm.bias


def _grid(u: Tensor, t: Tensor) -> Tensor:
    """All sums ``u_i + t_j``, ``(n m, h)``, the row of ``u`` outside."""
    return (u[:, None] + t[None]).flatten(0, 1)


class DRSLNet(nn.Module):
    """Both feature networks, for the widths of images and of texts, and the relation network."""

    def __init__(self, config: DRSLConfig, image: int, text: int) -> None:
        super().__init__()
        self.image, self.text = (FeatureNet((n, *config.hidden, config.features)) for n in (image, text))
        self.relation = RelationNet(config.features, config.relation)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, State]:
        """Scores ``(n, m)`` by the statistics of the batch, and all new running statistics by their names."""
        a, of_image = self.image.train_rows(image)
        b, of_text = self.text.train_rows(text)
        scores, of_pairs = self.relation.train_pairs(a, b)
        parts = {"image": of_image, "text": of_text, "relation": of_pairs}
        return scores, {f"{part}.{n}": v for part, state in parts.items() for n, v in state.items()}


def relational_loss(scores: Tensor, target: Tensor, reduction: str = "batch") -> Tensor:
    """Sum of squares of all pairs, divided by the geometric mean of n and m, or by the number of ``pairs``.

    Scores are ``(n, m)``, and so is the target, 1 or 0.
    """
    pairs = scores.shape[0] * scores.shape[1]
    return ((scores - target) ** 2).sum() / (pairs if reduction == "pairs" else pairs**0.5)


@method(
    "drsl",
    title="DRSL",
    paper="DRSL: Deep Relational Similarity Learning for Cross-modal Retrieval",
    venue="INS",
    year=2021,
    group="paired-oriented",
    modalities="two",
    kinds=("image", "text"),
    version=1,
    doi="10.1016/j.ins.2020.08.009",
)
class DRSL(PairScoring):
    """A network that scores pairs of an image and a text."""

    Config = DRSLConfig
    config: DRSLConfig

    def network(self, train: Split) -> DRSLNet:
        """Feature networks and relation network."""
        return DRSLNet(self.config, train["image"].dim, train["text"].dim)

    def sampler(self, train: Split, run: RunContext) -> TupleSampler | IndependentSampler:
        """Tuples, or batches that are not paired."""
        serve = TupleSampler if self.config.sampler == "tuples" else IndependentSampler
        return serve(train, run, self.config.batch)

    def optimizer(self) -> Adam:
        """With coupled weight decay."""
        return Adam(self.config.lr, self.config.betas, weight_decay=self.config.weight_decay)

    def objectives(self, net: nn.Module) -> tuple[Objective, ...]:
        """L, at a learning rate that is constant within an epoch."""
        del net
        decay = self.config.decay
        return (Objective(self.loss, self.optimizer(), factor=lambda epoch, _: decay ** (epoch + 1)),)

    def loss(self, model: Model, batch: Batch) -> Terms:
        """L, with the mean score of pairs of one class and of pairs of two.

        The means show a collapse to all scores 0, which many classes invite.
        """
        scores, state = model(batch.x["image"], batch.x["text"])
        target = shares_label(batch.y["image"], batch.y["text"]).to(scores.dtype)
        return {
            "total": relational_loss(scores, target, self.config.reduction),
            "same": (scores * target).sum() / target.sum().clamp_min(1),
            "different": (scores * (1 - target)).sum() / (1 - target).sum().clamp_min(1),
            **{f"{STATE}{name}": value for name, value in state.items()},
        }

    def score(self, model: Model, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """By the running statistics; both directions rank by the same scores."""
        a = torch.cat([model.image(rows) for rows in torch.split(image, ROWS)])
        b = torch.cat([model.text(rows) for rows in torch.split(text, ROWS)])
        scores = model.relation(a, b)
        return scores, scores.mT
