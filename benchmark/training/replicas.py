"""Replicas: several models of one build, one per seed, stacked on a leading axis or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from benchmark.core.method import RunContext
from benchmark.training.model import Params
from benchmark.training.modules import refuse_layers


def build_replicas(
    build: Callable[[], nn.Module], seeds: Sequence[int], run: RunContext
) -> tuple[nn.Module, Params]:
    """Independent initial weights, one set per seed.

    Args:
        build: Makes one module with freshly drawn weights (global torch generator).
        seeds: One per replica; seeds of the weights themselves, see ``derive_seed``.
        run: Gives device and type.

    Returns:
        A weightless template for ``torch.func.functional_call``, and its parameters and buffers stacked on a
        leading replica axis (buffers belong to ``Phase.state``). Weights are drawn on the CPU, so a seed
        means the same on every device. The template is in evaluation mode; losses see it in training mode.

    Raises:
        TrainingError: A layer that draws noise of its own or writes statistics in place; names it.
    """
    modules = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            modules.append(build())
    refuse_layers(modules[0], "network")
    drawn = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in modules]
    params = {
        name: torch.stack([each[name].detach() for each in drawn]).to(run.device, run.dtype)
        for name in drawn[0]
    }
    return modules[0].to("meta").eval(), params


def each_replica(stacked: Mapping[str, torch.Tensor]) -> list[Params]:
    """The parameters of every replica, from those stacked ``(R, ...)``."""
    replicas = len(next(iter(stacked.values())))
    return [{n: p[r] for n, p in stacked.items()} for r in range(replicas)]


def stacks(run: RunContext) -> bool:
    """Whether replicas train together: on CUDA unless told otherwise, on a CPU only where that is asked for.

    Stacked, numbers are added up in another order, and training magnifies that: MAP@all of ``emoji`` moved by
    up to 0.005, where seeds have a standard deviation of 0.003. On a CPU stacking rarely pays, and what is
    trained alone has the same bits whatever company it is asked for in.
    """
    return run.replicas == "together" or (run.replicas == "auto" and run.device.type != "cpu")
