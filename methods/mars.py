"""MARS: Learning Modality-Agnostic Representation for Scalable Cross-Media Retrieval.

Y. Wang, Y. Peng, IEEE TCSVT 32(7), 2022, pp. 4765-4777. Public code: PKU-ICST-MIPL/MARS_TCSVT2021@27c87ba7.

One label network, shared, turns label rows into l; the data network of every modality has two heads with
unit rows: s (shared, used for retrieval) and e (exclusive, auxiliary). With W (d x C) fixed, the terms are

    L_ld, L_ll, L_dd   pair likelihood of l and s, of l and l, of s and s: all pairs of two label batches,
                       theta = 2 cos, similar if they share a label, mean log(1 + exp theta) - S theta
    L_c                cross entropy of s W
    L_e                log of the largest softmax entry of e W, minimised: e is made to say nothing

First modality (label and data network together):    L_ld + L_ll + L_dd + alpha1 L_c + beta1 L_e
Every later modality (label network frozen):         L_ld + L_dd + alpha2 L_c + beta2 L_e

l comes from label rows in an order of their own, not those of the batch's features. L_c and L_e are means
over the labelled rows; in the pair terms an unlabelled row is unlike every other. Only which modality is
first matters: later ones do not influence each other.

Where this differs from the public code:
- a modality smaller than the batch is served whole (there: no step, then a failure);
- rows without length (a data network whose trunk is off has such) do not divide by 0 (there: NaN for good);
  a batch without labelled rows has L_c = L_e = 0 (there: NaN);
- a loss that is not finite stops the run (there: the features of the last finite epoch are silently kept);
- random streams are derived per seed and modality; W is drawn from the run's seed (there: read from a file,
  which the variant ``published`` reproduces by ``prior_seed``).
Kept on purpose: the public code means to keep the best epoch and keeps the last (``select``); it computes the
cross entropy of l W, but does not minimise it.

``prior`` puts another matrix in the place of W. Its column lengths act as an inverse temperature in L_c and
L_e; ``prior_scale`` is ``unit`` so that the published weights keep their meaning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from benchmark.core.config import Rates, Weight, Widths
from benchmark.core.data import Split
from benchmark.core.method import FitLog, Retriever, RunContext, derive_seed
from benchmark.core.registry import method
from benchmark.training import Batch, Model, Params, Phase, RowSampler, Sampler, Select, Terms, build_replicas

from .blocks.base import separate_retrievers
from .blocks.layers import MLP, Stack, part_of, unit_rows
from .blocks.losses import cross_entropy, labelled_mean, pair_likelihood
from .blocks.prior import PriorConfig, PriorHost, SPLConfig


class MARSConfig(PriorConfig):
    """Hyper-parameters, beside those of :class:`PriorConfig`.

    Attributes:
        trunk: Widths of the data network's hidden layers.
        label_hidden: Widths of the label network's hidden layers.
        lr: Learning rate per modality; ``default`` for those not named. The first modality's is also the
            label network's.
        alpha1, beta1: Weights of L_c and L_e for the first modality.
        alpha2, beta2: The same for later ones.
        select: Epoch kept: the ``last``, or the ``best`` validation pair term (L_ld, then L_dd).
        spl: Hyper-parameters of selective prior learning, where ``prior`` needs it.
    """

    trunk: Widths
    label_hidden: Widths
    lr: Rates
    alpha1: Weight
    beta1: Weight
    alpha2: Weight
    beta2: Weight
    select: Literal["last", "best"]
    spl: SPLConfig


class DataNetwork(nn.Module):
    """Trunk and two heads without bias.

    Args:
        width: Feature width D.
        trunk: Widths of the hidden layers.
        d: Embedding width.

    The heads start uniform in +-1/sqrt(D) with the *raw input* width D, as in the public code.
    """

    def __init__(self, width: int, trunk: Sequence[int], d: int) -> None:
        super().__init__()
        sizes = [width, *trunk]
        self.trunk = Stack(sizes)
        self.shared = nn.Linear(sizes[-1], d, bias=False)
        self.exclusive = nn.Linear(sizes[-1], d, bias=False)
        for head in (self.shared, self.exclusive):
            nn.init.uniform_(head.weight, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., D)`` features to the unit rows s and e, ``(..., d)`` each."""
        x = self.trunk(x)
        return unit_rows(self.shared(x)), unit_rows(self.exclusive(x))


def largest_log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """L_e: mean over labelled rows of ``log max_k softmax(logits)_k``, in [-log C, 0]."""
    return labelled_mean(logits.log_softmax(dim=-1).amax(dim=-1), labels)


class Networks(nn.Module):
    """The label network, which the ``first`` modality teaches, and a modality's data network."""

    def __init__(self, label: nn.Module, data: nn.Module, first: bool) -> None:
        super().__init__()
        self.label, self.data, self.first = label, data, first


def objective_terms(
    l: Tensor,  # noqa: E741 - the paper's letter
    heads: tuple[Tensor, Tensor],
    y_l: Tensor,
    y: Tensor,
    prior: Tensor,
    config: MARSConfig,
    first: bool,
) -> Terms:
    """All terms of a modality's objective.

    Args:
        l: ``(B, d)``, the label network's output for ``y_l``.
        heads: s and e, unit rows ``(B, d)``.
        y_l: ``(B, C)``, label rows of ``l``.
        y: ``(B, C)``, label rows of ``heads``.
        prior: W, ``(d, C)``.
        config: Weights.
        first: Whether the modality is the first.
    """
    s, e = heads
    alpha, beta = (config.alpha1, config.beta1) if first else (config.alpha2, config.beta2)
    ld, dd = pair_likelihood(l, s, y_l, y), pair_likelihood(s, s, y, y)
    ce, exclusive = cross_entropy(s @ prior, y), largest_log_probability(e @ prior, y)
    terms = {"ld": ld, "dd": dd, "ce": ce, "exclusive": exclusive}
    total = ld + dd + alpha * ce + beta * exclusive
    if first:
        terms["ll"] = pair_likelihood(l, l, y_l, y_l)
        total = total + terms["ll"]
    return {"total": total, **terms}


@method(
    "mars",
    title="MARS",
    paper="MARS: Learning Modality-Agnostic Representation for Scalable Cross-Media Retrieval",
    venue="TCSVT",
    year=2022,
    group="paired-free",
    modalities="many",
    version=1,
    doi="10.1109/TCSVT.2021.3136330",
)
class MARS(PriorHost):
    """A label network taught by the first modality, and one data network per modality.

    Parameters of a phase are those of both, ``label.*`` and ``data.*``.
    """

    Config = MARSConfig
    config: MARSConfig
    stage = "mars"
    best = Select("min", "pair")

    def network(self, train: Split, modality: str) -> DataNetwork:
        """The data network."""
        return DataNetwork(train[modality].dim, self.config.trunk, self.config.dim)

    def sampler(self, x: Tensor, y: Tensor, modality: str) -> RowSampler:
        """Rows, with label rows in an order of their own."""
        return RowSampler(x, y, self.config.batch, name=modality, labels=("y_l",))

    def phase(self, net: nn.Module, sampler: Sampler, held: tuple[Tensor, Tensor], modality: str) -> Phase:
        """Training of one modality, later ones of their data network alone."""
        usual = super().phase(net, sampler, held, modality)
        name, moved = ("first", ()) if net.first else ("later", ("data.",))
        decides = self.config.select == "best"  # validation takes n x n pairs
        return replace(
            usual,
            name=f"{name}/{modality}",
            objectives=(replace(usual.objectives[0], params=moved),),
            validate=usual.validate if decides else None,
            keep=moved,
        )

    def loss(self, model: Model, batch: Batch) -> Terms:
        """The objective of one batch."""
        (x, y), y_l = batch.alone, batch.extra["y_l"]
        heads = model.data(x)
        return objective_terms(model.label(y_l), heads, y_l, y, batch.now["prior"], self.config, model.first)

    def validation(self, held: tuple[Tensor, Tensor], model: Model, now: Params) -> Terms:
        """L_ld of the first modality, L_dd of a later one."""
        del now
        x, y = held
        s = self.embed(model, x)
        return {"pair": pair_likelihood(model.label(y) if model.first else s, s, y, y)}

    def embed(self, model: Model, x: Tensor) -> Tensor:
        """The unit rows s."""
        s: Tensor = model.data(x)[0]
        return s

    def fit(self, train: Split, val: Split, run: RunContext, log: FitLog) -> list[Retriever]:
        """Image first, if there is one; then the others in their order."""
        shared = self.shared(train, run, log)
        order = sorted(train.names, key=lambda name: name != "image")
        log.notes["modality_order"] = order
        seeds = [derive_seed(seed, self.stage, "label network", "weights") for seed in run.seeds]
        label_net, label = build_replicas(
            lambda: MLP(train.classes, self.config.label_hidden, self.config.dim), seeds, run
        )
        trained = {}
        for name in order:
            data_net, data = self.start(train, name, run)
            net = Networks(label_net, data_net, first=name == order[0])
            params = {f"label.{n}": p for n, p in label.items()} | {f"data.{n}": p for n, p in data.items()}
            trained[name] = self.fit_modality(name, (net, params), shared, train, val, run, log)
            label = part_of(trained[name][1], "label.") or label
        return separate_retrievers(self.embed, trained)
