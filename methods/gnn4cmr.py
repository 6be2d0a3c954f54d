"""GNN4CMR: dual adversarial graph neural networks with multi-label contrastive learning.

S. Qian, D. Xue, Q. Fang, C. Xu, "Integrating Multi-Label Contrastive Learning With Dual Adversarial Graph
Neural Networks for Cross-Modal Retrieval", IEEE TPAMI 45(4), 2023, pp. 4794-4811. Public code:
LivXue/GNN4CMR@2c13673e.

Per modality an encoder (batch norm, linear, ReLU) gives embeddings u and v. A decoder makes features of one
modality from the embedding of the other, and a discriminator per feature space tells them from true ones. A
graph network over the classes (``blocks/graph.py``) gives classifiers, and p, q are the cosines of u and v
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
- discriminators of narrow features have at least one unit per layer (there: none below 16 columns);
- which decoder a modality gets depends on its kind: image, video and 3d the wide one with ReLU, others the
  narrow one with leaky ReLU; the class code 1 or 0 goes by position in the pair (there: image and text only);
- where training labels are noisy, each modality's terms use its own;
- attention layers in place of graph convolutions, which are off there, word vectors of the classes, which
  ``i_gnn`` asks for there, and the second phase for missing modalities are not offered.

Kept on purpose: true and made features pass a discriminator in separate batches, each standardised by its own
statistics, which hides differences of mean and scale. Decoders and discriminators receive gradient from J_adv
alone and the graph network from J_cls alone, so that with Adam ``alpha`` and ``beta`` change only what
reaches the encoders. Edges of ``p_gnn`` come from counts that divide columns, as in ALGCN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from benchmark.core.config import Count, Positive, Weight, Whole, Widths
from benchmark.core.data import Split
from benchmark.core.method import RunContext, derive_seed
from benchmark.core.registry import method
from benchmark.training import STATE, Batch, Model, Params, Phase, Sampler, Terms, build_replicas

from .blocks.adversarial import Block, Pass, adversarial_loss, judged
from .blocks.base import Joint
from .blocks.config import JointConfig
from .blocks.graph import (
    LabelNet,
    Threshold,
    class_means,
    cosine_graph,
    head_graph,
    label_graph,
    label_scores,
    normalized,
    random_nodes,
    score_distance,
)
from .blocks.layers import unit_rows
from .blocks.losses import label_overlap, shares_label

IMAGE_KINDS = ("image", "video", "3d")
"""Modalities that are decoded as images are; all others as texts."""


class GNN4CMRConfig(JointConfig):
    """Hyper-parameters, beside those of :class:`JointConfig`.

    Attributes:
        model: ``p_gnn`` or ``i_gnn``.
        node_features: Where the classes start: U[0, 1) (not for ``i_gnn``: all cosines would exceed the
            threshold, and a complete graph makes all classifiers the same), N(0, 1), or class means.
        dim: Embedding width, also that of the graph layers.
        node_dim: Width of the node features.
        layers: Graph layers.
        heads: Reweightings of the node features, for ``i_gnn``.
        decoder_image: Width of the hidden layer of decoders for image, video and 3d.
        decoder_text: Width of the hidden layer of the other decoders.
        disc_shares: Feature width by width of a discriminator's hidden layers.
        min_updates: Where ``epochs`` passes have fewer updates than this, there are more passes.
        alpha: Weight of J_cls.
        beta: Weight of J_adv.
        tau: Temperature of J_con.
        intra: Weight of its parts within a modality.
        spread: Factor of the logits in its denominators.
        label_sim: Weights of positives of several labels: ``binary`` (any shared), or ``jaccard``.
        threshold: Share of a class's items, or cosine in ``i_gnn``, from which another is its neighbour.
    """

    model: Literal["p_gnn", "i_gnn"]
    node_features: Literal["learned_uniform", "learned_normal", "class_mean"]
    dim: Count
    node_dim: Count
    layers: Count
    heads: Count
    decoder_image: Count
    decoder_text: Count
    disc_shares: Widths
    min_updates: Whole
    alpha: Weight
    beta: Weight
    tau: Positive
    intra: Weight
    spread: Positive
    label_sim: Literal["binary", "jaccard"]
    threshold: Threshold

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model == "i_gnn" and self.node_features == "learned_uniform":
            raise ValueError("model i_gnn needs other node_features than learned_uniform; class_mean, say")


class GNN4CMRNet(nn.Module):
    """All networks; decoders and discriminators are named by the modality they make or judge.

    Features have ``widths`` columns, those in the role of class 1 first; ``nodes`` are ``(C, node_dim)``.
    """

    def __init__(self, widths: Mapping[str, int], nodes: Tensor, config: GNN4CMRConfig) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: Block((d, config.dim)) for name, d in widths.items()})
        self.decoders, self.discriminators = nn.ModuleDict(), nn.ModuleDict()
        for name, d in widths.items():
            image = name in IMAGE_KINDS
            hidden = config.decoder_image if image else config.decoder_text
            self.decoders[name] = Block((config.dim, hidden, d), 0.0 if image else 0.2)
        for name, d in widths.items():
            inner = (max(1, d // share) for share in config.disc_shares)
            self.discriminators[name] = Block((d, *inner, 2), bare=True)
        self.labels = LabelNet(nodes, config.dim, config.layers)
        if config.model == "i_gnn":
            self.heads = nn.Parameter(torch.empty(config.heads, nodes.shape[1]).uniform_(0.3, 0.6))


def contrast(logits: Tensor, similar: Tensor, spread: float) -> Tensor:
    """h(Z, Q), where the rows of Q are those of ``similar`` divided by their sums; both ``(n, m)``."""
    weights = similar / similar.sum(dim=1, keepdim=True).clamp_min(1e-6)  # a row may be empty
    return -(weights * (logits - torch.logsumexp(spread * logits, dim=1, keepdim=True))).sum(dim=1).mean()


def contrastive_loss(
    features: Sequence[Tensor], labels: Sequence[Tensor], config: GNN4CMRConfig
) -> tuple[Tensor, Tensor]:
    """The part of J_con across the modalities, and that within, not yet weighted.

    Args:
        features: u and v, ``(n, d)`` each.
        labels: Label rows of both modalities, ``(n, C)`` each.
        config: Gives temperature, spread and the similarity of labels.
    """
    u, v = (unit_rows(each) for each in features)
    y_u, y_v = labels
    similar = {"binary": shares_label, "jaccard": label_overlap}[config.label_sim]
    across = similar(y_u, y_v).to(u.dtype)
    logits = u @ v.mT / config.tau
    inter = contrast(logits, across, config.spread) + contrast(logits.mT, across.mT, config.spread)
    others = 1 - torch.eye(len(u), dtype=u.dtype, device=u.device)

    def within(x: Tensor, y: Tensor) -> Tensor:
        return contrast(x @ x.mT / config.tau, others * similar(y, y), config.spread)

    return inter, within(u, y_u) + within(v, y_v)


def forward_pass(
    model: Model, x: Mapping[str, Tensor], graph: Tensor, config: GNN4CMRConfig
) -> tuple[dict[str, Tensor], Params]:
    """Everything J needs, and the new running statistics.

    Args:
        model: All networks.
        x: Features of both modalities, ``(n, D)`` each.
        graph: ``(C, C)``: the normalised graph of ``p_gnn``; the fixed half of that of ``i_gnn``.
        config: Hyper-parameters.
    """
    (a, x_a), (b, x_b) = x.items()
    block = Pass(model)
    u, v = block(f"encoders.{a}", x_a), block(f"encoders.{b}", x_b)
    made_a, made_b = block(f"decoders.{a}", v), block(f"decoders.{b}", u)
    if config.model == "i_gnn":
        graph = normalized(0.5 * graph + 0.5 * head_graph(model.labels.nodes, model.heads, config.threshold))
    classifiers = model.labels(graph)
    found = {"u": u, "v": v, "p": label_scores(u, classifiers), "q": label_scores(v, classifiers)}
    found |= judged(block, a, b, (x_a, x_b), (made_a, made_b))
    return {**found, "classifiers": classifiers, "graph": graph}, block.state


def objective_terms(found: Mapping[str, Tensor], labels: Sequence[Tensor], config: GNN4CMRConfig) -> Terms:
    """All terms of J from what ``forward_pass`` gives, with label rows ``(n, C)`` of both modalities."""
    label = score_distance(found["p"], labels[0]) + score_distance(found["q"], labels[1])
    inter, intra = contrastive_loss((found["u"], found["v"]), labels, config)
    contrastive = inter + config.intra * intra
    adversarial = adversarial_loss(found["true_a"], found["made_a"], found["made_b"], found["true_b"])
    total = config.alpha * label + contrastive + config.beta * adversarial
    return {"total": total, "label": label, "contrastive": contrastive, "adversarial": adversarial}


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
class GNN4CMR(Joint):
    """Contrastive and adversarial training of two encoders, with classifiers from a graph of labels."""

    Config = GNN4CMRConfig
    config: GNN4CMRConfig
    keep = ("encoders.",)

    def network(self, train: Split) -> GNN4CMRNet:
        """All networks; class means are those of a modality decoded as a text, or else of the second."""
        source, dim = self.config.node_features, self.config.node_dim
        if source == "class_mean":
            texts = [name for name in train.names if name not in IMAGE_KINDS] or train.names[1:]
            nodes = class_means(train, texts[0], dim)
        else:
            nodes = random_nodes(source, train.classes, dim)
        return GNN4CMRNet({m.name: m.dim for m in train}, nodes, self.config)

    def start(self, train: Split, run: RunContext) -> tuple[nn.Module, Params]:
        """Every pair of modalities draws weights of its own."""
        seeds = [derive_seed(seed, self.info.id, *train.names, "weights") for seed in run.seeds]
        return build_replicas(lambda: self.network(train), seeds, run)

    def constants(self, train: Split, start: Params, run: RunContext) -> Params:
        """The graph that ``forward_pass`` takes, ``(R, C, C)``."""
        threshold = self.config.threshold
        if self.config.model == "i_gnn":
            return {"graph": cosine_graph(start["labels.nodes"], threshold)}
        graph = normalized(label_graph(train, run, threshold)).to(run.dtype)
        return {"graph": graph.expand(len(run.seeds), *graph.shape)}

    def phase(self, net: nn.Module, sampler: Sampler) -> Phase:
        """At least ``min_updates`` updates; named after the pair."""
        epochs = max(self.config.epochs, math.ceil(self.config.min_updates / len(sampler.sizes)))
        pair = "-".join(cast(GNN4CMRNet, net).encoders)
        return replace(super().phase(net, sampler), name=f"{self.info.id}/{pair}", epochs=epochs)

    def loss(self, model: Model, batch: Batch) -> Terms:
        """J of one batch, and the new running statistics."""
        found, state = forward_pass(model, batch.x, batch.now["graph"], self.config)
        terms = objective_terms(found, list(batch.y.values()), self.config)
        return terms | {f"{STATE}{name}": value for name, value in state.items()}

    def embed(self, model: Model, modality: str, x: Tensor) -> Tensor:
        """Embeddings u or v."""
        found: Tensor = model.encoders[modality](x)[0]
        return found
