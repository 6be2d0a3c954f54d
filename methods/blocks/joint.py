"""Validation and roles of modalities, for methods that train all modalities of a run together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from benchmark.core.data import Split
from benchmark.core.method import Retriever, RunContext
from benchmark.evaluation.validation import mean_average_precision, validation_map
from benchmark.training import Model, Params, Terms

Embed = Callable[[Model, str, Tensor], Tensor]
"""``embed(model, modality, features (n, D)) -> (n, d)`` of one replica, as used for retrieval."""
Score = Callable[[Model, Tensor, Tensor], tuple[Tensor, Tensor]]
"""``score(model, first (n, D1), second (m, D2)) -> (n, m) and (m, n)`` of one replica, a query per row."""
CHUNK = 4096
"""Validation rows per forward pass."""
IMAGE_TEXT = ("image", "text")


def select_by_map(embed: Embed, val: Split, run: RunContext) -> Callable[[Model, Params], Terms]:
    """For ``Phase.validate``: ``map``, the mean validation MAP@all over all ordered pairs of modalities."""
    features = {m.name: run.tensor(m.features) for m in val}
    labels = {m.name: run.tensor(val.label_matrix(m.name)) for m in val}

    def validate(model: Model, now: Params) -> Terms:
        del now  # retrieval depends on the model alone
        embedded = {
            name: torch.cat([embed(model, name, rows) for rows in x.split(CHUNK)])
            for name, x in features.items()
        }
        return {"map": validation_map(embedded, labels)}

    return validate


def select_by_scores(score: Score, val: Split, run: RunContext) -> Callable[[Model, Params], Terms]:
    """For ``Phase.validate``: ``map`` of two modalities by a method's own scores, mean of both directions."""
    features = tuple(run.tensor(m.features) for m in val)
    first, second = (run.tensor(val.label_matrix(m.name)) for m in val)
    relevant = first @ second.mT > 0

    def validate(model: Model, now: Params) -> Terms:
        del now
        there, back = score(model, *features)
        both = mean_average_precision(there, relevant), mean_average_precision(back, relevant.mT)
        return {"map": torch.stack(both).mean()}

    return validate


def in_roles(split: Split) -> Split:
    """The two modalities of a split under the names ``image`` and ``text``, in their order.

    For methods that are written for images and texts and serve other pairs beyond their publication.
    """
    modalities = dict(zip(IMAGE_TEXT, split, strict=True))
    renamed = {role: replace(modality, name=role) for role, modality in modalities.items()}
    return Split(split.name, renamed, split.classes, split.label_form)


class InRoles(Retriever):
    """A retriever of images and texts that serves two modalities of other names, the first as images."""

    def __init__(self, inner: Retriever, names: tuple[str, ...]) -> None:
        self.inner, self.roles = inner, dict(zip(names, IMAGE_TEXT, strict=True))

    def embed(self, modality: str, features: Tensor) -> Tensor:
        """As the inner one does."""
        return self.inner.embed(self.roles[modality], features)

    def similarity(self, query: str, queries: Tensor, database: str, items: Tensor) -> Tensor | None:
        """As the inner one does."""
        return self.inner.similarity(self.roles[query], queries, self.roles[database], items)


def split_tensors(split: Split, name: str, run: RunContext) -> tuple[Tensor, Tensor]:
    """Features ``(n, D)`` and label rows ``(n, C)`` of a modality on the run's device."""
    return run.tensor(split[name].features), run.tensor(split.label_matrix(name))
