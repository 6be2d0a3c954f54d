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
- ``sampling="independent"`` draws one permutation per modality (there one per number of rows), and all
  modalities have a short last batch where the smallest has one;
- text is a vector here, so it gets the dense encoder as every modality (there a convolutional network where
  a dataset comes with word vectors);
- a real validation set selects the epoch (for XMedia the code selects on test data, which is not offered).

Kept on purpose: embeddings are the raw outputs; the squared error on probabilities in place of a cross
entropy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.core.data import Split
from benchmark.core.method import Method, Retriever, Run, choice, derive_seed
from benchmark.core.registry import method
from benchmark.training.samplers import Batch, IndependentSampler, Sampler, TupleSampler
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

from .blocks.joint import Embed, embed_by_encoder, joint_retrievers, select_by_map
from .blocks.layers import MLP, part_of

JITTER = (0.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
"""Multiples of eta added to S_w, the first that makes it positive definite."""


@dataclass(frozen=True)
class MANConfig:
    """Hyper-parameters; defaults are those of the public code for Wikipedia.

    Attributes:
        hidden: Widths of the hidden layers of every encoder.
        dim: Embedding width; 0: as many as classes.
        discriminator: Width of the discriminator's hidden layer.
        epochs: Passes over the training data.
        batch: Rows per modality and step.
        lr: Learning rate of encoders and discriminator.
        betas: Adam's decay rates.
        eta: Added to the diagonal of the scatter within classes.
        fisher_beta: Weight of the discriminant term.
        mda_rank: How many eigenvalues count: ``guard`` or ``official``, see the module's docstring.
        sampling: ``tuples``, or ``independent`` batches of every modality.
        select: Epoch kept: the highest validation ``map``, or the ``last``.
    """

    hidden: tuple[int, ...] = (1024, 1024)
    dim: int = 0
    discriminator: int = 128
    epochs: int = 200
    batch: int = 100
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    eta: float = 1e-3
    fisher_beta: float = 1.0
    mda_rank: str = "guard"
    sampling: str = "tuples"
    select: str = "map"

    def __post_init__(self) -> None:
        choice("mda_rank", self.mda_rank, ("guard", "official"))
        choice("sampling", self.sampling, ("tuples", "independent"))
        choice("select", self.select, ("map", "last"))
        if min(self.epochs, self.batch, self.discriminator, *self.hidden) < 1 or self.dim < 0:
            raise ValueError("epochs, batch, discriminator and hidden must be positive, dim not negative")
        if self.eta <= 0 or self.lr < 0 or self.fisher_beta < 0:
            raise ValueError("eta must be positive, lr and fisher_beta not negative")


class AdversarialNet(nn.Module):
    """An encoder per modality, and the discriminator of modalities."""

    def __init__(self, widths: Sequence[int], config: MANConfig, d: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(MLP(width, config.hidden, d) for width in widths)
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


def generalized_eigenvalues(within: Tensor, between: Tensor, eta: float) -> Tensor:
    """Eigenvalues of ``B'B w = lambda S w``, largest first; ``min(d, C)`` of them, the others are 0.

    Args:
        within: S, ``(d, d)``.
        between: B, ``(C, d)``.
        eta: Unit of what is added to S where it is not positive definite.
    """
    d = within.shape[0]
    identity = torch.eye(d, dtype=within.dtype, device=within.device)
    shifts = eta * torch.tensor(JITTER, dtype=within.dtype, device=within.device)
    failed = torch.linalg.cholesky_ex(within.detach() + shifts[:, None, None] * identity).info != 0
    first = (failed.cumsum(dim=0) == torch.arange(1, len(JITTER) + 1, device=within.device)).sum()
    shift = torch.where(torch.arange(len(JITTER), device=within.device) == first, shifts, 0.0).sum()
    factor = torch.linalg.cholesky_ex(within + shift * identity).L
    whitened = torch.linalg.solve_triangular(factor, between.mT, upper=False)  # (d, C)
    gram = whitened @ whitened.mT if d <= between.shape[0] else whitened.mT @ whitened
    # A solver refuses what is not finite; the adversarial term of the same rows then reports it.
    return torch.linalg.eigvalsh(torch.where(gram.isfinite(), gram, 0.0)).flip(-1)


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


def modality_errors(net: nn.Module, params: Params, z: Sequence[Tensor], *, fooled: bool) -> Tensor:
    """Per modality the mean of ``1/2 ||D(z) - target||^2``, ``(m,)``.

    Args:
        net: Weightless discriminator.
        params: Its parameters.
        z: Per modality ``(B_v, d)``.
        fooled: Target: the own modality, or all the others equally.
    """
    sizes = [len(rows) for rows in z]
    guesses: Tensor = functional_call(net, params, (torch.cat(list(z)),)).softmax(dim=-1)
    own = torch.eye(len(z), dtype=guesses.dtype, device=guesses.device)
    targets = (1 - own) / (len(z) - 1) if fooled else own
    parts = zip(guesses.split(sizes), targets, strict=True)
    return torch.stack([(rows - target).square().sum(dim=-1).mean() / 2 for rows, target in parts])


def adversarial_phase(
    config: MANConfig, net: AdversarialNet, embed: Embed, names: Sequence[str], sampler: Sampler
) -> Phase:
    """Training of all encoders and the discriminator, without a validation quantity yet."""

    def discriminator_loss(params: Params, batch: Batch, now: Params) -> Terms:  # noqa: ARG001 - no constants
        still = {n: p.detach() for n, p in params.items() if n.startswith("encoders.")}
        z = [embed(still, name, batch[f"x/{name}"]) for name in names]
        errors = modality_errors(net.discriminator, part_of(params, "discriminator."), z, fooled=False)
        return {"total": errors.sum(), "discriminator": errors.sum()}

    def encoder_loss(params: Params, batch: Batch, now: Params) -> Terms:  # noqa: ARG001 - as above
        z = [embed(params, name, batch[f"x/{name}"]) for name in names]
        y = torch.cat([batch[f"y/{name}"] for name in names])
        errors = modality_errors(net.discriminator, part_of(params, "discriminator."), z, fooled=True)
        fisher = discriminant(torch.cat(z), y, config.eta, config.mda_rank)
        return {
            "total": errors.sum() + config.fisher_beta * fisher,
            "adversarial": errors.sum(),
            "discriminant": fisher,
        }

    adam = Adam(config.lr, config.betas)
    return Phase(
        name="man",
        epochs=config.epochs,
        sampler=sampler,
        objectives=(
            Objective(discriminator_loss, adam, ("discriminator.",)),
            Objective(encoder_loss, adam, ("encoders.",)),
        ),
        select=Select("last") if config.select == "last" else Select("max", "map"),
        keep=("encoders.",),
    )


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
class MAN(Method):
    """Encoders against a discriminator of modalities, with a discriminant analysis of all modalities."""

    Config = MANConfig
    config: MANConfig

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Hyper-parameters for contract checks."""
        return {"hidden": (16, 16), "discriminator": 8, "epochs": 3, "batch": 12, "lr": 2e-3}

    def fit(self, train: Split, val: Split, run: Run) -> list[Retriever]:
        """See the module's docstring.

        Notes ``classes_per_batch``: how many classes a batch is expected to hold. Where that is fewer than
        there are, ``mda_rank`` matters.
        """
        config, names = self.config, train.names
        d = config.dim or train.classes
        seeds = [derive_seed(seed, "man", "weights") for seed in run.seeds]
        net, start = build_replicas(
            lambda: AdversarialNet([train[n].dim for n in names], config, d), seeds, run
        )
        embed = embed_by_encoder(net.encoders, names)
        serve = TupleSampler if config.sampling == "tuples" else IndependentSampler
        sampler = serve(train, run, config.batch)
        run.notes["classes_per_batch"] = expected_classes(sampler.labels[names[0]], sampler.sizes[0])
        phase = adversarial_phase(config, net, embed, names, sampler)
        phase = replace(phase, validate=select_by_map(embed, val, run))
        return joint_retrievers(embed, train_phase(phase, start, run).params)
