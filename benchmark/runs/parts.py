"""The models of a run: one for all its modalities, or one for every two of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

from benchmark.core.method import RunContext
from benchmark.runs.plan import Plan

Part = tuple[str, ...]
"""Modalities of one model."""


def parts_of(plan: Plan, modalities: tuple[str, ...]) -> list[Part]:
    """The modalities of every model of a run on these modalities."""
    return list(combinations(modalities, 2)) if plan.pairwise else [modalities]


def part_context(run: RunContext, part: Part) -> RunContext:
    """What the model of two modalities gets: checkpoints and progress of its own, nothing shared."""
    name = "+".join(part)
    checkpoints, progress = None, None
    if run.checkpoints is not None:
        # names of modalities may hold anything, so that no folder is called like them
        checkpoints = run.checkpoints / hashlib.sha256(json.dumps(part).encode()).hexdigest()[:16]
        checkpoints.mkdir(parents=True, exist_ok=True)
    if run.progress is not None:
        progress = partial(_named_epoch, run.progress, name)
    return replace(run, checkpoints=checkpoints, progress=progress, shared=None)


def _named_epoch(progress: Any, name: str, phase: str, *numbers: Any) -> None:
    progress(f"{name}/{phase}", *numbers)


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
