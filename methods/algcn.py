"""ALGCN: Adaptive Label-aware Graph Convolutional Networks for Cross-Modal Retrieval.

S. Qian, D. Xue, Q. Fang, C. Xu, IEEE Transactions on Multimedia 24, 2022, pp. 3520-3532. Public code:
LivXue/ALGCN@ddbfd2e6.

One linear layer and a ReLU per modality give embeddings u and v. A graph over the classes, static edges A
from the co-occurrence of labels plus learned ones B, gives one classifier per class (``blocks/graph.py``),
and p, q are the cosines of u and v with these. Over a batch of n pairs

    J = J1 + alpha J2 + super_weight J3
    J1 = mean_i ||p_i - y_i|| + mean_i ||q_i - y_i||                        (norms that are not squared)
    J2 = l(U, U) + l(U, V) + l(V, V)            (DSCMR's term of the common space)
    J3 = sum_l (1/C^2) sum_ij (Ahat_ij - min(A_ij + m^l_ij, 0.5))^2,   m^l_ij ~ Bernoulli(negative_rate)

where ``Ahat`` is ``relu(A + gamma B)`` normalised, and the masks m are drawn anew for each of the layers l
and every step. J3 moves B alone. Retrieval compares u and v by cosine; the classifiers are not used.

Where this differs from the public code:
- the kept epoch has the best validation MAP (there: best test MAP, which is not offered here);
- a class without training items has no edges (there: NaN), and a row of ``relu(A + gamma B)`` that has become
  zero does not divide by 0;
- masks are a function of the seed and the batch (there: also drawn while evaluating, from the global stream);
- where training labels are noisy, each modality's terms use its own;
- classes do not start from word vectors (there: optional, for its own datasets).

Kept on purpose: P in A is normalised over columns and J3 compares ``Ahat``, a transpose, with A itself
(``condition`` has the usual orientation; labels of one class per item do not care). J3 pulls edges towards
0.1, which many classes cannot meet after normalisation. With node features from U[0, 1) the classifiers of
different classes start nearly parallel, the more so the more classes; ``learned_normal`` avoids it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.core.config import Count, Share, Weight
from benchmark.core.data import Split
from benchmark.core.method import RunContext
from benchmark.core.registry import method
from benchmark.training import Adam, Batch, Group, Model, Objective, Params, Terms

from .blocks.base import Joint
from .blocks.config import JointConfig
from .blocks.graph import (
    LabelNet,
    Threshold,
    label_graph,
    label_scores,
    normalized,
    random_nodes,
    score_distance,
)
from .blocks.layers import uniform
from .blocks.losses import common_space_likelihood


class ALGCNConfig(JointConfig):
    """Hyper-parameters, beside those of :class:`JointConfig`.

    Attributes:
        dim: Embedding width, also that of the graph layers.
        node_dim: Width of the node features.
        layers: Graph layers.
        lr_edges: Learning rate of B.
        alpha: Weight of J2.
        gamma: Weight of B in the graph.
        threshold: Share of a class's items from which another class is its neighbour.
        super_weight: Weight of J3.
        negative_rate: Probability of a one in the masks.
        negatives: ``sampled`` masks, or the ``expected`` target: the same expected gradient, no randomness.
        condition: What the counts of the static edges divide, see ``static_graph``.
        node_features: Where the classes start: U[0, 1) or N(0, 1).
    """

    dim: Count
    node_dim: Count
    layers: Count
    lr_edges: Weight
    alpha: Weight
    gamma: Weight
    threshold: Threshold
    super_weight: Weight
    negative_rate: Share
    negatives: Literal["sampled", "expected"]
    condition: Literal["column", "row"]
    node_features: Literal["learned_uniform", "learned_normal"]


class ALGCNNet(nn.Module):
    """Encoders, label network and learned edges.

    Args:
        widths: Feature width per modality.
        nodes: Node features, ``(C, node_dim)``.
        config: Hyper-parameters.
    """

    def __init__(self, widths: Mapping[str, int], nodes: Tensor, config: ALGCNConfig) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: nn.Linear(d, config.dim) for name, d in widths.items()})
        self.labels = LabelNet(nodes, config.dim, config.layers)
        self.edges = nn.Parameter(0.02 * torch.rand(len(nodes), len(nodes)))


def adapted_graph(static: Tensor, edges: Tensor, gamma: float) -> Tensor:
    """``Ahat``, ``(C, C)``: ``relu(A + gamma B)``, normalised."""
    return normalized((static + gamma * edges).relu())


def draw_masks(keys: Tensor, config: ALGCNConfig, classes: int) -> Tensor:
    """Ones with probability ``negative_rate``, ``(layers, C, C)``, from the first of a batch's keys."""
    drawn = uniform(keys[:1], config.layers * classes * classes)
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
    label = score_distance(scores[0], labels[0]) + score_distance(scores[1], labels[1])
    similarity = common_space_likelihood(*features, *labels)
    total = label + config.alpha * similarity + config.super_weight * supervision
    return {"total": total, "label": label, "similarity": similarity, "supervision": supervision}


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
class ALGCN(Joint):
    """Classifiers from a graph of labels that is learned along with the embeddings."""

    Config = ALGCNConfig
    config: ALGCNConfig
    keep = ("encoders.",)

    def network(self, train: Split) -> ALGCNNet:
        """Encoders, label network and learned edges."""
        nodes = random_nodes(self.config.node_features, train.classes, self.config.node_dim)
        return ALGCNNet({m.name: m.dim for m in train}, nodes, self.config)

    def constants(self, train: Split, start: Params, run: RunContext) -> Params:
        """A, the same for all replicas."""
        del start
        static = label_graph(train, run, self.config.threshold, self.config.condition)
        return {"static": static.to(run.dtype).expand(len(run.seeds), *static.shape)}

    def objectives(self, net: nn.Module) -> tuple[Objective, ...]:
        """J for everything, with a learning rate of its own for B."""
        del net
        edges = Group(("edges",), Adam(self.config.lr_edges, self.config.betas))
        return (Objective(self.loss, self.optimizer(), groups=(edges,)),)

    def loss(self, model: Model, batch: Batch) -> Terms:
        """J of one batch."""
        config, static = self.config, batch.now["static"]
        u, v = (self.embed(model, name, x) for name, x in batch.x.items())
        graph = adapted_graph(static, model.edges, config.gamma)
        classifiers = model.labels(graph)
        scores = label_scores(u, classifiers), label_scores(v, classifiers)
        if config.negatives == "sampled":
            masks = draw_masks(batch.extra["key"], config, len(classifiers))
            supervision = sampled_supervision(graph, static, masks)
        else:
            supervision = expected_supervision(graph, static, config.negative_rate, config.layers)
        y_u, y_v = batch.y.values()
        return objective_terms((u, v), scores, (y_u, y_v), supervision, config)

    def embed(self, model: Model, modality: str, x: Tensor) -> Tensor:
        """Embeddings u or v."""
        found: Tensor = model.encoders[modality](x).relu()
        return found
