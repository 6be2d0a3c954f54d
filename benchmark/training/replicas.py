"""Together or alone: how several replicas are trained on this machine, by measurement.

Both ways give the same models up to rounding. Which is faster depends on the layer sizes and the cores, so
it is measured once per size and machine and remembered in the cache folder: a later run of the same command
takes the same way and gives the same bits. On a CPU replicas train together only where that is clearly
faster: a run trained alone has the same bits whatever company it is asked for in, and noise in the
measurement must not decide.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from typing import Literal

import torch

from benchmark.core.method import Run
from benchmark.disk import cache_folder, write_text

Mode = Literal["together", "alone"]

CLEARLY = 1.25
"""On a CPU, so many times faster together than alone or more, and ``auto`` trains replicas together."""


def replica_mode(
    phase: str, size: str, count: int, run: Run, probe: Callable[[bool], Callable[[], None]]
) -> Mode:
    """Decide for one phase.

    Args:
        phase: Its name.
        size: Everything its cost depends on: shapes, batch size, number of replicas.
        count: Number of replicas to train.
        run: ``run.replicas`` other than ``auto`` decides; otherwise CUDA trains together, and a CPU where
            that was measured to be at least ``CLEARLY`` times as fast.
        probe: ``probe(together)`` gives a function that runs one training step of all replicas on copies.

    Returns:
        The way to go; also noted in ``run.notes["replicas"]``.
    """
    mode: Mode = "alone"
    if count > 1:
        if run.replicas == "together" or (run.replicas == "auto" and run.device.type != "cpu"):
            mode = "together"
        elif run.replicas == "auto":
            mode = _measured(size, run, probe)
    run.notes.setdefault("replicas", {})[phase] = mode
    return mode


def _measured(size: str, run: Run, probe: Callable[[bool], Callable[[], None]]) -> Mode:
    machine = f"{torch.__version__}|{torch.get_num_threads()}|{os.cpu_count()}|{run.precision}"
    key = hashlib.sha256(f"{machine}|{size}".encode()).hexdigest()[:24]
    folder = cache_folder() / "replicas"
    file = folder / f"{key}.json"
    if not file.exists():
        seconds = {"together": _seconds(probe(True)), "alone": _seconds(probe(False))}
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"machine": machine, "size": size, "seconds_per_step": seconds}))
    measured = json.loads(file.read_text())["seconds_per_step"]
    return "together" if measured["alone"] >= CLEARLY * measured["together"] else "alone"


def _seconds(step: Callable[[], None]) -> float:
    """Best of three, after one to warm up."""
    step()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)
