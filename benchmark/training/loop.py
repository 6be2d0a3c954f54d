"""The training loop of one phase, for one group of replicas.

The loss of one replica is ordinary code on one model; for several it is lifted by ``torch.vmap``. Nothing
inside an epoch waits for the device: losses add up there and are read once per epoch. The module is in
training mode within losses, and in evaluation mode within everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from benchmark.core.method import RunContext, derive_seed
from benchmark.errors import TrainingError
from benchmark.training.model import Model, Params
from benchmark.training.modules import GlobalGenerators
from benchmark.training.optim import Group, Stepper
from benchmark.training.phase import STATE, Hook, Phase, Terms, Trained
from benchmark.training.samplers import Batch, Drawn

NOTHING = Batch({}, {}, {}, {})
"""For functions that look at the model alone."""


class Loop:
    """State of one group of replicas: all of them stacked, or a single one without the replica axis."""

    def __init__(
        self, phase: Phase, params: Params, run: RunContext, members: list[int], stacked: bool
    ) -> None:
        self.phase, self.run, self.members, self.stacked = phase, run, members, stacked
        movable = [n for n in params if not (phase.state and n.startswith(phase.state))]
        moved = {n for n in movable if any(o.moves(n) for o in phase.objectives)}
        self.params = {n: self._slice(p).clone().requires_grad_(n in moved) for n, p in params.items()}
        self.constants = {n: self._slice(c) for n, c in phase.constants.items()}
        self.steppers = [
            Stepper(
                {n: self.params[n] for n in movable if o.moves(n)},
                (*o.groups, Group((), o.optimizer, o.factor)),
            )
            for o in phase.objectives
        ]
        self.generators = [
            torch.Generator().manual_seed(derive_seed(run.seeds[r], phase.random_stream, "batches"))
            for r in members
        ]
        self.kept: Params = {}
        self.kept_epoch = [-1] * len(members)
        self.best: list[float | None] = [None] * len(members)
        self.history: dict[str, list[list[float]]] = {}

    def _slice(self, tensor: Tensor) -> Tensor:
        return tensor.detach()[self.members] if self.stacked else tensor.detach()[self.members[0]]

    def run_all(self) -> Trained:
        """Every epoch, and the kept parameters."""
        if self.phase.epochs == 0:
            self._keep(0, [True] * len(self.members))
        for epoch in range(self.phase.epochs):
            self._epoch(epoch)
        self._mode(training=False)
        params = self.kept if self.stacked else {n: p.unsqueeze(0) for n, p in self.kept.items()}
        return Trained(params, self.kept_epoch, self.history)

    def _epoch(self, epoch: int) -> None:
        generators = GlobalGenerators(self.run.device)
        drawn = self.draw()
        sums: Terms = {}
        start = 0
        for number, constants in enumerate(self.constants_of_steps(epoch)):
            size = self.phase.sampler.sizes[number]
            rows = {n: each[..., start : start + size] for n, each in drawn.items()}
            terms = self.step(rows, constants, epoch, number)
            sums = {n: sums[n] + v if n in sums else v for n, v in terms.items()}
            start += size
        self._hook(self.phase.after_epoch, constants)
        numbers = {f"train/{n}": v / len(self.phase.sampler.sizes) for n, v in sums.items()}
        numbers |= self._validate(constants)
        generators.demand_untouched(f"{self.phase.name}, epoch {epoch + 1}")
        self._read(epoch, numbers)

    def constants_of_steps(self, epoch: int) -> Iterator[tuple[Params, Params]]:
        """For every step of an epoch the constants per replica, and the scalars of epoch and step."""
        fixed = self.phase.schedule(epoch) if self.phase.schedule else {}
        scalars = {n: self._tensor(v) for n, v in fixed.items()}
        varying = self.phase.per_step(epoch) if self.phase.per_step else {}
        columns = {n: self._tensor(v) for n, v in varying.items()}
        for number in range(len(self.phase.sampler.sizes)):
            yield self.constants, {**scalars, **{n: v[number] for n, v in columns.items()}}

    def _tensor(self, value: float | Sequence[float]) -> Tensor:
        return torch.tensor(value, dtype=self.run.dtype, device=self.run.device)

    def draw(self) -> Drawn:
        """Row numbers of one epoch on the device, ``(n,)`` or ``(R, n)``; one transfer."""
        epochs = [self.phase.sampler.draw(g) for g in self.generators]
        if not self.stacked:
            return {n: rows.to(self.run.device) for n, rows in epochs[0].items()}
        return {n: torch.stack([e[n] for e in epochs]).to(self.run.device) for n in epochs[0]}

    def step(self, drawn: Drawn, constants: tuple[Params, Params], epoch: int = 0, number: int = 0) -> Terms:
        """One update of every objective; returns detached terms, ``(R,)`` each."""
        update = epoch * len(self.phase.sampler.sizes) + number
        batch = self.phase.sampler.gather(drawn)
        logged: Terms = {}
        self._hook(self.phase.before, constants)
        for objective, stepper in zip(self.phase.objectives, self.steppers, strict=True):
            with _precision(self.run):
                terms = self._lift(objective.loss, batch, constants, training=True)
            total = terms["total"]
            gradients = torch.autograd.grad(total if total.ndim == 0 else total.sum(), stepper.leaves)
            stepper.step(gradients, epoch, update)
            self._replace({n.removeprefix(STATE): v for n, v in terms.items() if n.startswith(STATE)})
            logged |= {n: v.detach().reshape(-1) for n, v in terms.items() if not n.startswith(STATE)}
        self._hook(self.phase.after, constants)
        return logged

    def _hook(self, hook: Hook | None, constants: tuple[Params, Params]) -> None:
        if hook is not None:
            with torch.no_grad():
                self._replace(self._lift(lambda model, batch: hook(model, batch.now), NOTHING, constants))

    def _replace(self, new: Params) -> None:
        with torch.no_grad():
            for name, value in new.items():
                self.params[name].copy_(value)

    def _mode(self, *, training: bool) -> None:
        net = self.phase.net
        if net is not None and net.training != training:
            net.train(training)

    def _lift(
        self,
        function: Callable[[Model, Batch], Params],
        batch: Batch,
        constants: tuple[Params, Params],
        *,
        training: bool = False,
    ) -> Params:
        """The function of one replica on all of them; values get no replica axis where there is only one."""
        self._mode(training=training)

        def one(params: Params, batch: Batch, own: Params, shared: Params) -> Params:
            return function(Model(self.phase.net, params), batch._replace(now={**own, **shared}))

        if not self.stacked:
            return one(self.params, batch, *constants)
        # random numbers are let through here and refused behind the epoch, as where replicas are alone
        lift = torch.vmap(one, in_dims=(0, 0, 0, None), randomness="different")
        lifted: Params = lift(self.params, batch, *constants)
        return lifted

    def _validate(self, constants: tuple[Params, Params]) -> Terms:
        validate = self.phase.validate
        if validate is None:
            return {}
        with torch.no_grad(), _precision(self.run):
            found = self._lift(lambda model, batch: validate(model, batch.now), NOTHING, constants)
        return {f"val/{n}": v.reshape(-1) for n, v in found.items()}

    def _read(self, epoch: int, numbers: Terms) -> None:
        """The epoch's one synchronisation: read all numbers, check them, select, report."""
        names = sorted(numbers, key=lambda name: (not name.endswith("/total"), name))
        values = torch.stack([numbers[n].double() for n in names]).tolist()
        read: dict[str, list[float]] = dict(zip(names, values, strict=True))
        for name, row in read.items():
            for member, value in zip(self.members, row, strict=True):
                if not abs(value) < float("inf"):
                    where = f"{self.phase.name}, epoch {epoch + 1}, seed {self.run.seeds[member]}"
                    raise TrainingError(
                        f"{where}: {name} became {value}; lower the learning rate or standardize the "
                        "features (--scaling standardize)"
                    )
            self.history.setdefault(name, []).append(row)
        select = self.phase.select
        chosen = read.get(f"val/{select.quantity}", [0.0] * len(self.members))
        better = [select.better(v, b) for v, b in zip(chosen, self.best, strict=True)]
        if select.rule != "last" or epoch == self.phase.epochs - 1:
            self.best = [v if yes else b for v, b, yes in zip(chosen, self.best, better, strict=True)]
            self._keep(epoch, better)
        if self.run.progress is not None:
            means = {n: sum(row) / len(row) for n, row in read.items()}
            self.run.progress(self.phase.name, epoch + 1, self.phase.epochs, means)

    def _keep(self, epoch: int, better: list[bool]) -> None:
        if not any(better):
            return
        self.kept_epoch = [epoch if yes else old for yes, old in zip(better, self.kept_epoch, strict=True)]
        for name, param in self.params.items():
            if self.phase.keep and not name.startswith(self.phase.keep):
                continue
            if name not in self.kept or not self.stacked:
                self.kept[name] = param.detach().clone()
            else:
                chosen = torch.tensor(better, device=param.device).nonzero().squeeze(1)
                self.kept[name].index_copy_(0, chosen, param.detach()[chosen])


def _precision(run: RunContext) -> AbstractContextManager[Any]:
    if run.precision == "bf16":
        return torch.autocast(run.device.type, torch.bfloat16)
    return nullcontext()
