"""What trained methods have in common, so that a method's file is its mathematics.

A method says its ``network``, its ``loss`` of one replica and how it ``embed``s; seeds, phases, selection and
retrievers are made here. What a method needs beyond that it says by overriding one of the other steps.

A method's file has its title, objective and differences from the public code, then its ``Config``, networks,
losses as functions of tensors, and the method itself, whose members come in the order in which training needs
them: network, sampler, start, constants, optimisers, notes, phase, loss, validation, ``embed``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.core.data import Split
from benchmark.core.method import FitLog, Method, Retriever, RunContext, derive_seed
from benchmark.errors import UnsupportedError
from benchmark.training import (
    Adam,
    Batch,
    Model,
    Objective,
    Params,
    Phase,
    RowSampler,
    Sampler,
    Select,
    Terms,
    TupleSampler,
    build_replicas,
    each_replica,
    train_phase,
)

from .joint import IMAGE_TEXT, Embed, InRoles, Score, in_roles, select_by_map, select_by_scores, split_tensors

Weights = tuple[nn.Module, Params]
"""A network without weights, and parameters stacked ``(R, ...)``."""


class Joint(Method):
    """One network for all modalities, trained on tuples; the kept epoch has the best validation MAP."""

    config: Any
    keep: ClassVar[tuple[str, ...]] = ("encoder.",)
    """Prefixes of the parameters that retrieval needs; empty for all."""

    @abstractmethod
    def network(self, train: Split) -> nn.Module:
        """A network with freshly drawn weights."""

    @abstractmethod
    def loss(self, model: Model, batch: Batch) -> Terms:
        """All terms of one replica's loss, ``total`` among them."""

    @abstractmethod
    def embed(self, model: Model, modality: str, x: Tensor) -> Tensor:
        """Features ``(n, D)`` of a modality to embeddings ``(n, d)`` of one replica."""

    def sampler(self, train: Split, run: RunContext) -> Sampler:
        """How training rows are served."""
        return TupleSampler(train, run, self.config.batch)

    def start(self, train: Split, run: RunContext) -> Weights:
        """The network with its initial parameters."""
        seeds = [derive_seed(seed, self.info.id, "weights") for seed in run.seeds]
        return build_replicas(lambda: self.network(train), seeds, run)

    def constants(self, train: Split, start: Params, run: RunContext) -> Params:
        """Tensors ``(R, ...)`` that losses find in ``batch.now``."""
        del train, start, run
        return {}

    def optimizer(self) -> Adam:
        """Settings of the optimiser."""
        return Adam(self.config.lr, self.config.betas)

    def objectives(self, net: nn.Module) -> tuple[Objective, ...]:
        """What a step minimises, in update order."""
        del net
        return (Objective(self.loss, self.optimizer()),)

    def notes(self, train: Split, sampler: Sampler) -> dict[str, Any]:
        """What is worth knowing of the run beforehand, kept with its results."""
        del train, sampler
        return {}

    def phase(self, net: nn.Module, sampler: Sampler) -> Phase:
        """All training, but for constants, validation and selection."""
        return Phase(
            name=self.info.id,
            net=net,
            epochs=self.config.epochs,
            sampler=sampler,
            objectives=self.objectives(net),
            state=tuple(name for name, _ in net.named_buffers()),
            keep=self.keep,
        )

    def validation(self, val: Split, run: RunContext) -> Callable[[Model, Params], Terms] | None:
        """What is measured after every epoch: ``map``, by which an epoch is selected."""
        return select_by_map(self.embed, val, run)

    def retriever(self, model: Model) -> Retriever:
        """The model of one seed."""
        return ModelRetriever(self.embed, model)

    def fit(self, train: Split, val: Split, run: RunContext, log: FitLog) -> list[Retriever]:
        """See the module's docstring."""
        net, start = self.start(train, run)
        sampler = self.sampler(train, run)
        log.notes |= self.notes(train, sampler)
        phase = replace(
            self.phase(net, sampler),
            constants=self.constants(train, start, run),
            validate=self.validation(val, run),
            select=Select() if self.config.select == "last" else Select("max", "map"),
        )
        params = train_phase(phase, start, run, log).params
        return [self.retriever(Model(net, each)) for each in each_replica(params)]


class ModelRetriever(Retriever):
    """A model of all modalities, with the parameters of one seed."""

    def __init__(self, embed_rows: Callable[[Model, str, Tensor], Tensor], model: Model) -> None:
        self.embed_rows, self.model = embed_rows, model

    def embed(self, modality: str, features: Tensor) -> Tensor:
        """Features ``(n, D)`` to embeddings ``(n, d)``."""
        with torch.no_grad():
            return self.embed_rows(self.model, modality, features)


class PairScoring(Joint):
    """Joint training of a network that scores pairs of an image and a text, by the scores it ranks by.

    The first of two other modalities has the image's part (``--pairwise``).
    """

    keep = ()

    @abstractmethod
    def score(self, model: Model, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of images ``(n, D)`` and texts ``(m, E)``: a query per row, ``(n, m)`` and ``(m, n)``."""

    def embed(self, model: Model, modality: str, x: Tensor) -> Tensor:
        """For networks that have embeddings; retrieval does without."""
        del model, modality, x
        raise NotImplementedError(f"{self.info.id} scores pairs directly; use similarity()")

    def retriever(self, model: Model) -> Retriever:
        """The model of one seed."""
        return PairRetriever(self.embed, model, self.score)

    def validation(self, val: Split, run: RunContext) -> Callable[[Model, Params], Terms] | None:
        """``map`` by the method's own scores, where an epoch is selected by it."""
        return None if self.config.select == "last" else select_by_scores(self.score, val, run)

    def fit(self, train: Split, val: Split, run: RunContext, log: FitLog) -> list[Retriever]:
        """See the module's docstring."""
        return [InRoles(each, train.names) for each in super().fit(in_roles(train), in_roles(val), run, log)]


class PairRetriever(ModelRetriever):
    """Scores of images and texts, with the parameters of one seed.

    Both directions are scored at once; the one that was not asked for is held until it is, or until other
    tensors come.
    """

    def __init__(self, embed_rows: Embed, model: Model, score: Score) -> None:
        super().__init__(embed_rows, model)
        self.score = score
        self.held: tuple[Tensor, Tensor, tuple[int, int], dict[str, Tensor]] | None = None

    def similarity(self, query: str, queries: Tensor, database: str, items: Tensor) -> Tensor:
        """Scores ``(n_q, n_d)``."""
        given = {query: queries, database: items}
        image, text = (given[role] for role in IMAGE_TEXT)
        state = image._version, text._version  # raised by every change in place
        held = self.held
        known = held is not None and held[0] is image and held[1] is text and held[2] == state
        if held is None or not known or query not in held[3]:
            with torch.no_grad():
                both = self.score(self.model, image, text)
            self.held = held = image, text, state, dict(zip(IMAGE_TEXT, both, strict=True))
        return held[3].pop(query)


class Alone(Method):
    """Every modality trains by itself, towards something that is fixed beforehand and shared by all."""

    config: Any
    keep: ClassVar[tuple[str, ...]] = ()
    stage: ClassVar[str]
    """Names the phases, ``<stage>/<modality>``, and their random streams."""
    best: ClassVar[Select]
    """Which epoch is kept unless ``config.select`` asks for the last."""

    @abstractmethod
    def network(self, train: Split, modality: str) -> nn.Module:
        """A network for a modality with freshly drawn weights."""

    @abstractmethod
    def loss(self, model: Model, batch: Batch) -> Terms:
        """All terms of one replica's loss, ``total`` among them."""

    @abstractmethod
    def embed(self, model: Model, x: Tensor) -> Tensor:
        """Features ``(n, D)`` of the model's modality to embeddings ``(n, d)`` of one replica."""

    @abstractmethod
    def shared(self, train: Split, run: RunContext, log: FitLog) -> Params:
        """What all modalities train towards, ``(R, ...)``: losses find it in ``batch.now``."""

    @abstractmethod
    def validation(self, held: tuple[Tensor, Tensor], model: Model, now: Params) -> Terms:
        """What is measured after every epoch on validation features ``(n, D)`` and labels ``(n, C)``."""

    def rate(self, modality: str) -> float:
        """Learning rate of a modality; 0 where the configuration names none."""
        rates: Mapping[str, float] = self.config.lr
        return rates.get(modality, rates.get("default", 0.0))

    def sampler(self, x: Tensor, y: Tensor, modality: str) -> Sampler:
        """How the rows of a modality are served."""
        return RowSampler(x, y, self.config.batch, name=modality)

    def start(self, train: Split, modality: str, run: RunContext) -> Weights:
        """The network with its initial parameters."""
        seeds = [derive_seed(seed, self.stage, modality, "weights") for seed in run.seeds]
        return build_replicas(lambda: self.network(train, modality), seeds, run)

    def phase(self, net: nn.Module, sampler: Sampler, held: tuple[Tensor, Tensor], modality: str) -> Phase:
        """Training of one modality, given validation features and labels; without what is shared."""
        return Phase(
            name=f"{self.stage}/{modality}",
            net=net,
            epochs=self.config.epochs,
            sampler=sampler,
            objectives=(Objective(self.loss, Adam(self.rate(modality), self.config.betas)),),
            validate=partial(self.validation, held),
            select=Select() if self.config.select == "last" else self.best,
            keep=self.keep,
        )

    def fit_modality(
        self,
        modality: str,
        start: Weights,
        shared: Params,
        train: Split,
        val: Split,
        run: RunContext,
        log: FitLog,
    ) -> Weights:
        """The trained network of one modality."""
        net, params = start
        sampler = self.sampler(*split_tensors(train, modality, run), modality)
        phase = self.phase(net, sampler, split_tensors(val, modality, run), modality)
        return net, self.trained(replace(phase, constants=shared), params, run, log)

    def trained(self, phase: Phase, start: Params, run: RunContext, log: FitLog) -> Params:
        """What a modality's phase makes of its initial parameters, ``(R, ...)``."""
        return train_phase(phase, start, run, log).params

    def fit(self, train: Split, val: Split, run: RunContext, log: FitLog) -> list[Retriever]:
        """See the module's docstring."""
        shared = self.shared(train, run, log)
        trained = {
            name: self.fit_modality(name, self.start(train, name, run), shared, train, val, run, log)
            for name in train.names
        }
        return separate_retrievers(self.embed, trained)


class SeparateRetriever(Retriever):
    """A model per modality, with the parameters of one seed."""

    def __init__(self, embed_rows: Callable[[Model, Tensor], Tensor], models: Mapping[str, Model]) -> None:
        self.embed_rows, self.models = embed_rows, models

    def embed(self, modality: str, features: Tensor) -> Tensor:
        """Features ``(n, D)`` to embeddings ``(n, d)``."""
        with torch.no_grad():
            return self.embed_rows(self.models[modality], features)


def separate_retrievers(
    embed: Callable[[Model, Tensor], Tensor], trained: Mapping[str, Weights]
) -> list[Retriever]:
    """The retriever of every replica, from modules and parameters ``(R, ...)`` per modality."""
    each = {name: (net, each_replica(params)) for name, (net, params) in trained.items()}
    replicas = min(len(params) for _, params in each.values())
    return [
        SeparateRetriever(embed, {name: Model(net, params[r]) for name, (net, params) in each.items()})
        for r in range(replicas)
    ]


def check_width(method: Method, train: Split) -> None:
    """Raise ``UnsupportedError`` for more classes than orthogonal columns of length ``config.dim``."""
    if train.classes > method.config.dim:
        raise UnsupportedError(
            f"{method.info.id} needs an embedding at least as wide as the {train.classes} classes, not "
            f"{method.config.dim}; --set dim={train.classes}"
        )
