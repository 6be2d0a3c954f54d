"""GNN4CMR: dual adversarial graph neural networks with multi-label contrastive learning.

S. Qian, D. Xue, Q. Fang, C. Xu, "Integrating Multi-Label Contrastive Learning With Dual Adversarial Graph
Neural Networks for Cross-Modal Retrieval", IEEE TPAMI 45(4), 2023, pp. 4794-4811. Public code:
LivXue/GNN4CMR@2c13673e.

Per modality an encoder (batch norm, linear, ReLU) gives embeddings u and v. A decoder makes features of one
modality from the embedding of the other, and a discriminator per feature space tells them from true ones. A
graph network over the classes (``methods/graph.py``) gives classifiers, and p, q are the cosines of u and v
with these. Over a batch of n pairs, all of it in one step of one optimiser,

    J = alpha J_cls + J_con + beta J_adv
    J_cls = mean_i ||p_i - y_i|| + mean_i ||q_i - y_i||                     (norms that are not squared)
    J_con = h(UV'/tau, Pos) + h(VU'/tau, Pos) + intra [h(UU'/tau, Pos0) + h(VV'/tau, Pos0)], unit rows
    h(Z, Q) = -(1/n) sum_ij Q_ij [Z_ij - log sum_k exp(spread Z_ik)]
    J_adv = CE(D1(x1), 1) + CE(D1(made x1), 0) + CE(D2(made x2), 1) + CE(D2(x2), 0)

Pos has rows of equal weights on the items that share a label, Pos0 the same without the item itself. The
gradient of J_adv is reversed where it enters a discriminator. Retrieval compares u and v by cosine.

``model`` is ``p_gnn``: the graph is fixed, from the co-occurrence of labels; or ``i_gnn``: half of it is the
cosines of the initial node features, half the mean of those of ``heads`` learned reweightings of the current
ones, each without values below ``threshold``.

Where this differs from the public code:
- the kept epoch has the best validation MAP (there: best test MAP, which is not offered here);
- a last batch of one pair is left out (there: an error); a class without training items has no edges (there:
  NaN); rows without length have cosine 0 and pass no gradient;
- discriminators of narrow features have at least ``disc_min_width`` units per layer (there: none below 16
  columns);
- which decoder a modality gets depends on its kind: image, video and 3d the wide one with ReLU, others the
  narrow one with leaky ReLU; the class code 1 or 0 goes by position in the pair (there: image and text only);
- where training labels are noisy, each modality's terms use its own;
- attention layers in place of graph convolutions, which are off there, and the second phase for missing
  modalities are not offered.

Kept on purpose: true and made features pass a discriminator in separate batches, each standardised by its own
statistics, which hides differences of mean and scale. Decoders and discriminators receive gradient from J_adv
alone and the graph network from J_cls alone, so that with Adam ``alpha`` and ``beta`` change only what
reaches the encoders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice, derive_seed
from benchmark.core.registry import method
from benchmark.training.samplers import Batch, Sampler, TupleSampler
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

from .blocks.adversarial import Block, Pass, adversarial_loss, reverse_gradient
from .blocks.graph import (
    CONDITIONS,
    FILE,
    LabelNet,
    check_nodes,
    class_rows,
    cosine_graph,
    head_graph,
    label_distance,
    label_scores,
    normalized,
    starting_nodes,
    static_graph,
    training_labels,
)
from .blocks.joint import Embed, joint_retrievers, select_by_map
from .blocks.layers import part_of, unit_rows

MODELS = ("p_gnn", "i_gnn")
IMAGE_KINDS = ("image", "video", "3d")
"""Modalities that are decoded as images are; all others as texts."""
WEIGHT_FLOOR = 1e-6


@dataclass(frozen=True)
class GNN4CMRConfig:
    """Hyper-parameters; defaults are those of the public code, ``alpha`` and ``beta`` those for MIRFlickr.

    Attributes:
        model: ``p_gnn`` or ``i_gnn``.
        node_features: Where the classes start, see ``methods/graph.py``. Those of a file are not learned by
            ``p_gnn``. ``i_gnn`` refuses ``learned_uniform``: all cosines would exceed the threshold, and a
            complete graph makes all classifiers the same.
        dim: Embedding width, also that of the graph layers.
        node_dim: Width of the node features.
        layers: Graph layers.
        heads: Reweightings of the node features, for ``i_gnn``.
        decoder_image: Width of the hidden layer of decoders for image, video and 3d.
        decoder_text: Width of the hidden layer of the other decoders.
        disc_shares: Feature width by width of a discriminator's hidden layers.
        disc_min_width: Least width of a discriminator's hidden layers.
        epochs: Passes over the pairs.
        min_updates: Where ``epochs`` passes have fewer updates than this, there are more passes.
        batch: Pairs per step; the last, smaller batch is served unless it is a single pair.
        lr: Learning rate.
        betas: Adam's decay rates.
        alpha: Weight of J_cls.
        beta: Weight of J_adv.
        tau: Temperature of J_con.
        intra: Weight of its parts within a modality.
        spread: Factor of the logits in its denominators.
        label_sim: Weights of positives of several labels: ``binary`` (any shared), or ``jaccard``.
        threshold: Share of a class's items from which another class is its neighbour, and least cosine of
            neighbours in ``i_gnn``.
        condition: Orientation of the edges of ``p_gnn``, ``column`` or ``row``, see ``methods/graph.py``.
        select: Epoch kept: best validation ``map``, or the ``last``.
    """

    model: str = "p_gnn"
    node_features: str = "learned_uniform"
    dim: int = 1024
    node_dim: int = 300
    layers: int = 5
    heads: int = 8
    decoder_image: int = 2048
    decoder_text: int = 512
    disc_shares: tuple[int, ...] = (4, 16)
    disc_min_width: int = 1
    epochs: int = 40
    min_updates: int = 0
    batch: int = 100
    lr: float = 5e-5
    betas: tuple[float, float] = (0.5, 0.999)
    alpha: float = 0.5
    beta: float = 2.0
    tau: float = 0.22
    intra: float = 0.14
    spread: float = 1.06
    label_sim: str = "binary"
    threshold: float = 0.4
    condition: str = "column"
    select: str = "map"

    def __post_init__(self) -> None:
        choice("model", self.model, MODELS)
        choice("label_sim", self.label_sim, ("binary", "jaccard"))
        choice("condition", self.condition, CONDITIONS)
        choice("select", self.select, ("map", "last"))
        check_nodes(self.node_features)
        if self.model == "i_gnn" and self.node_features == "learned_uniform":
            raise ValueError(
                "model i_gnn needs other node_features than learned_uniform (all of whose cosines exceed the "
                "threshold); class_mean, say"
            )
        widths = (self.dim, self.node_dim, self.decoder_image, self.decoder_text, self.disc_min_width)
        counts = (self.layers, self.heads, self.epochs, self.batch, *self.disc_shares)
        if min(*widths, *counts) < 1 or self.min_updates < 0:
            raise ValueError("widths, layers, heads, epochs and batch must be positive")
        if min(self.lr, self.alpha, self.beta, self.intra) < 0 or min(self.tau, self.spread) <= 0:
            raise ValueError("weights and lr must not be negative, tau and spread positive")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie in 0..1 and not be 0, got {self.threshold}")


class GNN4CMRNet(nn.Module):
    """All networks; decoders and discriminators are named by the modality they make or judge.

    Args:
        widths: Feature width per modality, the one in the role of class 1 first.
        nodes: Node features, ``(C, node_dim)``.
        config: Hyper-parameters.
    """

    def __init__(self, widths: Mapping[str, int], nodes: Tensor, config: GNN4CMRConfig) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: Block((d, config.dim)) for name, d in widths.items()})
        self.decoders = nn.ModuleDict(
            {
                name: Block((config.dim, config.decoder_image, d))
                if name in IMAGE_KINDS
                else Block((config.dim, config.decoder_text, d), 0.2)
                for name, d in widths.items()
            }
        )
        self.discriminators = nn.ModuleDict()
        for name, d in widths.items():
            hidden = (max(config.disc_min_width, d // share) for share in config.disc_shares)
            self.discriminators[name] = Block((d, *hidden, 2), bare=True)
        learned = config.model == "i_gnn" or not config.node_features.startswith(FILE)
        self.labels = LabelNet(nodes, learned, config.dim, config.layers)
        if config.model == "i_gnn":
            self.heads = nn.Parameter(torch.empty(config.heads, nodes.shape[1]).uniform_(0.3, 0.6))


def shared_labels(a: Tensor, b: Tensor, kind: str) -> Tensor:
    """Similarity of label rows, ``(n, m)``: whether any is shared; ``jaccard``: the shared part."""
    shared = a @ b.mT
    if kind == "binary":
        return (shared > 0.5).to(shared.dtype)
    union = a.sum(dim=-1)[:, None] + b.sum(dim=-1)[None, :] - shared
    return shared / union.clamp_min(1)


def contrast(logits: Tensor, similar: Tensor, spread: float) -> Tensor:
    """h(Z, Q), where the rows of Q are those of ``similar`` divided by their sums; both ``(n, m)``."""
    weights = similar / similar.sum(dim=1, keepdim=True).clamp_min(WEIGHT_FLOOR)
    return -(weights * (logits - torch.logsumexp(spread * logits, dim=1, keepdim=True))).sum(dim=1).mean()


def contrastive_loss(
    features: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor], config: GNN4CMRConfig
) -> tuple[Tensor, Tensor]:
    """The part of J_con across the modalities, and that within, not yet weighted.

    Args:
        features: u and v, ``(n, d)`` each.
        labels: Label rows of both modalities, ``(n, C)`` each.
        config: Gives temperature, spread and the similarity of labels.
    """
    u, v = (unit_rows(each) for each in features)
    y_u, y_v = labels
    across = shared_labels(y_u, y_v, config.label_sim)
    logits = u @ v.mT / config.tau
    inter = contrast(logits, across, config.spread) + contrast(logits.mT, across.mT, config.spread)
    others = 1 - torch.eye(len(u), dtype=u.dtype, device=u.device)
    intra = sum(
        contrast(x @ x.mT / config.tau, others * shared_labels(y, y, config.label_sim), config.spread)
        for x, y in ((u, y_u), (v, y_v))
    )
    return inter, intra


def forward_pass(
    net: GNN4CMRNet, params: Params, x: tuple[Tensor, Tensor], graph: Tensor, config: GNN4CMRConfig
) -> tuple[dict[str, Tensor], Params]:
    """Everything J needs, and the new running statistics.

    Args:
        net: Weightless template.
        params: Parameters and statistics of one replica.
        x: Features of both modalities, ``(n, D)`` each.
        graph: ``(C, C)``: the normalised graph of ``p_gnn``; the fixed half of that of ``i_gnn``.
        config: Hyper-parameters.
    """
    a, b = net.encoders
    block = Pass(net, params)
    u, v = block(f"encoders.{a}", x[0]), block(f"encoders.{b}", x[1])
    made_a, made_b = block(f"decoders.{a}", v), block(f"decoders.{b}", u)
    if config.model == "i_gnn":
        learned = head_graph(params["labels.nodes"], params["heads"], config.threshold)
        graph = normalized(0.5 * graph + 0.5 * learned)
    classifiers = functional_call(net.labels, part_of(params, "labels."), (graph,))
    found = {"u": u, "v": v, "p": label_scores(u, classifiers), "q": label_scores(v, classifiers)}
    # true before made rows for the first judge, after them for the second, as running statistics average them
    for name, judge, rows in (
        ("true_a", a, x[0]),
        ("made_a", a, made_a),
        ("made_b", b, made_b),
        ("true_b", b, x[1]),
    ):
        found[name] = block(f"discriminators.{judge}", reverse_gradient(rows))
    return {**found, "classifiers": classifiers, "graph": graph}, block.state


def objective_terms(
    found: Mapping[str, Tensor], labels: tuple[Tensor, Tensor], config: GNN4CMRConfig
) -> Terms:
    """All terms of J from what ``forward_pass`` gives, with label rows ``(n, C)`` of both modalities."""
    label = label_distance(found["p"], labels[0]) + label_distance(found["q"], labels[1])
    inter, intra = contrastive_loss((found["u"], found["v"]), labels, config)
    contrastive = inter + config.intra * intra
    adversarial = adversarial_loss(found["true_a"], found["made_a"], found["made_b"], found["true_b"])
    return {
        "total": config.alpha * label + contrastive + config.beta * adversarial,
        "label": label,
        "contrastive": contrastive,
        "adversarial": adversarial,
    }


def embed_with(net: GNN4CMRNet) -> Embed:
    """The embedding of one replica, by the running statistics."""

    def embed(params: Params, modality: str, x: Tensor) -> Tensor:
        return functional_call(net.encoders[modality], part_of(params, f"encoders.{modality}."), (x,))[0]

    return embed


def gnn4cmr_phase(config: GNN4CMRConfig, net: GNN4CMRNet, sampler: Sampler, graph: Tensor) -> Phase:
    """Training, keeping the last epoch.

    Args:
        config: Hyper-parameters.
        net: Weightless template.
        sampler: Batches of pairs.
        graph: The graph of every replica, ``(R, C, C)``, see ``forward_pass``.
    """
    a, b = net.encoders

    def loss(params: Params, batch: Batch, now: Params) -> Terms:
        x = batch[f"x/{a}"], batch[f"x/{b}"]
        found, state = forward_pass(net, params, x, now["graph"], config)
        terms = objective_terms(found, (batch[f"y/{a}"], batch[f"y/{b}"]), config)
        return terms | {f"{STATE}{name}": value for name, value in state.items()}

    return Phase(
        name=f"gnn4cmr/{a}-{b}",
        epochs=max(config.epochs, math.ceil(config.min_updates / len(sampler.sizes))),
        sampler=sampler,
        objectives=(Objective(loss, Adam(config.lr, config.betas)),),
        constants={"graph": graph},
        state=tuple(name for name, _ in net.named_buffers()),
    )


@method(
    "gnn4cmr",
    title="GNN4CMR",
    paper="Integrating Multi-Label Contrastive Learning With Dual Adversarial Graph Neural Networks for "
    "Cross-Modal Retrieval",
    venue="TPAMI",
    year=2023,
    group="paired-oriented",
    modalities="two",
    pairwise=True,
    version=1,
    doi="10.1109/TPAMI.2022.3188547",
)
class GNN4CMR(Method):
    """Contrastive and adversarial training of two encoders, with classifiers from a graph of labels."""

    Config = GNN4CMRConfig
    config: GNN4CMRConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        widths = {"dim": 16, "node_dim": 8, "decoder_image": 16, "decoder_text": 16, "layers": 2, "heads": 2}
        return {**widths, "epochs": 3, "batch": 16, "lr": 1e-3}

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring."""
        config = self.config
        texts = [name for name in train.names if name not in IMAGE_KINDS]
        fixed = class_rows(config.node_features, train, (*texts, train.names[1])[0], config.node_dim, run)
        widths = {m.name: m.dim for m in train}

        def build() -> GNN4CMRNet:
            nodes = starting_nodes(config.node_features, fixed, train.classes, config.node_dim)
            return GNN4CMRNet(widths, nodes, config)

        seeds = [derive_seed(seed, "gnn4cmr", *train.names, "weights") for seed in run.seeds]
        net, start = build_replicas(build, seeds, run)
        graph = self._graph(train, start["labels.nodes"], run)
        phase = gnn4cmr_phase(config, net, TupleSampler(train, run, config.batch), graph)
        embed = embed_with(net)
        select = Select("last") if config.select == "last" else Select("max", "map")
        phase = replace(phase, validate=select_by_map(embed, val, run), select=select, keep=("encoders.",))
        return joint_retrievers(embed, train_phase(phase, start, run).params)

    def _graph(self, train: Split, nodes: Tensor, run: Run) -> Tensor:
        """What ``forward_pass`` needs of every replica, ``(R, C, C)``, given nodes ``(R, C, d)``."""
        config = self.config
        if config.model == "i_gnn":
            return cosine_graph(nodes, config.threshold)
        static = static_graph(training_labels(train, run), config.threshold, config.condition)
        graph = normalized(static).to(run.dtype)
        return graph.expand(len(run.seeds), *graph.shape)
