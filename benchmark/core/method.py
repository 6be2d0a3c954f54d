"""The Method interface: what a method gets, and what it hands back."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmark.core.data import Split
from benchmark.core.info import MethodInfo
from benchmark.errors import RecipeError, UnknownNameError, UnsupportedError

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for one random stream of a run, e.g. ``derive_seed(1, "rsc", "image", "batches")``.

    Hashing keeps streams apart and independent of the order in which they are drawn, so that training a
    modality or a replica alone or in company uses the same numbers.
    """
    digest = hashlib.sha256("|".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class RunContext:
    """Everything about a run a method may need, and nothing about test data.

    Attributes:
        seeds: One model is trained per seed.
        device: Where to train.
        precision: ``fp32``, ``tf32``, ``bf16`` (autocast; weights stay float32) or ``fp64``.
        replicas: ``together`` (stacked parameters), ``alone`` (one seed after the other), or ``auto``
            (together on CUDA, alone on a CPU).
        progress: Called as ``progress(phase, epoch, epochs, numbers)`` after every epoch.
        checkpoints: Folder for finished phases, so that an interrupted run resumes; ``None`` for none.
        shared: Folder of finished phases that other runs on the same data may use too; ``None`` for none.
    """

    seeds: tuple[int, ...] = (1,)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    replicas: str = "auto"
    progress: Callable[[str, int, int, Mapping[str, float]], None] | None = None
    checkpoints: Path | None = None
    shared: Path | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Type of parameters and features."""
        return PRECISIONS[self.precision]

    def tensor(self, array: Any) -> Tensor:
        """A numpy array on the run's device, floating types converted to the run's precision."""
        tensor = torch.as_tensor(array)
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)


@dataclass
class FitLog:
    """What a fit leaves besides its models.

    Attributes:
        history: Filled by the training loop: ``{phase: {quantity: [[per replica] per epoch]}}``.
        notes: Facts for the run record (which prior won, which ridge was chosen).
        arrays: Small named arrays worth storing with the run (a prior matrix).
    """

    history: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Any] = field(default_factory=dict)

    def join(self, name: str, part: FitLog) -> None:
        """Enter what a part of the run left, as ``<name>/<entry>``."""
        for mine, other in zip(vars(self).values(), vars(part).values(), strict=True):
            mine |= {f"{name}/{entry}": value for entry, value in other.items()}


class Retriever:
    """A fitted model: turns features of any trained modality into comparable embeddings."""

    def embed(self, modality: str, features: Tensor) -> Tensor:
        """Map ``(n, D_modality)`` features to ``(n, d)`` embeddings, compared by cosine."""
        raise NotImplementedError(f"{type(self).__name__} scores pairs directly; use similarity()")

    def similarity(self, query: str, queries: Tensor, database: str, items: Tensor) -> Tensor | None:
        """``(n_q, n_d)`` scores of queries against database items, higher is more similar.

        Return ``None`` (the default) to have the cosine of embeddings computed, once for both directions.
        """
        del query, queries, database, items
        return None


class Method(ABC):
    """A retrieval method. Decorate the class with ``@method(id, ...)``.

    A subclass names its hyper-parameters in a frozen dataclass, usually one made of
    :class:`benchmark.core.config.Config`, and refers to it as ``Config``; the values of a run come from its
    recipe.
    """

    info: ClassVar[MethodInfo]
    Config: ClassVar[type]
    beyond_kinds: bool = False
    """Whether modalities outside ``info.kinds`` are served too; set where ``--pairwise`` was asked for."""

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Method:
        """Build the method from resolved hyper-parameters.

        Raises:
            UnknownNameError: A name the method does not have.
            RecipeError: A value its ``Config`` refuses.
        """
        names = {f.name for f in dataclasses.fields(cls.Config)}
        if unknown := sorted(set(values) - names):
            raise UnknownNameError(f"hyper-parameter of {cls.info.id}", unknown[0], sorted(names))
        try:
            return cls(cls.Config(**values))
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{cls.info.id}: {error}") from None

    def check(self, train: Split) -> None:
        """Refuse data the method is not defined for, before anything is computed.

        Args:
            train: The training split.

        Raises:
            UnsupportedError: With the reason.
        """
        info = self.info
        if len(train.names) < 2:
            raise UnsupportedError(f"{info.id} needs at least two modalities, got {', '.join(train.names)}")
        names = ", ".join(train.names)
        if info.modalities == "two" and len(train.names) != 2:
            two = info.kinds if set(info.kinds) <= set(train.names) else ()
            either = ",".join((two or train.names)[:2])
            raise UnsupportedError(
                f"{info.id} is defined for two modalities, not {len(train.names)} ({names}); --pairwise "
                f"trains one model for every two modalities, or choose two with --modalities {either}"
            )
        if info.kinds and not self.beyond_kinds and not set(train.names) <= set(info.kinds):
            raise UnsupportedError(
                f"{info.id} serves {' and '.join(info.kinds)} only, got {names}; --pairwise extends it to "
                "other modalities, which its publication does not do"
            )
        if train.label_form == "multi" and not info.multilabel:
            raise UnsupportedError(f"{info.id} is defined for one label per item; this dataset has several")

    @abstractmethod
    def fit(self, train: Split, val: Split, run: RunContext, log: FitLog) -> list[Retriever]:
        """Train on ``train``, select on ``val``, and return one retriever per seed of ``run.seeds``.

        Args:
            train: Training rows.
            val: Validation rows.
            run: Seeds, device, precision, ...
            log: Where to leave facts and arrays worth keeping with the result.
        """
