"""Retrievers several methods share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.core.method import Retriever
from benchmark.training.train import Params


class EncoderRetriever(Retriever):
    """One encoder per modality, with the weights of one seed.

    Args:
        encoders: Weightless templates. One that returns several outputs is compared by the first.
        params: Per modality the parameters of this seed.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], params: Mapping[str, Params]) -> None:
        self.encoders, self.params = encoders, params

    def embed(self, modality: str, features: Tensor) -> Tensor:
        """Features ``(n, D)`` to embeddings ``(n, d)``."""
        with torch.no_grad():
            found: Tensor | tuple[Tensor, ...] = functional_call(
                self.encoders[modality], self.params[modality], (features,)
            )
        return found if isinstance(found, Tensor) else found[0]


def one_per_replica(encoders: Mapping[str, nn.Module], stacked: Mapping[str, Params]) -> list[Retriever]:
    """The retriever of every replica, from parameters stacked ``(R, ...)`` per modality."""
    replicas = len(next(iter(next(iter(stacked.values())).values())))
    return [
        EncoderRetriever(encoders, {m: {n: p[r] for n, p in params.items()} for m, params in stacked.items()})
        for r in range(replicas)
    ]
