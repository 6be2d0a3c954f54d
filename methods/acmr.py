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
- tuples come in a new order every epoch (there: in the order of the files, or shuffled once); ``reshuffle``
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice, derive_seed
from benchmark.core.registry import method
from benchmark.evaluation.similarity import product
from benchmark.training.samplers import Batch, TupleSampler
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

from .acmr_losses import domain_loss, embedding_terms, reverse
from .blocks.joint import IMAGE_TEXT, each_replica, in_roles, select_by_scores
from .blocks.layers import part_of

LOSSES = ("contrastive", "triplet", "paper")
UPDATES = ("split", "joint", "alternate")
PROJECTORS = ("image.", "text.")


@dataclass(frozen=True)
class ACMRConfig:
    """Hyper-parameters; defaults are those of the public code for Wikipedia.

    Attributes:
        hidden_image: Widths of the image projector's hidden layers.
        hidden_text: Widths of the text projector's hidden layers.
        dim: Embedding width d.
        hidden_domain: Widths of the modality classifier's inner layers, which are linear.
        embedding_loss: ``contrastive``, ``triplet`` or ``paper``.
        update: ``split``, ``joint`` or ``alternate``.
        train_classifier: Whether ``split`` moves the label classifier too; the other updates always do.
        label_weight: a.
        similar_weight: b; contrastive and paper.
        dissimilar_weight: c; contrastive and paper.
        positive_weight: s; triplet.
        margin: m.
        decay: r; paper.
        true_distance: Whether D_ij is the squared distance; contrastive.
        epochs: Number of epochs.
        batch: Batch size.
        lr: Learning rate.
        betas: Adam's decay rates.
        reshuffle: Whether every epoch serves the tuples in a new order.
        select: Epoch kept: the ``last``, or the one with the best validation MAP (``val``).
    """

    hidden_image: tuple[int, ...] = (512, 100)
    hidden_text: tuple[int, ...] = (40, 100)
    dim: int = 40
    hidden_domain: tuple[int, ...] = (20, 10)
    embedding_loss: str = "contrastive"
    update: str = "split"
    train_classifier: bool = False
    label_weight: float = 100.0
    similar_weight: float = 1.0
    dissimilar_weight: float = 0.02
    positive_weight: float = 5.0
    margin: float = 0.1
    decay: float = 1.0
    true_distance: bool = False
    epochs: int = 200
    batch: int = 64
    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    reshuffle: bool = True
    select: str = "last"

    def __post_init__(self) -> None:
        choice("embedding_loss", self.embedding_loss, LOSSES)
        choice("update", self.update, UPDATES)
        choice("select", self.select, ("last", "val"))
        widths = (*self.hidden_image, *self.hidden_text, *self.hidden_domain, self.dim)
        if self.epochs < 1 or self.batch < 1 or min(widths) < 1:
            raise ValueError("epochs, batch, dim and all widths must be positive")
        weights = (self.label_weight, self.similar_weight, self.dissimilar_weight, self.positive_weight)
        if min(*weights, self.margin, self.decay, self.lr) < 0:
            raise ValueError("weights, margin, decay and lr must not be negative")


class Stack(nn.Module):
    """Linear layers started uniform as Glorot and Bengio propose, with zero biases.

    Args:
        sizes: Widths, input and output included.
        tanh: Whether every layer, the last included, is followed by tanh; else nothing lies between.
    """

    def __init__(self, sizes: Sequence[int], *, tanh: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.tanh = tanh
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, sizes[0])`` to ``(n, sizes[-1])``."""
        for layer in self.layers:
            x = layer(x).tanh() if self.tanh else layer(x)
        return x


class ACMRNet(nn.Module):
    """Both projectors and both classifiers.

    Args:
        config: Hyper-parameters.
        widths: Of the image and of the text features.
        classes: Number of classes C.
    """

    def __init__(self, config: ACMRConfig, widths: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.image = Stack((widths[0], *config.hidden_image, config.dim), tanh=True)
        self.text = Stack((widths[1], *config.hidden_text, config.dim), tanh=True)
        self.label = Stack((config.dim, classes), tanh=False)
        self.domain = Stack((config.dim, *config.hidden_domain, 2), tanh=False)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings ``(n, d)`` of both."""
        return self.image(image), self.text(text)


def reversal(epoch: int, epochs: int) -> float:
    """Lambda of a 0-based epoch: 0 in the first, close to 1 in the last."""
    return 2 / (1 + math.exp(-10 * epoch / epochs)) - 1


def objectives(config: ACMRConfig, net: ACMRNet) -> tuple[Objective, ...]:
    """What a step minimises, in order; see the module's docstring."""
    adam = Adam(config.lr, config.betas)

    def domain(params: Params, v: Tensor, w: Tensor) -> Tensor:
        own = part_of(params, "domain.")
        return domain_loss(functional_call(net.domain, own, (v,)), functional_call(net.domain, own, (w,)))

    def terms(params: Params, batch: Batch) -> tuple[Tensor, Tensor, Terms]:
        features = batch["x/image"], batch["x/text"]
        v, w = functional_call(net, params, features)
        own = part_of(params, "label.")
        logits = [functional_call(net.label, own, (each,)) for each in (v, w)]
        weights = [p for n, p in params.items() if n.startswith(PROJECTORS) and n.endswith("weight")]
        labels = batch["y/image"], batch["y/text"]
        return v, w, embedding_terms(config, (v, w), logits, features, labels, weights)

    def split(params: Params, batch: Batch, now: Params) -> Terms:  # noqa: ARG001 - the reversal has no part here
        v, w, found = terms(params, batch)
        probe = domain(params, v.detach(), w.detach())
        return {**found, "domain": probe, "total": found["embedding"] + probe}

    def joint(params: Params, batch: Batch, now: Params) -> Terms:
        v, w, found = terms(params, batch)
        adversary = domain(params, reverse(v, now["reversal"]), reverse(w, now["reversal"]))
        return {**found, "domain": adversary, "total": found["embedding"] + adversary}

    def projectors(params: Params, batch: Batch, now: Params) -> Terms:  # noqa: ARG001 - no reversal here either
        v, w, found = terms(params, batch)
        return {**found, "total": found["embedding"] - domain(params, v, w)}

    def adversary(params: Params, batch: Batch, now: Params) -> Terms:  # noqa: ARG001 - as above
        loss = domain(params, *functional_call(net, params, (batch["x/image"], batch["x/text"])))
        return {"domain": loss, "total": loss}

    if config.update == "split":
        moved = (*PROJECTORS, "domain.", *(("label.",) if config.train_classifier else ()))
        return (Objective(split, adam, moved),)
    if config.update == "joint":
        return (Objective(joint, adam),)
    return (
        Objective(projectors, adam, (*PROJECTORS, "label.")),
        Objective(adversary, adam, ("domain.",)),
    )


def closeness(queries: Tensor, items: Tensor) -> Tensor:
    """``2 q.x - |x|^2``: every query's items in the order of their Euclidean distance, ``(n_q, n_d)``.

    The squared distance with the query's own length, the same for all its items, left out.
    """
    return product(queries, items).mul_(2).sub_((items * items).sum(1))


class ACMRRetriever(Retriever):
    """Both projectors, with the weights of one seed; the first of the two modalities has the image's part."""

    def __init__(self, net: ACMRNet, params: Params, names: Sequence[str] = IMAGE_TEXT) -> None:
        self.net, self.params, self.roles = net, params, dict(zip(names, IMAGE_TEXT, strict=True))

    def embed(self, modality: str, features: Tensor) -> Tensor:
        """Features ``(n, D)`` to embeddings ``(n, d)``, which :meth:`similarity` compares."""
        with torch.no_grad():
            return project(self.net, self.params, self.roles[modality], features)

    def similarity(self, query: str, queries: Tensor, database: str, items: Tensor) -> Tensor:
        """By Euclidean distance, see :func:`closeness`; ``(n_q, n_d)``."""
        return closeness(self.embed(query, queries), self.embed(database, items))


def project(net: ACMRNet, params: Params, modality: str, features: Tensor) -> Tensor:
    """Embeddings ``(n, d)`` of one modality by one replica."""
    found: Tensor = functional_call(getattr(net, modality), part_of(params, f"{modality}."), (features,))
    return found


def phase_of(config: ACMRConfig, net: ACMRNet, sampler: TupleSampler, val: Split | None, run: Run) -> Phase:
    """All training.

    Args:
        config: Hyper-parameters.
        net: Weightless template.
        sampler: Serves tuples.
        val: Validation rows to select by; ``None`` where the last epoch is kept.
        run: Gives device and type.
    """

    def score(params: Params, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        v, w = project(net, params, "image", image), project(net, params, "text", text)
        return closeness(v, w), closeness(w, v)

    def schedule(epoch: int) -> Mapping[str, float]:
        return {"reversal": reversal(epoch, config.epochs)}

    return Phase(
        name="acmr",
        epochs=config.epochs,
        sampler=sampler,
        objectives=objectives(config, net),
        schedule=schedule,
        validate=None if val is None else select_by_scores(score, val, run),
        select=Select() if val is None else Select("max", "map"),
    )


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
class ACMR(Method):
    """Projectors of images and texts, tied by pairs and labels, with a classifier of modalities."""

    Config = ACMRConfig
    config: ACMRConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        return {"hidden_image": (12,), "hidden_text": (12,), "dim": 8, "epochs": 4, "batch": 16, "lr": 1e-2}

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring."""
        config, names = self.config, train.names
        train, val = in_roles(train), in_roles(val)
        widths = train["image"].dim, train["text"].dim
        net, start = build_replicas(
            lambda: ACMRNet(config, widths, train.classes),
            [derive_seed(seed, "acmr", "weights") for seed in run.seeds],
            run,
        )
        sampler = TupleSampler(train, run, config.batch, keep_remainder=False, shuffle=config.reshuffle)
        phase = phase_of(config, net, sampler, val if config.select == "val" else None, run)
        params = train_phase(phase, start, run).params
        return [ACMRRetriever(net, each, names) for each in each_replica(params)]
