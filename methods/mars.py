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
  which ``prior_seed=123`` reproduces).
Kept on purpose: the public code means to keep the best epoch and keeps the last (``select``); it computes the
cross entropy of l W and does not use it (``label_ce_weight``).

``prior`` puts another matrix in the place of W. Its column lengths act as an inverse temperature in L_c and
L_e; ``prior_scale`` is ``unit`` so that the published weights keep their meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice, derive_seed
from benchmark.core.registry import method
from benchmark.errors import UnknownNameError, UnsupportedError
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
from .blocks.layers import MLP, part_of, unit_rows
from .blocks.losses import cross_entropy, labelled_mean, pair_likelihood
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
class MARSConfig:
    """Hyper-parameters; defaults are the public code's for XMedia.

    Attributes:
        trunk: Widths of the data network's hidden layers.
        label_hidden: Widths of the label network's hidden layers.
        dim: Embedding width d.
        epochs: Epochs per modality.
        batch: Batch size; a smaller modality is served whole.
        lr: Learning rate per modality; ``default`` for those not named. The first modality's is also the
            label network's.
        betas: Adam's decay rates.
        alpha1, beta1: Weights of L_c and L_e for the first modality.
        alpha2, beta2: The same for later ones.
        label_ce_weight: Weight of the cross entropy of l W for the first modality; 0 in the public code.
        modality_order: Names in training order; the first trains the label network. Those not named follow.
            Empty: image, if there is one, then the dataset's order.
        select: Epoch kept: the ``last``, or the ``best`` validation pair term (L_ld, then L_dd).
        prior: Where W comes from, see ``methods/prior.py``.
        prior_scale: Lengths of its columns: ``unit``, ``mean``, ``polar`` or ``none``.
        prior_seed: Seed of the orthogonal columns, the same for all seeds of a run; -1: each seed its own.
        spl: Hyper-parameters of selective prior learning where ``prior`` needs it, as ``SPLConfig`` names
            them; its defaults for those not named.
    """

    trunk: tuple[int, ...] = (2048, 1024)
    label_hidden: tuple[int, ...] = (1024, 1024)
    dim: int = 128
    epochs: int = 200
    batch: int = 64
    lr: Mapping[str, float] = field(
        default_factory=lambda: {"image": 1e-4, "text": 2e-4, "audio": 1e-4, "default": 2e-4}
    )
    betas: tuple[float, float] = (0.5, 0.999)
    alpha1: float = 1.0
    beta1: float = 0.5
    alpha2: float = 1.0
    beta2: float = 0.2
    label_ce_weight: float = 0.0
    modality_order: tuple[str, ...] = ()
    select: str = "last"
    prior: str = "orthogonal"
    prior_scale: str = "unit"
    prior_seed: int = -1
    spl: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        choice("select", self.select, ("last", "best"))
        check_source(self.prior)
        choice("prior_scale", self.prior_scale, SCALES)
        widths = (*self.trunk, *self.label_hidden, self.dim)
        if self.epochs < 1 or self.batch < 1 or min(widths) < 1 or not self.trunk:
            raise ValueError("epochs, batch, dim, trunk and label_hidden must be positive")
        if "default" not in self.lr or min(self.lr.values()) < 0:
            raise ValueError(f"lr must name a default and no negative rate, got {dict(self.lr)}")
        if isinstance(self.modality_order, str) or len(set(self.modality_order)) < len(self.modality_order):
            raise ValueError("modality_order must be a list of different names")
        spl_config(self.spl)

    def order(self, names: Sequence[str]) -> tuple[str, ...]:
        """The modalities in training order."""
        first = tuple(self.modality_order) or tuple(n for n in names if n == "image")
        return (*first, *(name for name in names if name not in first))


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
        self.trunk = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.shared = nn.Linear(sizes[-1], d, bias=False)
        self.exclusive = nn.Linear(sizes[-1], d, bias=False)
        for head in (self.shared, self.exclusive):
            nn.init.uniform_(head.weight, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., D)`` features to the unit rows s and e, ``(..., d)`` each."""
        for layer in self.trunk:
            x = layer(x).relu()
        return unit_rows(self.shared(x)), unit_rows(self.exclusive(x))


def largest_log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """L_e: mean over labelled rows of ``log max_k softmax(logits)_k``, in [-log C, 0]."""
    return labelled_mean(logits.log_softmax(dim=-1).amax(dim=-1), labels)


def data_terms(l: Tensor, s: Tensor, e: Tensor, y_l: Tensor, y: Tensor, prior: Tensor) -> Terms:  # noqa: E741 - the paper's letter
    """The terms that move a data network, without weights.

    Args:
        l: ``(B, d)``, the label network's output for ``y_l``.
        s: ``(B, d)`` unit rows of the shared head.
        e: ``(B, d)`` unit rows of the exclusive head.
        y_l: ``(B, C)``, label rows of ``l``.
        y: ``(B, C)``, label rows of ``s`` and ``e``.
        prior: W, ``(d, C)``.
    """
    return {
        "ld": pair_likelihood(l, s, y_l, y),
        "dd": pair_likelihood(s, s, y, y),
        "ce": cross_entropy(s @ prior, y),
        "exclusive": largest_log_probability(e @ prior, y),
    }


def modality_phase(
    config: MARSConfig,
    nets: tuple[MLP, DataNetwork],
    sampler: RowSampler,
    held: tuple[Tensor, Tensor],
    prior: Tensor,
    name: str,
    first: bool,
) -> Phase:
    """Training of one modality; parameters are ``label.*`` and ``data.*``.

    Args:
        config: Hyper-parameters.
        nets: Weightless templates of label and data network.
        sampler: Batches of the training rows, with further label rows ``y_l``.
        held: Validation features and labels.
        prior: W of every replica, ``(R, d, C)``.
        name: Of the modality.
        first: Whether the label network is trained as well.
    """
    label_net, data_net = nets
    alpha, beta = (config.alpha1, config.beta1) if first else (config.alpha2, config.beta2)

    def labels_of(params: Params, y: Tensor) -> Tensor:
        embedded: Tensor = functional_call(label_net, part_of(params, "label."), (y,))
        return embedded

    def loss(params: Params, batch: Batch, now: Params) -> Terms:
        y, y_l, prior = batch["y"], batch["y_l"], now["prior"]
        s, e = functional_call(data_net, part_of(params, "data."), (batch["x"],))
        l = labels_of(params, y_l)  # noqa: E741 - the paper's letter
        terms = data_terms(l, s, e, y_l, y, prior)
        total = terms["ld"] + terms["dd"] + alpha * terms["ce"] + beta * terms["exclusive"]
        if first:
            terms["ll"] = pair_likelihood(l, l, y_l, y_l)
            terms["label_ce"] = cross_entropy(l @ prior, y_l)
            total = total + terms["ll"] + config.label_ce_weight * terms["label_ce"]
        return {"total": total, **terms}

    def validate(params: Params, now: Params) -> Terms:  # noqa: ARG001 - the pair terms do not know W
        s, _ = functional_call(data_net, part_of(params, "data."), (held[0],))
        other = labels_of(params, held[1]) if first else s
        return {"pair": pair_likelihood(other, s, held[1], held[1])}

    best = config.select == "best"
    return Phase(
        name=f"{'first' if first else 'later'}/{name}",
        epochs=config.epochs,
        sampler=sampler,
        objectives=(
            Objective(
                loss,
                Adam(config.lr.get(name, config.lr["default"]), config.betas),
                () if first else ("data.",),
            ),
        ),
        constants={"prior": prior},
        validate=validate if best else None,  # n x n pairs, and decides nothing about the last epoch
        select=Select("min", "pair") if best else Select("last"),
        keep=() if first else ("data.",),
    )


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
class MARS(Method):
    """A label network taught by the first modality, and one data network per modality."""

    Config = MARSConfig
    config: MARSConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        spl = {"hidden": (16,), "epochs": 3, "batch": 16, "q_step": 0.5}
        widths = {"trunk": (16, 16), "label_hidden": (16,), "dim": 16}
        return {**widths, "epochs": 4, "batch": 16, "lr": {"default": 1e-3}, "spl": spl}

    def check(self, train: Split) -> None:
        """Also refuse an embedding narrower than the number of classes, and unknown names in the order."""
        super().check(train)
        for name in self.config.modality_order:
            if name not in train.names:
                raise UnknownNameError("modality in modality_order", name, list(train.names))
        if train.classes > self.config.dim:
            raise UnsupportedError(
                f"mars needs an embedding at least as wide as the {train.classes} classes, not "
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
        order = config.order(train.names)
        run.notes["modality_order"] = list(order)
        seeds = [derive_seed(seed, "mars", "label network", "weights") for seed in run.seeds]
        label_net, label = build_replicas(
            lambda: MLP(train.classes, config.label_hidden, config.dim), seeds, run
        )
        nets: dict[str, nn.Module] = {}
        params: dict[str, Params] = {}
        for name in order:
            nets[name], data = self._data_network(train, name, run)
            sampler = RowSampler(*split_tensors(train, name, run), config.batch, labels=("y_l",))
            held = split_tensors(val, name, run)
            templates = (label_net, nets[name])
            phase = modality_phase(config, templates, sampler, held, prior, name, name == order[0])
            trained = train_phase(phase, _named("label.", label) | _named("data.", data), run).params
            params[name] = part_of(trained, "data.")
            if name == order[0]:
                label = part_of(trained, "label.")
        return one_per_replica(nets, params)

    def _data_network(self, train: Split, name: str, run: Run) -> tuple[nn.Module, Params]:
        seeds = [derive_seed(seed, "mars", name, "weights") for seed in run.seeds]
        config = self.config
        return build_replicas(lambda: DataNetwork(train[name].dim, config.trunk, config.dim), seeds, run)


def _named(prefix: str, params: Params) -> Params:
    return {f"{prefix}{name}": tensor for name, tensor in params.items()}
