"""The one training loop, made for many small models.

A method describes *phases*; this module trains them. The loss of one replica is ordinary code on one
model; with R replicas (seeds, or values of a hyper-parameter) parameters carry a leading axis and the
loss is lifted by ``torch.vmap``. Nothing inside an epoch waits for the device: losses add up there and are
read once per epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from benchmark.checkpoint import load_phase, save_phase, shared_name
from benchmark.errors import TrainingError
from benchmark.method import Run, derive_seed
from benchmark.protocol import Batch, Sampler
from benchmark.replicas import replica_mode

M = TypeVar("M", bound=nn.Module)
Params = dict[str, Tensor]
Terms = dict[str, Tensor]
Loss = Callable[[Params, Batch, Params], Terms]


@dataclass(frozen=True)
class Adam:
    """Adam's settings; ``fused`` kernels are used, which are elementwise and so serve stacked replicas."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def build(self, params: Sequence[Tensor]) -> torch.optim.Optimizer:
        """The optimiser over these leaves."""
        return torch.optim.Adam(
            params, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True
        )


@dataclass(frozen=True)
class Objective:
    """One loss and the parameters it moves.

    Attributes:
        loss: ``loss(params, batch, constants) -> {term: scalar}`` of *one* replica. The term ``total`` is
            minimised, the others are logged. Must be traceable by vmap: no Python branch on tensor values.
        optimizer: Its settings.
        params: Prefixes of the parameter names it moves; empty for all.
    """

    loss: Loss
    optimizer: Adam
    params: tuple[str, ...] = ()

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
        A weightless template for ``torch.func.functional_call``, and the parameters stacked on a leading
        replica axis. Weights are drawn on the CPU, so a seed means the same on every device.
    """
    modules = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            modules.append(build())
    drawn = [dict(module.named_parameters()) for module in modules]
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
            constants = loop.constants_at(0)
            drawn = loop.draw()
            loop.step({name: rows[..., : phase.sampler.sizes[0]] for name, rows in drawn.items()}, constants)

    return step


class _Loop:
    """State of one group of replicas: all of them stacked, or a single one without the replica axis."""

    def __init__(self, phase: Phase, params: Params, run: Run, members: list[int], stacked: bool) -> None:
        self.phase, self.run, self.members, self.stacked = phase, run, members, stacked
        moved = {n for n in params if any(o.moves(n) for o in phase.objectives)}
        self.params = {n: self._slice(p).clone().requires_grad_(n in moved) for n, p in params.items()}
        self.constants = {n: self._slice(c) for n, c in phase.constants.items()}
        self.leaves = [[p for n, p in self.params.items() if o.moves(n)] for o in phase.objectives]
        self.optimizers = [o.optimizer.build(x) for o, x in zip(phase.objectives, self.leaves, strict=True)]
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
        constants = self.constants_at(epoch)
        drawn = self.draw()
        sums: Terms = {}
        start = 0
        for size in self.phase.sampler.sizes:
            terms = self.step({n: rows[..., start : start + size] for n, rows in drawn.items()}, constants)
            sums = {n: sums[n] + v if n in sums else v for n, v in terms.items()}
            start += size
        numbers = {f"train/{n}": v / len(self.phase.sampler.sizes) for n, v in sums.items()}
        if self.phase.validate is not None:
            with torch.no_grad():
                numbers |= {f"val/{n}": v for n, v in self._lift_validate(constants).items()}
        self._read(epoch, numbers)

    def constants_at(self, epoch: int) -> tuple[Params, Params]:
        """Per-replica constants, and this epoch's scalars."""
        scalars = self.phase.schedule(epoch) if self.phase.schedule else {}
        tensors = {
            n: torch.tensor(v, dtype=self.run.dtype, device=self.run.device) for n, v in scalars.items()
        }
        return self.constants, tensors

    def draw(self) -> Batch:
        """Row numbers of one epoch on the device, ``(n,)`` or ``(R, n)``; one transfer."""
        epochs = [self.phase.sampler.draw(g) for g in self.generators]
        if not self.stacked:
            return {n: rows.to(self.run.device) for n, rows in epochs[0].items()}
        return {n: torch.stack([e[n] for e in epochs]).to(self.run.device) for n in epochs[0]}

    def step(self, drawn: Batch, constants: tuple[Params, Params]) -> Terms:
        """One update of every objective; returns detached terms, ``(R,)`` each."""
        batch = self.phase.sampler.gather(drawn)
        logged: Terms = {}
        updates = zip(self.phase.objectives, self.leaves, self.optimizers, strict=True)
        for objective, leaves, optimizer in updates:
            with _precision(self.run):
                terms = self._lift(objective.loss, batch, constants)
            gradients = torch.autograd.grad(terms["total"].sum(), leaves)
            for leaf, gradient in zip(leaves, gradients, strict=True):
                leaf.grad = gradient.contiguous()  # the fused step reads it in the parameter's memory order
            optimizer.step()
            logged |= {n: v.detach() for n, v in terms.items()}
        return logged

    def _lift(self, loss: Loss, batch: Batch, constants: tuple[Params, Params]) -> Terms:
        own, shared = constants
        if not self.stacked:
            return {n: v.reshape(1) for n, v in loss(self.params, batch, {**own, **shared}).items()}

        def one(p: Params, b: Batch, c: Params, s: Params) -> Terms:
            return loss(p, b, {**c, **s})

        lifted: Terms = torch.vmap(one, in_dims=(0, 0, 0, None))(self.params, batch, own, shared)
        return lifted

    def _lift_validate(self, constants: tuple[Params, Params]) -> Terms:
        validate = self.phase.validate
        if validate is None:
            return {}
        with _precision(self.run):
            return self._lift(lambda p, _, c: validate(p, c), {}, constants)

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
