"""COXI: Cross-modal retrieval based on shared proxies.

Y. Wei, L. Zheng, G. Qiu, G. Cai, International Journal of Multimedia Information Retrieval 13(1), 2024,
pp. 1-16. Public code: LigangZheng/COXI@47699480.

Every modality has three layers of its own; a fourth, shared, gives the embedding f (without activation, not
normalised), and a shared linear layer classifies it. Proxies p_c, one per class and shared by the modalities,
are trained with it. Over a batch of B pairs,

    L   = alpha L_p + beta L_d + gamma L_m
    L_p = cross entropy of the logits scale cos(f, p_c) - margin [c = y], mean over the 2B rows, against
          smoothed labels (1 - smoothing for the label, the rest in equal parts)
    L_d = cross entropy of the classifier, the sum of both modalities' means
    L_m = mean_i ||f1_i - f2_i||, not squared

The public code writes L_p with squared distances of 3 f / ||f|| to unit proxies; what that adds to the logits
is the same for all classes, and the scale is 6.

Where this differs from the public code:
- the kept epoch has the best mean MAP on validation rows (there: on half or all of the test rows, but for
  Wikipedia; ``fit`` never sees test rows, so that this is not offered);
- the last batch of an epoch is left out if it is a single pair;
- weights of the terms and margin are those the README gives for the paper; the parameter files differ.

Kept on purpose: proxies that hardly move (plain gradient descent at 1e-4; ``proxy_optimizer``), a constant
learning rate (the public schedule is never stepped), dropout on the embedding itself, drawn for every
modality by itself, and two shared layers where the README has three (``share_third_layer``). With near
orthogonal proxies logits differ by about ``scale`` - ``margin`` at most, so that with a hundred classes or
more the smoothed labels are out of reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice, derive_seed
from benchmark.core.registry import method
from benchmark.training.samplers import Batch, TupleSampler
from benchmark.training.train import (
    SGD,
    Adam,
    Group,
    Objective,
    Params,
    Phase,
    Select,
    Terms,
    build_replicas,
    train_phase,
)

from .blocks.joint import joint_retrievers, select_by_map
from .blocks.layers import dropout, part_of, unit_rows
from .blocks.losses import cross_entropy

PROXY_SCALE = 1 / 8


@dataclass(frozen=True)
class COXIConfig:
    """Hyper-parameters; defaults are the publication's for Wikipedia.

    Attributes:
        hidden: Widths of the layers before the embedding; all but the last with ReLU and dropout.
        dim: Embedding width.
        epochs: Epochs.
        batch: Pairs per batch.
        lr: Learning rate of the network.
        betas: Adam's decay rates.
        weight_decay: On the network.
        lr_proxies: Learning rate of the proxies.
        proxy_optimizer: ``sgd`` without momentum, or ``adam``, which moves them for real; neither decays.
        dropout: Share of entries dropped.
        alpha: Weight of the proxy loss.
        beta: Weight of the classifier's loss.
        gamma: Weight of the distance of pairs.
        margin: Subtracted from the logit of the label.
        scale: Of the cosines.
        smoothing: Share of the label that goes to the other classes.
        share_third_layer: Whether the modalities share the last layer of ``hidden``.
        select: Epoch kept: best validation ``map``, or the ``last``.
    """

    hidden: tuple[int, ...] = (2048, 2048, 1024)
    dim: int = 512
    epochs: int = 200
    batch: int = 128
    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-4
    lr_proxies: float = 1e-4
    proxy_optimizer: str = "sgd"
    dropout: float = 0.1
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    margin: float = 0.5
    scale: float = 6.0
    smoothing: float = 0.1
    share_third_layer: bool = False
    select: str = "map"

    def __post_init__(self) -> None:
        choice("proxy_optimizer", self.proxy_optimizer, ("sgd", "adam"))
        choice("select", self.select, ("map", "last"))
        if not self.hidden or min(*self.hidden, self.dim, self.epochs, self.batch) < 1:
            raise ValueError("hidden must name a layer, and hidden, dim, epochs and batch must be positive")
        if not (0 <= self.dropout < 1 and 0 <= self.smoothing <= 1):
            raise ValueError("dropout must lie in 0..1, below 1, and smoothing in 0..1")
        rates = (self.lr, self.lr_proxies, self.weight_decay, self.alpha, self.beta, self.gamma)
        if min(rates) < 0:
            raise ValueError("learning rates, weight_decay, alpha, beta and gamma must not be negative")


class Encoder(nn.Module):
    """Layers of every modality, then one they share.

    Args:
        widths: Feature width of both modalities.
        config: Widths, dropout, and which layers are shared.
    """

    def __init__(self, widths: Mapping[str, int], config: COXIConfig) -> None:
        super().__init__()
        self.names, self.share = tuple(widths), config.dropout
        *own, last = config.hidden
        self.own = nn.ModuleList(
            nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((width, *own))) for width in widths.values()
        )
        inner = [own[-1]] * len(widths) if own else list(widths.values())
        if config.share_third_layer:
            inner = inner[:1]
        self.third = nn.ModuleList(nn.Linear(width, last) for width in inner)
        self.shared = nn.Linear(last, config.dim)

    def forward(self, modality: str, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """``(B, D)`` features to ``(B, d)`` embeddings.

        Args:
            modality: Whose features.
            x: Features.
            keys: ``(B,)`` int64 from which dropout draws; none: no dropout.
        """
        place = self.names.index(modality)
        layers = self.own[place]
        stream = place * (len(layers) + 1)  # another one for every layer of every modality
        for number, layer in enumerate(layers):
            x = self._dropped(layer(x).relu(), keys, stream + number)
        third = self.third[place if len(self.third) > 1 else 0]
        return self._dropped(self.shared(third(x)), keys, stream + len(layers))

    def _dropped(self, x: Tensor, keys: Tensor | None, stream: int) -> Tensor:
        return x if keys is None else dropout(x, self.share, keys, stream)


class COXINet(nn.Module):
    """Encoder, classifier and proxies.

    Args:
        widths: Feature width of both modalities.
        config: Widths and options.
        classes: Number of classes.
    """

    def __init__(self, widths: Mapping[str, int], config: COXIConfig, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(widths, config)
        self.classifier = nn.Linear(config.dim, classes)
        self.proxies = nn.Parameter(PROXY_SCALE * torch.randn(classes, config.dim))

    def forward(self, modality: str, x: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(B, D)`` features to ``(B, d)`` embeddings and ``(B, C)`` logits."""
        f = self.encoder(modality, x, keys)
        return f, self.classifier(f)


def smoothed_labels(labels: Tensor, smoothing: float) -> Tensor:
    """One-hot ``(B, C)`` with ``smoothing`` taken from the label and shared out among the other classes."""
    rest = smoothing / max(labels.shape[-1] - 1, 1)
    return rest + (1 - smoothing - rest) * labels


def proxy_loss(
    rows: Tensor, labels: Tensor, proxies: Tensor, margin: float, scale: float, smoothing: float
) -> Tensor:
    """L_p.

    Args:
        rows: Embeddings ``(N, d)`` of any length.
        labels: One-hot ``(N, C)``.
        proxies: ``(C, d)`` of any length.
        margin: Subtracted from the logit of the label.
        scale: Of the cosines.
        smoothing: See :func:`smoothed_labels`.
    """
    logits = scale * (unit_rows(rows) @ unit_rows(proxies).mT) - margin * labels
    return -(smoothed_labels(labels, smoothing) * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


def objective_terms(
    embedded: tuple[Tensor, Tensor],
    logits: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor],
    proxies: Tensor,
    config: COXIConfig,
) -> Terms:
    """All terms of L.

    Args:
        embedded: f1 and f2, ``(B, d)``.
        logits: Of the classifier, ``(B, C)``.
        labels: One-hot ``(B, C)``; they differ only where labels are noisy.
        proxies: ``(C, d)``.
        config: Weights and constants.
    """
    rows, own = torch.cat(embedded), torch.cat(labels)
    proxy = proxy_loss(rows, own, proxies, config.margin, config.scale, config.smoothing)
    label = cross_entropy(logits[0], labels[0]) + cross_entropy(logits[1], labels[1])
    distance = torch.linalg.vector_norm(embedded[0] - embedded[1], dim=-1).mean()
    total = config.alpha * proxy + config.beta * label + config.gamma * distance
    return {"total": total, "proxy": proxy, "label": label, "distance": distance}


def coxi_objective(config: COXIConfig, loss: Callable[..., Terms]) -> Objective:
    """The loss with the optimisers of the network and of the proxies."""
    rate = config.lr_proxies
    of_proxies = SGD(rate) if config.proxy_optimizer == "sgd" else Adam(rate, config.betas)
    network = Adam(config.lr, config.betas, weight_decay=config.weight_decay)
    return Objective(loss, network, groups=(Group(("proxies",), of_proxies),))


def coxi_phase(
    config: COXIConfig, net: COXINet, sampler: TupleSampler, validate: Callable[[Params, Params], Terms]
) -> Phase:
    """Training of network and proxies.

    Args:
        config: Hyper-parameters.
        net: Weightless template.
        sampler: Pairs.
        validate: Gives ``map``.
    """
    names = net.encoder.names

    def loss(params: Params, batch: Batch, now: Params) -> Terms:  # noqa: ARG001 - nothing is scheduled
        found = [functional_call(net, params, (n, batch[f"x/{n}"], batch["key"])) for n in names]
        (f1, logits1), (f2, logits2) = found
        labels = batch[f"y/{names[0]}"], batch[f"y/{names[1]}"]
        return objective_terms((f1, f2), (logits1, logits2), labels, params["proxies"], config)

    return Phase(
        name="coxi",
        epochs=config.epochs,
        sampler=sampler,
        objectives=(coxi_objective(config, loss),),
        validate=validate,
        select=Select("last") if config.select == "last" else Select("max", "map"),
        keep=("encoder.",),
    )


@method(
    "coxi",
    title="COXI",
    paper="Cross-modal retrieval based on shared proxies",
    venue="IJMIR",
    year=2024,
    group="paired-oriented",
    modalities="two",
    pairwise=True,
    multilabel=False,
    version=1,
    doi="10.1007/s13735-023-00316-1",
)
class COXI(Method):
    """Two networks with a shared end, drawn to class proxies they share."""

    Config = COXIConfig
    config: COXIConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        return {"hidden": (16, 16, 12), "dim": 12, "epochs": 4, "batch": 16, "lr": 1e-3}

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring."""
        config = self.config
        widths = {m.name: m.dim for m in train}
        net, start = build_replicas(
            lambda: COXINet(widths, config, train.classes),
            [derive_seed(seed, "coxi", "weights") for seed in run.seeds],
            run,
        )

        def embed(params: Params, modality: str, x: Tensor) -> Tensor:
            found: Tensor = functional_call(net.encoder, part_of(params, "encoder."), (modality, x))
            return found

        sampler = TupleSampler(train, run, config.batch)
        phase = coxi_phase(config, net, sampler, select_by_map(embed, val, run))
        return joint_retrievers(embed, train_phase(phase, start, run).params)
