"""The one training loop, made for many small models.

A method describes *phases*; this module trains them. The loss of one replica is ordinary code on one
model; with R replicas (seeds, or values of a hyper-parameter) parameters carry a leading axis and the
loss is lifted by ``torch.vmap``. Nothing inside an epoch waits for the device: losses add up there and are
read once per epoch.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmark.core.method import FitLog, RunContext
from benchmark.training.checkpoint import load_phase, save_phase, shared_name
from benchmark.training.loop import Loop
from benchmark.training.model import Params
from benchmark.training.modules import refuse_layers
from benchmark.training.phase import Phase, Trained
from benchmark.training.replicas import stacks


def train_phase(phase: Phase, params: Params, run: RunContext, log: FitLog) -> Trained:
    """Train all replicas of a phase, together or one after the other, and keep the selected models.

    Args:
        phase: What to do.
        params: Initial parameters, stacked ``(R, ...)`` with one replica per seed of the run; not changed.
        run: Seeds, device, precision, progress, checkpoints.
        log: Receives the history.

    Returns:
        The kept parameters. A finished phase found in ``run.checkpoints`` is read instead of trained.

    Raises:
        TrainingError: A loss or validation value is not finite (names phase, epoch, term and seed), or noise
            comes from elsewhere than the batch.
    """
    if phase.net is not None:
        refuse_layers(phase.net, phase.name)
    everyone = list(range(len(run.seeds)))
    if phase.shared and run.shared is not None:
        trained = _shared(phase, params, run, log, everyone)
    else:
        trained = _train(phase, params, run, log, everyone)
    log.history[phase.name] = trained.history
    return trained


def _train(phase: Phase, params: Params, run: RunContext, log: FitLog, members: list[int]) -> Trained:
    """Train these replicas, stacked or one after the other."""
    stacked = len(members) > 1 and stacks(run)
    log.notes.setdefault("replicas", {})[phase.name] = "together" if stacked else "alone"
    groups = [members] if stacked else [[r] for r in members]
    return _merge([_checkpointed(phase, params, run, group) for group in groups])


def _shared(phase: Phase, params: Params, run: RunContext, log: FitLog, members: list[int]) -> Trained:
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
    log.notes.setdefault("shared_phases_found", {})[phase.name] = sorted(run.seeds[r] for r in parts)
    if missing := [r for r in members if r not in parts]:
        alone = replace(run, replicas="alone") if run.device.type == "cpu" else run
        trained = _train(phase, params, alone, log, missing)
        for place, r in enumerate(missing):
            one = parts[r] = _only(trained, place)
            save_phase(run.shared, names[r], one.params, one.epochs, one.history)
    return _merge([parts[r] for r in members])


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


def _checkpointed(phase: Phase, params: Params, run: RunContext, members: list[int]) -> Trained:
    name = f"{phase.name}@{'-'.join(str(run.seeds[r]) for r in members)}"
    found = load_phase(run.checkpoints, name, run.device)
    if found is not None:
        return Trained(*found)
    trained = Loop(phase, params, run, members, stacked=len(members) > 1).run_all()
    save_phase(run.checkpoints, name, trained.params, trained.epochs, trained.history)
    return trained
