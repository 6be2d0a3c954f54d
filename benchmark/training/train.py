"""The one training loop, made for many small models.

A method describes *phases*; this module trains them. The loss of one replica is ordinary code on one
model; with R replicas (seeds, or values of a hyper-parameter) parameters carry a leading axis and the
loss is lifted by ``torch.vmap``. Nothing inside an epoch waits for the device: losses add up there and are
read once per epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import nn

from benchmark.core.method import Run
from benchmark.training.checkpoint import load_phase, save_phase, shared_name
from benchmark.training.loop import Loop
from benchmark.training.optim import SGD, Adam, Group
from benchmark.training.phase import STATE, Hook, Objective, Params, Phase, Select, Terms, Trained
from benchmark.training.replicas import replica_mode

__all__ = [
    "SGD",
    "STATE",
    "Adam",
    "Group",
    "Hook",
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
    who = "-".join(str(run.seeds[r]) for r in members)
    name = f"{phase.name}@{who}"
    found = load_phase(run.checkpoints, name, run.device)
    if found is not None:
        return Trained(*found)
    trained = Loop(phase, params, run, members, stacked).run_all()
    save_phase(run.checkpoints, name, trained.params, trained.epochs, trained.history)
    return trained


def _probe(phase: Phase, params: Params, run: Run, groups: list[list[int]]) -> Callable[[], None]:
    """A function that runs one epoch's first step on copies of the parameters, for timing."""
    loops = [Loop(phase, params, run, members, stacked=len(members) > 1) for members in groups]

    def step() -> None:
        for loop in loops:
            drawn = loop.draw()
            rows = {name: each[..., : phase.sampler.sizes[0]] for name, each in drawn.items()}
            loop.step(rows, next(loop.constants_of_steps(0)))

    return step
