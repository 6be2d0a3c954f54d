"""ALGCN: Adaptive Label-aware Graph Convolutional Networks for Cross-Modal Retrieval.

S. Qian, D. Xue, Q. Fang, C. Xu, IEEE Transactions on Multimedia 24, 2022, pp. 3520-3532. Public code:
LivXue/ALGCN@ddbfd2e6.

One linear layer and a ReLU per modality give embeddings u and v. A graph over the classes, static edges A
from the co-occurrence of labels plus learned ones B, gives one classifier per class (``methods/graph.py``),
and p, q are the cosines of u and v with these. Over a batch of n pairs

    J = J1 + alpha J2 + super_weight J3
    J1 = mean_i ||p_i - y_i|| + mean_i ||q_i - y_i||                        (norms that are not squared)
    J2 = l(U, U) + l(U, V) + l(V, V)            (DSCMR's likelihood of cosines, half_cosine_likelihood)
    J3 = sum_l (1/C^2) sum_ij (Ahat_ij - min(A_ij + m^l_ij, 0.5))^2,   m^l_ij ~ Bernoulli(negative_rate)

where ``Ahat`` is ``relu(A + gamma B)`` normalised, and the masks m are drawn anew for each of the layers l
and every step. J3 moves B alone. Retrieval compares u and v by cosine; the classifiers are not used.

Where this differs from the public code:
- the kept epoch has the best validation MAP (there: best test MAP, which is not offered here);
- a class without training items has no edges (there: NaN), and a row of ``relu(A + gamma B)`` that has become
  zero does not divide by 0;
- masks are a function of the seed and the batch (there: also drawn while evaluating, from the global stream);
- where training labels are noisy, each modality's terms use its own.

Kept on purpose: P in A is normalised over columns and J3 compares ``Ahat``, a transpose, with A itself
(``condition`` has the usual orientation; labels of one class per item do not care). J3 pulls edges towards
0.1, which many classes cannot meet after normalisation. With node features from U[0, 1) the classifiers of
different classes start nearly parallel, the more so the more classes; ``learned_normal`` avoids it.
"""

from __future__ import annotations

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

from .blocks.graph import (
    CONDITIONS,
    FILE,
    LabelNet,
    check_nodes,
    class_rows,
    label_distance,
    label_scores,
    normalized,
    starting_nodes,
    static_graph,
    training_labels,
)
from .blocks.joint import Embed, joint_retrievers, select_by_map
from .blocks.layers import part_of, uniform
from .blocks.losses import half_cosine_likelihood

MASKS = 0
"""Stream of the masks among the random numbers of a batch."""


@dataclass(frozen=True)
class ALGCNConfig:
    """Hyper-parameters; defaults are those of the public code, the number of epochs that for Wikipedia.

    Attributes:
        dim: Embedding width, also that of the graph layers.
        node_dim: Width of the node features.
        layers: Graph layers.
        epochs: Passes over the pairs.
        batch: Pairs per step; the last, smaller batch is served.
        lr: Learning rate.
        lr_edges: Learning rate of B.
        betas: Adam's decay rates.
        alpha: Weight of J2.
        gamma: Weight of B in the graph.
        threshold: Share of a class's items from which another class is its neighbour.
        super_weight: Weight of J3.
        negative_rate: Probability of a one in the masks.
        negatives: ``sampled`` masks, or the ``expected`` target: the same expected gradient, no randomness.
        condition: Orientation of the static edges, ``column`` or ``row``, see ``methods/graph.py``.
        node_features: Where the classes start, see ``methods/graph.py``; those of a file are not learned.
        select: Epoch kept: best validation ``map``, or the ``last``.
    """

    dim: int = 1024
    node_dim: int = 300
    layers: int = 3
    epochs: int = 200
    batch: int = 100
    lr: float = 5e-5
    lr_edges: float = 5e-3
    betas: tuple[float, float] = (0.5, 0.999)
    alpha: float = 0.2
    gamma: float = 0.5
    threshold: float = 0.4
    super_weight: float = 0.5
    negative_rate: float = 0.2
    negatives: str = "sampled"
    condition: str = "column"
    node_features: str = "learned_uniform"
    select: str = "map"

    def __post_init__(self) -> None:
        choice("negatives", self.negatives, ("sampled", "expected"))
        choice("condition", self.condition, CONDITIONS)
        choice("select", self.select, ("map", "last"))
        check_nodes(self.node_features)
        if min(self.dim, self.node_dim, self.layers, self.epochs, self.batch) < 1:
            raise ValueError("dim, node_dim, layers, epochs and batch must be positive")
        if min(self.lr, self.lr_edges, self.alpha, self.gamma, self.super_weight) < 0:
            raise ValueError("lr, lr_edges, alpha, gamma and super_weight must not be negative")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie in 0..1 and not be 0, got {self.threshold}")
        if not 0 <= self.negative_rate <= 1:
            raise ValueError(f"negative_rate must lie in 0..1, got {self.negative_rate}")


class ALGCNNet(nn.Module):
    """Encoders, label network and learned edges.

    Args:
        widths: Feature width per modality.
        nodes: Node features, ``(C, node_dim)``.
        config: Hyper-parameters.
    """

    def __init__(self, widths: dict[str, int], nodes: Tensor, config: ALGCNConfig) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: nn.Linear(d, config.dim) for name, d in widths.items()})
        learned = not config.node_features.startswith(FILE)
        self.labels = LabelNet(nodes, learned, config.dim, config.layers)
        self.edges = nn.Parameter(0.02 * torch.rand(len(nodes), len(nodes)))


def adapted_graph(static: Tensor, edges: Tensor, gamma: float) -> Tensor:
    """``Ahat``, ``(C, C)``: ``relu(A + gamma B)``, normalised."""
    return normalized((static + gamma * edges).relu())


def draw_masks(keys: Tensor, config: ALGCNConfig, classes: int) -> Tensor:
    """Ones with probability ``negative_rate``, ``(layers, C, C)``, from the first of a batch's keys."""
    drawn = uniform(keys[:1], config.layers * classes * classes, MASKS)
    return (drawn < config.negative_rate).reshape(config.layers, classes, classes)


def sampled_supervision(graph: Tensor, static: Tensor, masks: Tensor) -> Tensor:
    """J3.

    Args:
        graph: ``Ahat``, ``(C, C)``.
        static: A, ``(C, C)``.
        masks: ``(layers, C, C)``, 0 or 1.
    """
    target = (static + masks).clamp_max(0.5)
    return (graph - target).square().mean(dim=(-2, -1)).sum()


def expected_supervision(graph: Tensor, static: Tensor, rate: float, layers: int) -> Tensor:
    """J3 with the mean of the target over the masks: the mean of J3 but for a constant."""
    target = (1 - rate) * static.clamp_max(0.5) + rate * (static + 1).clamp_max(0.5)
    return layers * (graph - target).square().mean()


def objective_terms(
    features: tuple[Tensor, Tensor],
    scores: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor],
    supervision: Tensor,
    config: ALGCNConfig,
) -> Terms:
    """All terms of J.

    Args:
        features: u and v, ``(n, dim)`` each.
        scores: p and q, ``(n, C)`` each.
        labels: Label rows of both modalities, ``(n, C)`` each.
        supervision: J3.
        config: Gives the weights.
    """
    (u, v), (p, q), (y_u, y_v) = features, scores, labels
    label = label_distance(p, y_u) + label_distance(q, y_v)
    similarity = (
        half_cosine_likelihood(u, u, y_u, y_u)
        + half_cosine_likelihood(u, v, y_u, y_v)
        + half_cosine_likelihood(v, v, y_v, y_v)
    )
    return {
        "total": label + config.alpha * similarity + config.super_weight * supervision,
        "label": label,
        "similarity": similarity,
        "supervision": supervision,
    }


def embed_with(net: ALGCNNet) -> Embed:
    """The embedding of one replica."""

    def embed(params: Params, modality: str, x: Tensor) -> Tensor:
        encoder = net.encoders[modality]
        return functional_call(encoder, part_of(params, f"encoders.{modality}."), (x,)).relu()

    return embed


def algcn_phase(config: ALGCNConfig, net: ALGCNNet, sampler: Sampler, static: Tensor) -> Phase:
    """Training, keeping the last epoch.

    Args:
        config: Hyper-parameters.
        net: Weightless template.
        sampler: Batches of pairs.
        static: A of every replica, ``(R, C, C)``.
    """
    a, b = net.encoders
    embed = embed_with(net)

    def loss(params: Params, batch: Batch, now: Params) -> Terms:
        features = embed(params, a, batch[f"x/{a}"]), embed(params, b, batch[f"x/{b}"])
        graph = adapted_graph(now["static"], params["edges"], config.gamma)
        classifiers = functional_call(net.labels, part_of(params, "labels."), (graph,))
        scores = label_scores(features[0], classifiers), label_scores(features[1], classifiers)
        if config.negatives == "sampled":
            masks = draw_masks(batch["key"], config, len(classifiers))
            supervision = sampled_supervision(graph, now["static"], masks)
        else:
            supervision = expected_supervision(graph, now["static"], config.negative_rate, config.layers)
        labels = batch[f"y/{a}"], batch[f"y/{b}"]
        return objective_terms(features, scores, labels, supervision, config)

    edges = Group(("edges",), Adam(config.lr_edges, config.betas))
    return Phase(
        name="algcn",
        epochs=config.epochs,
        sampler=sampler,
        objectives=(Objective(loss, Adam(config.lr, config.betas), groups=(edges,)),),
        constants={"static": static},
        state=tuple(name for name, _ in net.named_buffers()),
    )


@method(
    "algcn",
    title="ALGCN",
    paper="Adaptive Label-aware Graph Convolutional Networks for Cross-Modal Retrieval",
    venue="TMM",
    year=2021,
    group="paired-oriented",
    modalities="two",
    kinds=("image", "text"),
    version=1,
    doi="10.1109/TMM.2021.3101642",
)
class ALGCN(Method):
    """Classifiers from a graph of labels that is learned along with the embeddings."""

    Config = ALGCNConfig
    config: ALGCNConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        return {"dim": 16, "node_dim": 8, "epochs": 3, "batch": 16, "lr": 1e-3, "lr_edges": 1e-2}

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring."""
        config = self.config
        fixed = class_rows(config.node_features, train, train.names[-1], config.node_dim, run)
        widths = {m.name: m.dim for m in train}

        def build() -> ALGCNNet:
            nodes = starting_nodes(config.node_features, fixed, train.classes, config.node_dim)
            return ALGCNNet(widths, nodes, config)

        net, start = build_replicas(build, [derive_seed(s, "algcn", "weights") for s in run.seeds], run)
        labels = training_labels(train, run)
        static = static_graph(labels, config.threshold, config.condition).to(run.dtype)
        phase = algcn_phase(
            config,
            net,
            TupleSampler(train, run, config.batch),
            static.expand(len(run.seeds), *static.shape),
        )
        embed = embed_with(net)
        select = Select("last") if config.select == "last" else Select("max", "map")
        phase = replace(phase, validate=select_by_map(embed, val, run), select=select, keep=("encoders.",))
        return joint_retrievers(embed, train_phase(phase, start, run).params)
