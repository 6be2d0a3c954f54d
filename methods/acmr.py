"""ACMR: Adversarial Cross-Modal Retrieval.

B. Wang, Y. Yang, X. Xu, A. Hanjalic, H. T. Shen, ACM Multimedia 2017, pp. 154-162. Public code:
sunpeng981712364/ACMR_demo@14b277fb.

A projector per modality ends in tanh and gives v_i for images and w_i for texts, both d-dimensional; one
label classifier serves both, and a modality classifier D tells them apart. Over a batch of n true pairs

    L_lab = mean_i CE(cls(v_i), y_i) + CE(cls(w_i), y_i)
    L_dom = mean_i CE(D(v_i), 1) + CE(D(w_i), 0)
    L_emb = a L_lab + b ||V - W||_F + c (1/n^2) sum_ij max(0, m - [classes differ] D_ij)     (contrastive)
    L_emb = a L_lab + max(0, m + s P - N_v) + max(0, m + s P - N_w)                          (triplet)
    L_emb = a L_lab + b sum_i (2 ||v_i - w_i|| + c max(0, m - ||v_i - w_a(i)||)
            + c max(0, m - ||w_i - v_b(i)||)) + r sum of Frobenius norms of projector weights  (paper)

with D_ij = sum_k v_ik + sum_k w_jk - v_i.w_j; P, N_v, N_w half the sums of squared distances to the partner
and to the mined negatives, and a(i), b(i) the pair of another class with the highest cosine of raw image, of
raw text features. The scripts come with either of the first two; the third is the paper's equation.

How the terms move the parts is ``update``. What the scripts execute is ``split``: the projectors follow L_emb
alone, D follows L_dom alone, the label classifier stays at its random draw; so the procedure is not
adversarial and D is a passive probe. ``joint`` is the operation they build and leave out: all parts follow
L_emb + L_dom, with the gradient from D to the embeddings multiplied by -lambda_e; in epoch e = 0, 1, ... of E
lambda_e = 2 / (1 + exp(-10 e / E)) - 1. ``alternate`` is the paper's: projectors and label classifier
follow L_emb - L_dom, then D follows L_dom.

Embeddings are compared by Euclidean distance.

Kept on purpose: the frozen label classifier (``train_classifier`` moves it), D_ij without the squares of a
squared distance (``true_distance`` has them), ||V - W||_F over the batch and not per row, the remainder of an
epoch dropped.

Where this differs from the public code:
- tuples come in a new order every epoch (there: in the order of the files, or shuffled once); ``shuffle``
  off serves them in the order of the files;
- an item without negatives in its batch is left out of the hinges; the public code then takes one of the same
  class, possibly the anchor, and does so too where all cosines of other classes are negative;
- the norm has gradient 0 at V = W (there: NaN); the number of classes is the dataset's (there: the largest
  label of the batch);
- an item with several labels adds their cross entropies, and another is of another class if they share none;
- the adversary's steps per step of the projectors, the weights and the sampling of the paper's loss are not
  published: one step, and the negatives of the triplet script with the values of the recipe;
- test data are not seen in training, so the scripts' test pass per epoch has no counterpart.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.core.config import Count, Weight, Widths
from benchmark.core.data import Split
from benchmark.core.method import RunContext
from benchmark.core.registry import method
from benchmark.evaluation.similarity import product
from benchmark.training import Batch, Model, Objective, Phase, Sampler, Terms, TupleSampler

from .blocks.base import PairScoring
from .blocks.config import JointConfig
from .blocks.layers import Stack, glorot, reverse_gradient, unit_rows
from .blocks.losses import cross_entropy, shares_label

Pair = tuple[Tensor, Tensor]
PROJECTORS = ("image.", "text.")


class ACMRConfig(JointConfig):
    """Hyper-parameters, beside those of :class:`JointConfig`.

    Attributes:
        hidden_image, hidden_text: Widths of the projectors' hidden layers.
        dim: Embedding width d.
        hidden_domain: Widths of the modality classifier's inner layers, which are linear.
        embedding_loss: Which L_emb.
        update: How the terms move the parts.
        train_classifier: Whether ``split`` moves the label classifier too; the other updates always do.
        label_weight, similar_weight, dissimilar_weight: a, b and c.
        positive_weight, margin, decay: s, m and r.
        true_distance: Whether D_ij is the squared distance.
        shuffle: Fresh order of the pairs every epoch, or that of the files.
    """

    hidden_image: Widths
    hidden_text: Widths
    dim: Count
    hidden_domain: Widths
    embedding_loss: Literal["contrastive", "triplet", "paper"]
    update: Literal["split", "joint", "alternate"]
    train_classifier: bool
    label_weight: Weight
    similar_weight: Weight
    dissimilar_weight: Weight
    positive_weight: Weight
    margin: Weight
    decay: Weight
    true_distance: bool
    shuffle: bool


class ACMRNet(nn.Module):
    """Both projectors and both classifiers, for the widths of images and of texts and C classes."""

    def __init__(self, config: ACMRConfig, image: int, text: int, classes: int) -> None:
        super().__init__()
        self.image = glorot(Stack((image, *config.hidden_image, config.dim), torch.tanh))
        self.text = glorot(Stack((text, *config.hidden_text, config.dim), torch.tanh))
        self.label = glorot(Stack((config.dim, classes), None))
        self.domain = glorot(Stack((config.dim, *config.hidden_domain, 2), None))


def norm(x: Tensor, dim: int | None = None) -> Tensor:
    """L2 norm, with gradient 0 where it is 0."""
    squares = (x * x).sum() if dim is None else (x * x).sum(dim)
    return torch.where(squares > 0, squares, 1.0).sqrt() * (squares > 0)


def domain_loss(image: Tensor, text: Tensor) -> Tensor:
    """L_dom from the logits of D, ``(n, 2)`` each; column 1 stands for images."""
    return -(image.log_softmax(dim=-1)[:, 1].mean() + text.log_softmax(dim=-1)[:, 0].mean())


def dissimilarity(v: Tensor, w: Tensor, different: Tensor, margin: float, true_distance: bool) -> Tensor:
    """``(1/n^2) sum_ij max(0, m - [classes differ] D_ij)``; pairs of one class add the margin, a constant.

    ``v`` and ``w`` are ``(n, d)``, ``different`` is ``(n, n)`` boolean; D_ij may be the ``true_distance``.
    """
    if true_distance:
        distance = (v * v).sum(1)[:, None] + (w * w).sum(1)[None, :] - 2 * v @ w.mT
    else:
        distance = v.sum(1)[:, None] + w.sum(1)[None, :] - v @ w.mT
    return (margin - torch.where(different, distance, 0.0)).relu().mean()


def hardest(x: Tensor, different: Tensor) -> tuple[Tensor, Tensor]:
    """Per row of ``x`` ``(n, D)`` which of the rows ``different`` ``(n, n)`` from it has the largest cosine.

    Returns row numbers, and 1 or 0: whether there is such a row; both ``(n,)``.
    """
    unit = unit_rows(x)
    cosines = torch.where(different, unit @ unit.mT, -torch.inf)
    return cosines.argmax(dim=1), different.any(dim=1).to(x.dtype)


def half_squares(a: Tensor, b: Tensor, has: Tensor) -> Tensor:
    """Half the summed squared distances of rows ``(n, d)``, of those where ``has`` ``(n,)`` is 1, not 0."""
    return (((a - b) ** 2).sum(1) * has).sum() / 2


def triplet(v: Tensor, w: Tensor, negatives: Tensor, has: Tensor, margin: float, weight: float) -> Tensor:
    """One hinge of the batch, ``max(0, m + s P - N)``; 0 if no anchor ``v_i`` has a negative in ``w``."""
    positive, negative = half_squares(v, w, has), half_squares(v, w[negatives], has)
    return (margin + weight * positive - negative).relu() * (has.sum() > 0)


def push(v: Tensor, w: Tensor, negatives: Tensor, has: Tensor, margin: float) -> Tensor:
    """``sum_i max(0, m - ||v_i - w_negative(i)||)`` over anchors that have a negative."""
    return ((margin - norm(v - w[negatives], 1)).relu() * has).sum()


def embedding_terms(
    config: ACMRConfig, embedded: Pair, logits: Pair, features: Pair, labels: Pair, weights: list[Tensor]
) -> Terms:
    """L_emb as ``embedding``, and its parts.

    Of images and of texts: embeddings v and w, ``(n, d)``, logits of the label classifier, ``(n, C)``, raw
    features, ``(n, D)``, and label rows, ``(n, C)``; ``weights`` are the matrices of the projectors.
    """
    (v, w), m, b, c = embedded, config.margin, config.similar_weight, config.dissimilar_weight
    label = cross_entropy(logits[0], labels[0]) + cross_entropy(logits[1], labels[1])
    different = ~shares_label(*labels)
    if config.embedding_loss == "contrastive":
        similar, dissimilar = norm(v - w), dissimilarity(v, w, different, m, config.true_distance)
        rest = b * similar + c * dissimilar
        parts = {"similar": similar, "dissimilar": dissimilar}
    else:
        mined = (v, w, *hardest(features[0], different)), (w, v, *hardest(features[1], different.mT))
        if config.embedding_loss == "triplet":
            s = config.positive_weight
            rest = triplet(*mined[0], m, s) + triplet(*mined[1], m, s)
            parts = {"triplet": rest}
        else:
            similar = 2 * norm(v - w, 1).sum()
            dissimilar = push(*mined[0], m) + push(*mined[1], m)
            size = torch.stack([norm(each) for each in weights]).sum()
            rest = b * (similar + c * dissimilar) + config.decay * size
            parts = {"similar": similar, "dissimilar": dissimilar, "weights": size}
    return {"embedding": config.label_weight * label + rest, "label": label, **parts}


def reversal(epoch: int, epochs: int) -> float:
    """Lambda of a 0-based epoch: 0 in the first, close to 1 in the last."""
    return 2 / (1 + math.exp(-10 * epoch / epochs)) - 1


def closeness(queries: Tensor, items: Tensor) -> Tensor:
    """``2 q.x - |x|^2``, ``(n_q, n_d)``: in the order of squared distances, whose ``|q|^2`` is left out."""
    return product(queries, items).mul_(2).sub_((items * items).sum(1))


@method(
    "acmr",
    title="ACMR",
    paper="Adversarial Cross-Modal Retrieval",
    venue="ACM MM",
    year=2017,
    group="paired-oriented",
    modalities="two",
    kinds=("image", "text"),
    version=1,
    doi="10.1145/3123266.3123326",
)
class ACMR(PairScoring):
    """Projectors of images and texts, tied by pairs and labels, with a classifier of modalities."""

    Config = ACMRConfig
    config: ACMRConfig

    def network(self, train: Split) -> ACMRNet:
        """Projectors and classifiers."""
        return ACMRNet(self.config, train["image"].dim, train["text"].dim, train.classes)

    def sampler(self, train: Split, run: RunContext) -> TupleSampler:
        """Pairs, in batches of one size."""
        config = self.config
        return TupleSampler(train, run, config.batch, keep_remainder=False, shuffle=config.shuffle)

    def objectives(self, net: nn.Module) -> tuple[Objective, ...]:
        """What a step minimises, in update order; see the module's docstring."""
        del net
        if self.config.update == "alternate":
            steps = (self.loss, (*PROJECTORS, "label.")), (self.adversary, ("domain.",))
            return tuple(Objective(loss, self.optimizer(), moved) for loss, moved in steps)
        frozen = self.config.update == "split" and not self.config.train_classifier
        return (Objective(self.loss, self.optimizer(), (*PROJECTORS, "domain.") if frozen else ()),)

    def phase(self, net: nn.Module, sampler: Sampler) -> Phase:
        """All training, with lambda of every epoch."""
        epochs = self.config.epochs
        return replace(super().phase(net, sampler), schedule=lambda e: {"reversal": reversal(e, epochs)})

    def loss(self, model: Model, batch: Batch) -> Terms:
        """L_emb, with what ``update`` makes of L_dom."""
        x, y = (batch.x["image"], batch.x["text"]), (batch.y["image"], batch.y["text"])
        v, w = model.image(x[0]), model.text(x[1])
        logits = model.label(v), model.label(w)
        weights = [p for n, p in model.tensors.items() if n.startswith(PROJECTORS) and n.endswith("weight")]
        terms = embedding_terms(self.config, (v, w), logits, x, y, weights)
        if self.config.update == "alternate":
            return {**terms, "total": terms["embedding"] - domain_loss(model.domain(v), model.domain(w))}
        if self.config.update == "split":
            v, w = v.detach(), w.detach()
        else:
            v, w = (reverse_gradient(each, batch.now["reversal"]) for each in (v, w))
        domain = domain_loss(model.domain(v), model.domain(w))
        return {**terms, "domain": domain, "total": terms["embedding"] + domain}

    def adversary(self, model: Model, batch: Batch) -> Terms:
        """L_dom, for the steps of D in ``alternate``."""
        v, w = model.image(batch.x["image"]), model.text(batch.x["text"])
        domain = domain_loss(model.domain(v), model.domain(w))
        return {"domain": domain, "total": domain}

    def embed(self, model: Model, modality: str, x: Tensor) -> Tensor:
        """Embeddings of images, v, or of texts, w."""
        found: Tensor = getattr(model, modality)(x)
        return found

    def score(self, model: Model, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """By Euclidean distance, see :func:`closeness`."""
        v, w = model.image(image), model.text(text)
        return closeness(v, w), closeness(w, v)
