"""The one training loop, made for many small models.

A method describes *phases*; this module trains them. The loss of one replica is ordinary code on one
model; with R replicas (seeds, or values of a hyper-parameter) parameters carry a leading axis and the
loss is lifted by ``torch.vmap``. Nothing inside an epoch waits for the device: losses add up there and are
read once per epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from benchmark.checkpoint import load_phase, save_phase, shared_name
from benchmark.errors import TrainingError
from benchmark.method import Run, derive_seed
from benchmark.optim import SGD, Adam, Factor, Group, Stepper
from benchmark.protocol import Batch, Sampler
from benchmark.replicas import replica_mode

__all__ = [
    "SGD",
    "Adam",
    "Group",
    "Objective",
    "Params",
    "Phase",
    "Select",
    "Terms",
    "Trained",
    "build_replicas",
    "train_phase",
]

M = TypeVar("M", bound=nn.Module)
Params = dict[str, Tensor]
Terms = dict[str, Tensor]
Loss = Callable[[Params, Batch, Params], Terms]
Hook = Callable[[Params, Params], Params]
STATE = "state/"
"""Prefix of the entries a loss returns to replace a tensor of the phase's state."""


@dataclass(frozen=True)
class Objective:
    """One loss and the parameters it moves.

    Attributes:
        loss: ``loss(params, batch, constants) -> {term: scalar}`` of *one* replica. The term ``total`` is
            minimised, the others are logged; an entry ``state/<name>`` replaces the tensor of that name in
            the phase's state. Must be traceable by vmap: no Python branch on tensor values.
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
        epochs: Number of passes of the sampler.
        sampler: Serves batches.
        objectives: In update order within a step.
        constants: Per-replica tensors ``(R, ...)`` the losses read and nothing moves (a prior, a weight).
        schedule: 0-based epoch to named scalars, added to the constants of that epoch.
        per_step: 0-based epoch to named sequences with one scalar per step of that epoch, likewise.
        state: Prefixes of the names in ``params`` that no optimiser moves and a loss may replace: running
            statistics, buffers. They are kept and handed back like parameters.
        before: ``before(params, constants) -> {name: new value}`` of one replica, without gradient, ahead of
            every step (columns brought back to unit length, say).
        after: The same behind every step.
        after_epoch: The same behind the last step of an epoch, ahead of validation.
        validate: ``validate(params, constants) -> {quantity: scalar}`` of one replica, after each epoch.
        select: Which epoch is kept.
        keep: Prefixes of the parameters to hand back and to checkpoint; empty for all.
        stream: Name its random numbers derive from, where several phases shall see the same batches; the
            phase's own name if empty.
        shared: Text that names everything which determines the phase, besides the data, the seed, the initial
            parameters, and what is named above; a replica of it is trained once for all runs on the same
            data. Empty: every run trains its own.
    """

    name: str
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
    validate: Callable[[Params, Params], Terms] | None = None
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


def build_replicas(
    build: Callable[[], nn.Module], seeds: Sequence[int], run: Run
) -> tuple[nn.Module, Params]:
    """Independent initial weights, one set per seed.

    Args:
        build: Makes one module with freshly drawn weights (global torch generator).
        seeds: One per replica; seeds of the weights themselves, see ``derive_seed``.
        run: Gives device and type.

    Returns:
        A weightless template for ``torch.func.functional_call``, and its parameters and buffers stacked on a
        leading replica axis (buffers belong to ``Phase.state``). Weights are drawn on the CPU, so a seed
        means the same on every device.
    """
    modules = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            modules.append(build())
    drawn = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in modules]
    params = {
        name: torch.stack([each[name].detach() for each in drawn]).to(run.device, run.dtype)
        for name in drawn[0]
    }
    return modules[0].to("meta"), params


def train_phase(phase: Phase, params: Params, run: Run) -> Trained:
    """Train all replicas of a phase, together or one after the other, and keep the selected models.

    Args:
        phase: What to do.
        params: Initial parameters, stacked ``(R, ...)`` with one replica per seed of the run; not changed.
        run: Seeds, device, precision, progress, checkpoints; receives the history.

    Returns:
        The kept parameters. A finished phase found in ``run.checkpoints`` is read instead of trained.

    Raises:
        TrainingError: A loss or validation value is not finite; names phase, epoch, term and seed.
    """
    everyone = list(range(len(run.seeds)))
    if phase.shared and run.shared is not None:
        trained = _shared(phase, params, run, everyone)
    else:
        trained = _train(phase, params, run, everyone)
    run.history[phase.name] = trained.history
    return trained


def _train(phase: Phase, params: Params, run: Run, members: list[int]) -> Trained:
    """Train these replicas the faster way."""
    shapes = sorted((name, (len(members), *p.shape[1:])) for name, p in params.items())
    size = f"{shapes} batch {phase.sampler.sizes[0]}"

    def probe(together: bool) -> Callable[[], None]:
        return _probe(phase, params, run, [members] if together else [[r] for r in members])

    mode = replica_mode(phase.name, size, len(members), run, probe)
    if mode == "together":
        return _checkpointed(phase, params, run, members, stacked=len(members) > 1)
    return _alone(phase, params, run, members)


def _alone(phase: Phase, params: Params, run: Run, members: list[int]) -> Trained:
    """Train these replicas one after the other."""
    run.notes.setdefault("replicas", {})[phase.name] = "alone"
    return _merge([_checkpointed(phase, params, run, [r], stacked=False) for r in members])


def _shared(phase: Phase, params: Params, run: Run, members: list[int]) -> Trained:
    """Read the replicas that some run has trained before, train the others and leave them for later runs.

    Constants are not part of a replica's name: a phase that reads any says so in its text. On a CPU the
    replicas train alone, so that what is left behind does not depend on the company it was made in, and a
    run gives the same bits whether it finds a phase or trains it.
    """
    machine = (run.device.type, torch.get_num_threads(), torch.__version__, run.precision)
    facts = (phase.name, phase.random_stream, phase.epochs, phase.sampler.sizes, phase.select, phase.keep)
    text = f"{phase.shared}|{facts}|{[(o.optimizer, o.params) for o in phase.objectives]}|{machine}"
    names = [shared_name(text, run.seeds[r], {n: p[r] for n, p in params.items()}) for r in members]
    parts: dict[int, Trained] = {}
    for r, name in zip(members, names, strict=True):
        found = load_phase(run.shared, name, run.device)
        if found is not None:
            parts[r] = Trained(*found)
    run.notes.setdefault("shared_phases_found", {})[phase.name] = sorted({run.seeds[r] for r in parts})
    # Replicas that differ in something this phase does not read are one and the same here.
    first = {name: r for r, name in reversed(list(zip(members, names, strict=True)))}
    missing = [r for r, name in zip(members, names, strict=True) if r not in parts and first[name] == r]
    if missing:
        way = _alone if run.device.type == "cpu" else _train
        trained = way(phase, params, run, missing)
        for place, r in enumerate(missing):
            one = parts[r] = _only(trained, place)
            save_phase(run.shared, names[r], one.params, one.epochs, one.history)
    return _merge([parts[first[name]] for name in names])


def _only(trained: Trained, place: int) -> Trained:
    """One replica out of several, still with its axis."""
    return Trained(
        {name: p[place : place + 1] for name, p in trained.params.items()},
        [trained.epochs[place]],
        {name: [[row[place]] for row in rows] for name, rows in trained.history.items()},
    )


def _merge(parts: list[Trained]) -> Trained:
    return Trained(
        {name: torch.cat([p.params[name] for p in parts]) for name in parts[0].params},
        [epoch for p in parts for epoch in p.epochs],
        {name: _side_by_side([p.history[name] for p in parts]) for name in parts[0].history},
    )


def _side_by_side(histories: list[list[list[float]]]) -> list[list[float]]:
    return [[value for row in rows for value in row] for rows in zip(*histories, strict=True)]


def _checkpointed(phase: Phase, params: Params, run: Run, members: list[int], stacked: bool) -> Trained:
    who = "-".join(run.member(r) for r in members)
    if run.variants:  # too long for the name of a file
        who = hashlib.sha256(who.encode()).hexdigest()[:24]
    name = f"{phase.name}@{who}"
    found = load_phase(run.checkpoints, name, run.device)
    if found is not None:
        return Trained(*found)
    trained = _Loop(phase, params, run, members, stacked).run_all()
    save_phase(run.checkpoints, name, trained.params, trained.epochs, trained.history)
    return trained


def _probe(phase: Phase, params: Params, run: Run, groups: list[list[int]]) -> Callable[[], None]:
    """A function that runs one epoch's first step on copies of the parameters, for timing."""
    loops = [_Loop(phase, params, run, members, stacked=len(members) > 1) for members in groups]

    def step() -> None:
        for loop in loops:
            drawn = loop.draw()
            rows = {name: each[..., : phase.sampler.sizes[0]] for name, each in drawn.items()}
            loop.step(rows, next(loop.constants_of_steps(0)))

    return step


class _Loop:
    """State of one group of replicas: all of them stacked, or a single one without the replica axis."""

    def __init__(self, phase: Phase, params: Params, run: Run, members: list[int], stacked: bool) -> None:
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
        if self.phase.epochs == 0:
            self._keep(0, [True] * len(self.members))
        for epoch in range(self.phase.epochs):
            self._epoch(epoch)
        params = self.kept if self.stacked else {n: p.unsqueeze(0) for n, p in self.kept.items()}
        return Trained(params, self.kept_epoch, self.history)

    def _epoch(self, epoch: int) -> None:
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
        if self.phase.validate is not None:
            with torch.no_grad():
                numbers |= {f"val/{n}": v for n, v in self._lift_validate(constants).items()}
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

    def draw(self) -> Batch:
        """Row numbers of one epoch on the device, ``(n,)`` or ``(R, n)``; one transfer."""
        epochs = [self.phase.sampler.draw(g) for g in self.generators]
        if not self.stacked:
            return {n: rows.to(self.run.device) for n, rows in epochs[0].items()}
        return {n: torch.stack([e[n] for e in epochs]).to(self.run.device) for n in epochs[0]}

    def step(self, drawn: Batch, constants: tuple[Params, Params], epoch: int = 0, number: int = 0) -> Terms:
        """One update of every objective; returns detached terms, ``(R,)`` each."""
        update = epoch * len(self.phase.sampler.sizes) + number
        batch = self.phase.sampler.gather(drawn)
        logged: Terms = {}
        self._hook(self.phase.before, constants)
        for objective, stepper in zip(self.phase.objectives, self.steppers, strict=True):
            with _precision(self.run):
                terms = self._lift(objective.loss, batch, constants)
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
                self._replace(self._lift(lambda p, _, c: hook(p, c), {}, constants))

    def _replace(self, new: Params) -> None:
        with torch.no_grad():
            for name, value in new.items():
                self.params[name].copy_(value)

    def _lift(self, loss: Loss, batch: Batch, constants: tuple[Params, Params]) -> Terms:
        """The function of one replica on all of them; values get no replica axis where there is only one."""
        own, shared = constants
        if not self.stacked:
            return loss(self.params, batch, {**own, **shared})

        def one(p: Params, b: Batch, c: Params, s: Params) -> Terms:
            return loss(p, b, {**c, **s})

        lifted: Terms = torch.vmap(one, in_dims=(0, 0, 0, None))(self.params, batch, own, shared)
        return lifted

    def _lift_validate(self, constants: tuple[Params, Params]) -> Terms:
        validate = self.phase.validate
        if validate is None:
            return {}
        with _precision(self.run):
            found = self._lift(lambda p, _, c: validate(p, c), {}, constants)
        return {n: v.reshape(-1) for n, v in found.items()}

    def _read(self, epoch: int, numbers: Terms) -> None:
        """The epoch's one synchronisation: read all numbers, check them, select, report."""
        names = sorted(numbers, key=lambda name: (not name.endswith("/total"), name))
        values = torch.stack([numbers[n].double() for n in names]).tolist()
        read: dict[str, list[float]] = dict(zip(names, values, strict=True))
        for name, row in read.items():
            for member, value in zip(self.members, row, strict=True):
                if not abs(value) < float("inf"):
                    where = f"{self.phase.name}, epoch {epoch + 1}, seed {self.run.member(member)}"
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


def _precision(run: Run) -> AbstractContextManager[Any]:
    if run.precision == "bf16":
        return torch.autocast(run.device.type, torch.bfloat16)
    return nullcontext()
