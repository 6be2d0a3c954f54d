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
- ``select = "val"`` keeps the epoch with the best validation MAP, and ``sampler = "independent"`` serves
  images and texts that need not be paired; neither is in the public code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice, derive_seed
from benchmark.core.registry import method
from benchmark.training.samplers import Batch, IndependentSampler, Sampler, TupleSampler
from benchmark.training.train import (
    STATE,
    Adam,
    Objective,
    Params,
    Phase,
    Select,
    Terms,
    build_replicas,
    train_phase,
)

from .blocks.joint import IMAGE_TEXT, each_replica, in_roles, select_by_scores
from .blocks.layers import BatchNorm

State = dict[str, Tensor]
PAIRS = 32768
"""Pairs scored at once: 128 MiB per activation of 1024 columns."""
ROWS = 4096
"""Rows that get their features at once."""


@dataclass(frozen=True)
class DRSLConfig:
    """Hyper-parameters; defaults are those of the public code (XMediaNet).

    Attributes:
        hidden: Widths of the hidden layers of both feature networks.
        features: Width of the features that are compared.
        relation: Widths of the relation network's hidden layers.
        epochs: Number of epochs.
        batch: Tuples per batch; the relation network sees its square.
        lr: Learning rate before the first decay.
        decay: Factor of the learning rate per epoch, the first included.
        betas: Adam's decay rates.
        weight_decay: Coupled, on all parameters.
        reduction: What the sum of squares is divided by: ``batch`` (n) or ``pairs`` (n^2).
        sampler: ``tuples`` of one class, or ``independent`` batches of images and of texts.
        select: Epoch kept: the ``last``, or the one with the best validation MAP (``val``).
    """

    hidden: tuple[int, ...] = (1024, 1024)
    features: int = 300
    relation: tuple[int, ...] = (1024, 1024)
    epochs: int = 20
    batch: int = 200
    lr: float = 1e-4
    decay: float = 0.98
    betas: tuple[float, float] = (0.5, 0.99)
    weight_decay: float = 1e-4
    reduction: str = "batch"
    sampler: str = "tuples"
    select: str = "last"

    def __post_init__(self) -> None:
        choice("reduction", self.reduction, ("batch", "pairs"))
        choice("sampler", self.sampler, ("tuples", "independent"))
        choice("select", self.select, ("last", "val"))
        if self.epochs < 1 or self.batch < 2 or min(*self.hidden, *self.relation, self.features) < 1:
            raise ValueError("epochs and widths must be positive, and batch at least 2")
        if not self.relation:
            raise ValueError("relation must name at least one hidden layer")
        if min(self.lr, self.decay, self.weight_decay) < 0:
            raise ValueError("lr, decay and weight_decay must not be negative")


class PairNorm(BatchNorm):
    """Batch normalisation of the n m rows ``u_i + t_j``, given the halves."""

    def train_halves(self, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor, State]:
        """Halves whose sums are the normalised rows, and the new running statistics by their names.

        Over the full grid the mean of the sums is the sum of the means, and the biased variance is the sum of
        the variances.

        Args:
            u: ``(n, width)``.
            t: ``(m, width)``.
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
    """Blocks of a linear layer, batch normalisation and ReLU; the last one included.

    Args:
        sizes: Widths, input and output included.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(BatchNorm(b) for b in sizes[1:])

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
    """Scores of all combinations of two sets of features.

    Args:
        features: Width of either set.
        hidden: Widths of the hidden layers.
    """

    def __init__(self, features: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        sizes = [2 * features, *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList([PairNorm(sizes[1]), *map(BatchNorm, sizes[2:])])
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
        for some in u.split(max(1, pairs // max(len(b), 1))):
            x = _grid(some, t).relu_()
            for weight, bias in folded:
                x = torch.nn.functional.linear(x, weight, bias).relu_()
            blocks.append(self.last(x).reshape(len(some), len(b)))
        return torch.cat(blocks)

    def _folded(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The further layers with their normalisations in weight and bias."""
        for layer, norm in zip(list(self.layers)[1:], list(self.norms)[1:], strict=True):
            scale = (norm.running_var + norm.eps).rsqrt() * norm.weight
            yield layer.weight * scale[:, None], (layer.bias - norm.running_mean) * scale + norm.bias


def _grid(u: Tensor, t: Tensor) -> Tensor:
    """All sums ``u_i + t_j``, ``(n m, h)``, the row of ``u`` outside."""
    return (u[:, None] + t[None]).flatten(0, 1)


class DRSLNet(nn.Module):
    """Both feature networks and the relation network.

    Args:
        config: Hyper-parameters.
        widths: Of the image and of the text features.
    """

    def __init__(self, config: DRSLConfig, widths: tuple[int, int]) -> None:
        super().__init__()
        self.image, self.text = (FeatureNet((width, *config.hidden, config.features)) for width in widths)
        self.relation = RelationNet(config.features, tuple(config.relation))

    def train_pairs(self, image: Tensor, text: Tensor) -> tuple[Tensor, State]:
        """Scores ``(n, m)`` by the statistics of the batch, and all new running statistics by their names."""
        a, of_image = self.image.train_rows(image)
        b, of_text = self.text.train_rows(text)
        scores, of_pairs = self.relation.train_pairs(a, b)
        parts = {"image": of_image, "text": of_text, "relation": of_pairs}
        return scores, {f"{part}.{n}": v for part, state in parts.items() for n, v in state.items()}

    def score(self, image: Tensor, text: Tensor) -> Tensor:
        """Scores ``(n, m)`` by the running statistics."""
        a = torch.cat([self.image(rows) for rows in image.split(ROWS)])
        b = torch.cat([self.text(rows) for rows in text.split(ROWS)])
        scores: Tensor = self.relation(a, b)
        return scores

    def forward(self, image: Tensor, text: Tensor, train: bool) -> Any:
        """:meth:`train_pairs` or :meth:`score`."""
        return self.train_pairs(image, text) if train else self.score(image, text)


def relational_loss(scores: Tensor, target: Tensor, reduction: str = "batch") -> Tensor:
    """Sum of squares over all pairs, divided by the geometric mean of n and m, or by the number of pairs.

    Args:
        scores: ``(n, m)``.
        target: ``(n, m)``, 1 or 0.
        reduction: ``batch`` or ``pairs``.
    """
    pairs = scores.shape[0] * scores.shape[1]
    return ((scores - target) ** 2).sum() / (pairs if reduction == "pairs" else pairs**0.5)


def same_class(a: Tensor, b: Tensor) -> Tensor:
    """``(n, m)`` boolean: label rows ``(n, C)`` and ``(m, C)`` share a class."""
    return a @ b.mT > 0


def loss_of(config: DRSLConfig, net: DRSLNet) -> Callable[[Params, Batch, Params], Terms]:
    """L of one replica, with the mean score of pairs of one class and of pairs of two.

    The means show a collapse to all scores 0, which many classes invite.
    """

    def loss(params: Params, batch: Batch, now: Params) -> Terms:  # noqa: ARG001 - nothing but the model counts
        scores, state = functional_call(net, params, (batch["x/image"], batch["x/text"], True))
        target = same_class(batch["y/image"], batch["y/text"]).to(scores.dtype)
        return {
            "total": relational_loss(scores, target, config.reduction),
            "same": (scores * target).sum() / target.sum().clamp_min(1),
            "different": (scores * (1 - target)).sum() / (1 - target).sum().clamp_min(1),
            **{f"{STATE}{name}": value for name, value in state.items()},
        }

    return loss


def phase_of(config: DRSLConfig, net: DRSLNet, sampler: Sampler, val: Split | None, run: Run) -> Phase:
    """All training.

    Args:
        config: Hyper-parameters.
        net: Weightless template.
        sampler: Serves batches.
        val: Validation rows to select by; ``None`` where the last epoch is kept.
        run: Gives device and type.
    """

    def score(params: Params, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        scores: Tensor = functional_call(net, params, (image, text, False))
        return scores, scores.mT

    def factor(epoch: int, update: int) -> float:  # noqa: ARG001 - constant within an epoch
        return config.decay ** (epoch + 1)

    adam = Adam(config.lr, config.betas, weight_decay=config.weight_decay)
    return Phase(
        name="drsl",
        epochs=config.epochs,
        sampler=sampler,
        objectives=(Objective(loss_of(config, net), adam, factor=factor),),
        state=tuple(name for name, _ in net.named_buffers()),
        validate=None if val is None else select_by_scores(score, val, run),
        select=Select() if val is None else Select("max", "map"),
    )


class DRSLRetriever(Retriever):
    """Scores pairs with the weights and statistics of one seed; the first modality has the image's part."""

    def __init__(self, net: DRSLNet, params: Params, names: Sequence[str] = IMAGE_TEXT) -> None:
        self.net, self.params, self.roles = net, params, dict(zip(names, IMAGE_TEXT, strict=True))
        self.last: tuple[Tensor, Tensor, tuple[int, int], Tensor] | None = None

    def similarity(self, query: str, queries: Tensor, database: str, items: Tensor) -> Tensor:
        """Scores of every image and text, ``(n_q, n_d)``; both directions rank by the same.

        The scores of the last two tensors are remembered, so that the other direction costs nothing.
        """
        given = {self.roles[query]: queries, self.roles[database]: items}
        image, text = given["image"], given["text"]
        state = image._version, text._version  # raised by every change in place
        last = self.last
        if last is None or last[0] is not image or last[1] is not text or last[2] != state:
            with torch.no_grad():
                scores: Tensor = functional_call(self.net, self.params, (image, text, False))
            self.last = last = image, text, state, scores
        found = last[3]
        return found if self.roles[query] == "image" else found.T


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
class DRSL(Method):
    """A network that scores pairs of an image and a text."""

    Config = DRSLConfig
    config: DRSLConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        return {"hidden": (12,), "features": 8, "relation": (12, 8), "epochs": 4, "batch": 12, "lr": 1e-2}

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring."""
        config, names = self.config, train.names
        train, val = in_roles(train), in_roles(val)
        widths = train["image"].dim, train["text"].dim
        net, start = build_replicas(
            lambda: DRSLNet(config, widths),
            [derive_seed(seed, "drsl", "weights") for seed in run.seeds],
            run,
        )
        serve = TupleSampler if config.sampler == "tuples" else IndependentSampler
        sampler = serve(train, run, config.batch)
        phase = phase_of(config, net, sampler, val if config.select == "val" else None, run)
        params = train_phase(phase, start, run).params
        return [DRSLRetriever(net, each, names) for each in each_replica(params)]
