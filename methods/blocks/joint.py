"""What methods share that train all modalities of a run together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.core.data import Split
from benchmark.core.method import Retriever, Run
from benchmark.evaluation.validation import mean_average_precision, validation_map
from benchmark.training.train import Params, Terms

from .layers import part_of

Embed = Callable[[Params, str, Tensor], Tensor]
"""``embed(params, modality, features (n, D)) -> (n, d)`` of one replica, as used for retrieval."""
Score = Callable[[Params, Tensor, Tensor], tuple[Tensor, Tensor]]
"""``score(params, first (n, D1), second (m, D2)) -> (n, m) and (m, n)`` of one replica, a query per row."""
CHUNK = 4096
"""Validation rows per forward pass."""


def embed_by_encoder(encoders: nn.ModuleList, names: Sequence[str]) -> Embed:
    """Embeddings by one encoder per modality, in the order of ``names``; parameters ``encoders.<k>.*``."""
    place = {name: k for k, name in enumerate(names)}

    def embed(params: Params, modality: str, features: Tensor) -> Tensor:
        k = place[modality]
        found: Tensor = functional_call(encoders[k], part_of(params, f"encoders.{k}."), (features,))
        return found

    return embed


def select_by_map(embed: Embed, val: Split, run: Run) -> Callable[[Params, Params], Terms]:
    """For ``Phase.validate``: ``map``, the mean validation MAP@all over all ordered pairs of modalities."""
    features = {m.name: run.tensor(m.features) for m in val}
    labels = {m.name: run.tensor(val.label_matrix(m.name)) for m in val}

    def validate(params: Params, now: Params) -> Terms:  # noqa: ARG001 - retrieval depends on the model alone
        embedded = {
            name: torch.cat([embed(params, name, rows) for rows in x.split(CHUNK)])
            for name, x in features.items()
        }
        return {"map": validation_map(embedded, labels)}

    return validate


def select_by_scores(score: Score, val: Split, run: Run) -> Callable[[Params, Params], Terms]:
    """For ``Phase.validate``: ``map`` of two modalities by a method's own scores, mean of both directions."""
    features = tuple(run.tensor(m.features) for m in val)
    first, second = (run.tensor(val.label_matrix(m.name)) for m in val)
    relevant = first @ second.mT > 0

    def validate(params: Params, now: Params) -> Terms:  # noqa: ARG001 - retrieval depends on the model alone
        there, back = score(params, *features)
        ways = mean_average_precision(there, relevant), mean_average_precision(back, relevant.mT)
        return {"map": torch.stack(ways).mean()}

    return validate


class JointRetriever(Retriever):
    """A model of all modalities, with the parameters of one seed."""

    def __init__(self, embed_rows: Embed, params: Params) -> None:
        self.embed_rows, self.params = embed_rows, params

    def embed(self, modality: str, features: Tensor) -> Tensor:
        """Features ``(n, D)`` to embeddings ``(n, d)``."""
        with torch.no_grad():
            return self.embed_rows(self.params, modality, features)


def joint_retrievers(embed: Embed, stacked: Mapping[str, Tensor]) -> list[Retriever]:
    """The retriever of every replica, from parameters stacked ``(R, ...)``."""
    return [JointRetriever(embed, params) for params in each_replica(stacked)]


def each_replica(stacked: Mapping[str, Tensor]) -> list[Params]:
    """The parameters of every replica, from those stacked ``(R, ...)``."""
    replicas = len(next(iter(stacked.values())))
    return [{n: p[r] for n, p in stacked.items()} for r in range(replicas)]


IMAGE_TEXT = ("image", "text")


def in_roles(split: Split) -> Split:
    """The two modalities of a split under the names ``image`` and ``text``, in their order.

    For methods that are written for images and texts and serve other pairs beyond their publication.
    """
    modalities = dict(zip(IMAGE_TEXT, split, strict=True))
    renamed = {role: replace(modality, name=role) for role, modality in modalities.items()}
    return Split(split.name, renamed, split.classes, split.label_form)


def split_tensors(split: Split, name: str, run: Run) -> tuple[Tensor, Tensor]:
    """Features ``(n, D)`` and label rows ``(n, C)`` of a modality on the run's device."""
    return run.tensor(split[name].features), run.tensor(split.label_matrix(name))
