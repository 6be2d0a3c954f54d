"""One model for every two modalities: what each part of such a run gets and leaves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from benchmark.core.method import Run
from benchmark.runs.plan import Plan

Part = tuple[str, ...]
"""Modalities of one model."""


def part_run(run: Run, part: Part) -> Run:
    """What the model of two modalities gets: checkpoints, history, notes and arrays of its own."""
    name = "+".join(part)
    checkpoints, progress = None, None
    if run.checkpoints is not None:
        checkpoints = run.checkpoints / name
        checkpoints.mkdir(parents=True, exist_ok=True)
    if run.progress is not None:
        progress = partial(_named_epoch, run.progress, name)
    return replace(run, checkpoints=checkpoints, progress=progress, history={}, notes={}, arrays={})


def _named_epoch(progress: Any, name: str, phase: str, *numbers: Any) -> None:
    progress(f"{name}/{phase}", *numbers)


def gather(run: Run, part: Part, own: Run) -> None:
    """Enter what the model of two modalities left into that of the run, as ``<a>+<b>/<name>``."""
    for all_, new in ((run.history, own.history), (run.notes, own.notes), (run.arrays, own.arrays)):
        all_ |= {f"{'+'.join(part)}/{name}": value for name, value in new.items()}


def extensions(plan: Plan, modalities: tuple[str, ...]) -> list[str]:
    """One line if the method serves modalities that its publication does not."""
    info = plan.method.info
    others = [name for name in modalities if info.kinds and name not in info.kinds]
    if not others:
        return []
    return [
        f"beyond the publication: {info.id} is defined for {' and '.join(info.kinds)}; --pairwise extends it "
        f"to {', '.join(others)}"
    ]
