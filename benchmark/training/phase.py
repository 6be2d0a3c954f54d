"""What a method tells the training loop: phases, their objectives, and which epoch is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from benchmark.training.model import Model, Params
from benchmark.training.optim import SGD, Adam, Factor, Group
from benchmark.training.samplers import Batch, Sampler

Terms = dict[str, Tensor]
Loss = Callable[[Model, Batch], Terms]
Hook = Callable[[Model, Params], Params]
STATE = "state/"
"""Prefix of the entries a loss returns to replace a tensor of the phase's state."""


@dataclass(frozen=True)
class Objective:
    """One loss and the parameters it moves.

    Attributes:
        loss: ``loss(model, batch) -> {term: scalar}`` of *one* replica. The term ``total`` is minimised, the
            others are logged; an entry ``state/<name>`` replaces the tensor of that name in the phase's
            state. Must be traceable by vmap: no Python branch on tensor values.
        optimizer: Its settings.
        params: Prefixes of the parameter names it moves; empty for all.
        groups: Parameters among these that have settings of their own. All move at once, along the gradient
            at the same point.
        factor: Schedule of ``optimizer``'s learning rate; constant if not given.
    """

    loss: Loss
    optimizer: Adam | SGD
    params: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    factor: Factor | None = None

    def moves(self, name: str) -> bool:
        """Whether this objective moves the parameter of that name."""
        return not self.params or name.startswith(self.params)


@dataclass(frozen=True)
class Select:
    """Which epoch's model is kept: the last, or the first strict optimum of a validation quantity."""

    rule: Literal["last", "min", "max"] = "last"
    quantity: str = "total"

    def better(self, value: float, best: float | None) -> bool:
        """Whether an epoch with this value replaces the kept one."""
        if self.rule == "last" or best is None:
            return True
        return value < best if self.rule == "min" else value > best


@dataclass(frozen=True)
class Phase:
    """One stage of training.

    Attributes:
        name: Unique within a run, e.g. ``rsc/image``; names its history and checkpoint.
        net: Weightless module that the parameters belong to; losses get it bound to those of one replica.
        epochs: Number of passes of the sampler.
        sampler: Serves batches.
        objectives: In update order within a step.
        constants: Per-replica tensors ``(R, ...)`` the losses read and nothing moves (a prior, a weight).
        schedule: 0-based epoch to named scalars, added to the constants of that epoch.
        per_step: 0-based epoch to named sequences with one scalar per step of that epoch, likewise.
        state: Prefixes of the names in ``params`` that no optimiser moves and a loss may replace: running
            statistics, buffers. They are kept and handed back like parameters.
        before: ``before(model, now) -> {name: new value}`` of one replica, without gradient, ahead of every
            step (columns brought back to unit length, say).
        after: The same behind every step.
        after_epoch: The same behind the last step of an epoch, ahead of validation.
        validate: ``validate(model, now) -> {quantity: scalar}`` of one replica, after each epoch.
        select: Which epoch is kept.
        keep: Prefixes of the parameters to hand back and to checkpoint; empty for all.
        stream: Name its random numbers derive from, where several phases shall see the same batches; the
            phase's own name if empty.
        shared: Text that names everything which determines the phase, besides the data, the seed, the initial
            parameters, and what is named above; a replica of it is trained once for all runs on the same
            data. Empty: every run trains its own.
    """

    name: str
    net: nn.Module | None
    epochs: int
    sampler: Sampler
    objectives: tuple[Objective, ...]
    constants: Params = field(default_factory=dict)
    schedule: Callable[[int], Mapping[str, float]] | None = None
    per_step: Callable[[int], Mapping[str, Sequence[float]]] | None = None
    state: tuple[str, ...] = ()
    before: Hook | None = None
    after: Hook | None = None
    after_epoch: Hook | None = None
    validate: Callable[[Model, Params], Terms] | None = None
    select: Select = Select()
    keep: tuple[str, ...] = ()
    stream: str = ""
    shared: str = ""

    @property
    def random_stream(self) -> str:
        """Name the phase's random numbers derive from."""
        return self.stream or self.name


@dataclass(frozen=True)
class Trained:
    """What a phase hands back.

    Attributes:
        params: Kept parameters, stacked ``(R, ...)``, without gradient.
        epochs: Kept 0-based epoch per replica.
        history: ``{"train/total": [[per replica] per epoch], "val/...": ...}``.
    """

    params: Params
    epochs: list[int]
    history: dict[str, list[list[float]]]
