"""MAN: Multimodal Adversarial Network for Cross-Modal Retrieval.

P. Hu, D. Peng, X. Wang, Y. Xiang, Knowledge-Based Systems 180, 2019, pp. 38-50. Public code:
penghu-cs/MAN@22fef8e5.

An encoder per modality gives z, a discriminator D shared by all modalities guesses from z which of the m
modalities it comes from. Per step, with means over the rows of a modality and sums over modalities:

    D moves along    L_D = sum_v mean 1/2 ||D(z) - e_v||^2                  (z held fixed)
    encoders along   L_A + fisher_beta L_M,  L_A = sum_v mean 1/2 ||D(z) - (1 - e_v)/(m - 1)||^2

with the D just updated. L_M (multimodal discriminant analysis) looks at the rows of all modalities as one
set: with the scatter within classes S_w (plus eta I) and between classes
S_b = sum_c n_c p_c p_c', p_c = phi(mu - mu_c), phi(t) = sign(t) log(1 + |t|), it is the negative mean log of
the largest generalised eigenvalues of (S_b, S_w). Only labels and modalities enter: which rows form a tuple
does not matter.

Where this differs from the public code:
- the code takes classes - 1 eigenvalues also where a batch holds fewer classes. Those beyond are zero but for
  rounding, and the logs of the positive ones rule the gradient. Here as many as the classes in the batch
  allow, less one, which is the same where none is missing, and float64 for the eigenvalues
  (``mda_rank="official"``: the code's rule in the precision of the run, 0 where no eigenvalue is positive);
- the solver's fallback, a larger eta where S_w is not positive definite, leaves S_w itself alone;
- phi has slope 1 at 0 (in the code 0, by automatic differentiation of the sign and the absolute value);
- ``sampler="independent"`` draws one permutation per modality (there one per number of rows), and all
  modalities have a short last batch where the smallest has one;
- text is a vector here, so it gets the dense encoder as every modality (there a convolutional network where
  a dataset comes with word vectors);
- a real validation set selects the epoch (for XMedia the code selects on test data, which is not offered).

Kept on purpose: embeddings are the raw outputs; the squared error on probabilities in place of a cross
entropy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmark.core.config import Count, Positive, Weight, Whole, Widths
from benchmark.core.data import Split
from benchmark.core.method import RunContext
from benchmark.core.registry import method
from benchmark.training import Batch, IndependentSampler, Model, Objective, Sampler, Terms, TupleSampler

from .blocks.base import Joint
from .blocks.config import JointConfig
from .blocks.eigen import generalized_eigenvalues
from .blocks.layers import MLP


class MANConfig(JointConfig):
    """Hyper-parameters, beside those of :class:`JointConfig`.

    Attributes:
        hidden: Widths of the hidden layers of every encoder.
        dim: Embedding width; 0: as many as classes.
        discriminator: Width of the discriminator's hidden layer.
        eta: Added to the diagonal of the scatter within classes.
        fisher_beta: Weight of the discriminant term.
        mda_rank: How many eigenvalues count: ``guard`` or ``official``, see the module's docstring.
        sampler: ``tuples``, or ``independent`` batches of every modality.
    """

    hidden: Widths
    dim: Whole
    discriminator: Count
    eta: Positive
    fisher_beta: Weight
    mda_rank: Literal["guard", "official"]
    sampler: Literal["tuples", "independent"]


class AdversarialNet(nn.Module):
    """An encoder per modality, and the discriminator of modalities."""

    def __init__(self, widths: Mapping[str, int], config: MANConfig, d: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: MLP(width, config.hidden, d) for name, width in widths.items()})
        self.discriminator = MLP(d, (config.discriminator,), len(widths))


def compressed(t: Tensor) -> Tensor:
    """``sign(t) log(1 + |t|)``, with slope 1 at 0."""
    return torch.where(t >= 0, t.clamp_min(0).log1p(), -(-t).clamp_min(0).log1p())


def scatters(x: Tensor, y: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """What the discriminant term compares.

    Args:
        x: ``(n, d)`` rows of all modalities.
        y: ``(n, C)`` one-hot.
        eta: Added to the diagonal.

    Returns:
        The scatter within classes ``(d, d)`` plus ``eta I``, and rows ``sqrt(n_c) phi(mu - mu_c)`` ``(C, d)``
        whose Gram matrix is the scatter between classes; zero for classes without a row.
    """
    counts = y.sum(dim=0)
    means = y.mT @ x / counts.clamp_min(1)[:, None]
    centred = x - y @ means
    within = centred.mT @ centred + eta * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return within, counts.sqrt()[:, None] * compressed(x.mean(dim=0) - means)


def discriminant(x: Tensor, y: Tensor, eta: float = 1e-3, rank: str = "guard") -> Tensor:
    """L_M: negative mean log of the eigenvalues that count; 0 where none does.

    Args:
        x: ``(n, d)`` rows of all modalities.
        y: ``(n, C)`` one-hot.
        eta: Added to the diagonal of the scatter within classes.
        rank: ``guard``: as many eigenvalues as classes in the batch, less one, in float64. ``official``:
            ``C - 1``, less those that are not positive, in the precision of ``x``.
    """
    kind = torch.float64 if rank == "guard" else torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        rows, labels = x.to(kind), y.to(kind)
        values = generalized_eigenvalues(*scatters(rows, labels, eta), eta)
        place = torch.arange(values.shape[-1], device=x.device)
        if rank == "guard":
            counted = place < (labels.sum(dim=0) > 0).sum() - 1
        else:
            counted = (place < y.shape[1] - 1) & (values > 0)
        logs = values.clamp_min(torch.finfo(kind).tiny).log()
        term = -torch.where(counted, logs, 0.0).sum() / counted.sum().clamp_min(1)
    return term.to(x.dtype)


def modality_errors(discriminator: Model, z: Sequence[Tensor], *, fooled: bool) -> Tensor:
    """Per modality the mean of ``1/2 ||D(z) - target||^2``, ``(m,)``.

    Args:
        discriminator: ``(n, d)`` rows to ``(n, m)`` logits of D.
        z: Per modality ``(B_v, d)``.
        fooled: Target: the own modality, or all the others equally.
    """
    sizes = [len(rows) for rows in z]
    guesses = discriminator(torch.cat(list(z))).softmax(dim=-1)
    own = torch.eye(len(z), dtype=guesses.dtype, device=guesses.device)
    targets = (1 - own) / (len(z) - 1) if fooled else own
    parts = zip(torch.split(guesses, sizes), targets, strict=True)
    return torch.stack([(rows - target).square().sum(dim=-1).mean() / 2 for rows, target in parts])


def expected_classes(labels: Tensor, batch: int) -> float:
    """Classes a batch of so many rows drawn at random is expected to hold, from ``(n, C)`` one-hot labels."""
    share = labels.double().mean(dim=0)
    return float((1 - (1 - share) ** batch).sum())


@method(
    "man",
    title="MAN",
    paper="Multimodal adversarial network for cross-modal retrieval",
    venue="KBS",
    year=2019,
    group="paired-oriented",
    modalities="many",
    multilabel=False,
    version=1,
)
class MAN(Joint):
    """Encoders against a discriminator of modalities, with a discriminant analysis of all modalities."""

    Config = MANConfig
    config: MANConfig
    keep = ("encoders.",)

    def network(self, train: Split) -> AdversarialNet:
        """Encoders and discriminator."""
        return AdversarialNet({m.name: m.dim for m in train}, self.config, self.config.dim or train.classes)

    def sampler(self, train: Split, run: RunContext) -> TupleSampler | IndependentSampler:
        """Tuples, or a batch of every modality by itself."""
        serve = TupleSampler if self.config.sampler == "tuples" else IndependentSampler
        return serve(train, run, self.config.batch)

    def objectives(self, net: nn.Module) -> tuple[Objective, ...]:
        """The discriminator's, then the encoders'."""
        del net
        return (
            Objective(self.discriminator_loss, self.optimizer(), ("discriminator.",)),
            Objective(self.loss, self.optimizer(), ("encoders.",)),
        )

    def notes(self, train: Split, sampler: Sampler) -> dict[str, Any]:
        """How many classes a batch is expected to hold: where some lack, ``mda_rank`` matters."""
        labels = torch.from_numpy(train.label_matrix(train.names[0]))
        return {"classes_per_batch": expected_classes(labels, sampler.sizes[0])}

    def encode(self, model: Model, batch: Batch) -> list[Tensor]:
        """The rows z of every modality, ``(B_v, d)``."""
        return [self.embed(model, name, x) for name, x in batch.x.items()]

    def loss(self, model: Model, batch: Batch) -> Terms:
        """What the encoders minimise on one batch."""
        z, y = self.encode(model, batch), torch.cat(list(batch.y.values()))
        adversarial = modality_errors(model.discriminator, z, fooled=True).sum()
        fisher = discriminant(torch.cat(z), y, self.config.eta, self.config.mda_rank)
        total = adversarial + self.config.fisher_beta * fisher
        return {"total": total, "adversarial": adversarial, "discriminant": fisher}

    def discriminator_loss(self, model: Model, batch: Batch) -> Terms:
        """L_D of one batch."""
        z = self.encode(model.detached(), batch)
        errors = modality_errors(model.discriminator, z, fooled=False)
        return {"total": errors.sum(), "discriminator": errors.sum()}

    def embed(self, model: Model, modality: str, x: Tensor) -> Tensor:
        """z, as the encoder gives it."""
        found: Tensor = model.encoders[modality](x)
        return found
