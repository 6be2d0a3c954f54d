"""Modules of a method: which layers are refused, what draws unseen random numbers, and evaluation mode.

Same command, same machine, same numbers; and a seed means the same alone and stacked with others under
``vmap``. Layers that draw from torch's global generator, or write statistics in place, keep neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.method import Method, Retriever
from benchmark.errors import TrainingError
from benchmark.training.model import Model

LAYERS = "benchmark.methods.blocks.layers"
DROPOUT = f"dropout(x, share, keys, stream) of {LAYERS}, with the keys of a batch (batch.extra['key'])"
BATCH_NORM = f"BatchNorm of {LAYERS}, whose train_rows hands them back"
_BATCH_NORMS: Any = nn.modules.batchnorm._BatchNorm
_INSTANCE_NORMS: Any = nn.modules.instancenorm._InstanceNorm
_DROPOUTS: Any = nn.modules.dropout._DropoutNd


def refuse_layers(net: nn.Module, where: str) -> None:
    """Refuse a module with layers that a training in replicas cannot have.

    Args:
        net: With or without weights.
        where: What it is of, for the message.

    Raises:
        TrainingError: Names the layer and what to use in its place.
    """
    for name, layer in net.named_modules():
        kind, place = type(layer).__name__, f"{where}: {f'layer {name!r}' if name else 'the network'}"
        if _draws(layer):
            raise TrainingError(
                f"{place} ({kind}) draws its noise from torch's global generator, so that no two runs agree; "
                f"use {DROPOUT}"
            )
        if _writes(layer):
            raise TrainingError(f"{place} ({kind}) writes running statistics in place; use {BATCH_NORM}")


def _draws(layer: nn.Module) -> bool:
    if isinstance(layer, _DROPOUTS):
        return bool(layer.p > 0)
    if isinstance(layer, nn.RNNBase | nn.MultiheadAttention):
        return bool(layer.dropout > 0)
    return isinstance(layer, nn.RReLU)


def _writes(layer: nn.Module) -> bool:
    """Without running statistics, batch norm would judge a test row by those beside it."""
    if isinstance(layer, _INSTANCE_NORMS):
        return bool(layer.track_running_stats)
    return isinstance(layer, _BATCH_NORMS)


class GlobalGenerators:
    """Torch's global generators as they are now, to notice that something drew from them.

    Their states lie on the host: neither reading nor comparing them waits for a device.

    Args:
        device: The run's; the CPU's generator is watched in any case.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.states = self._read()

    def _read(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        return [*states, torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else states

    def untouched(self) -> bool:
        """Whether nothing has drawn from them since."""
        return all(map(torch.equal, self.states, self._read()))

    def demand_untouched(self, where: str) -> None:
        """Raise ``TrainingError`` if something has."""
        if not self.untouched():
            raise TrainingError(
                f"{where}: random numbers were drawn from torch's global generator, so no two runs agree; "
                f"in a loss use {DROPOUT}, or uniform(keys, columns); elsewhere use a torch.Generator seeded "
                "with derive_seed(seed, ...), and hand back models in evaluation mode (.eval())"
            )


def evaluate(fitted: Any) -> None:
    """Put every module into evaluation mode that a fitted model is, or holds in attributes and containers."""
    todo, seen = [fitted], set[int]()
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, nn.Module):
            each.eval()
        if isinstance(each, Model):
            todo.append(each._net)
        elif isinstance(each, MethodType):
            todo.append(each.__self__)
        elif isinstance(each, Retriever | Method):
            todo += vars(each).values()
        elif isinstance(each, Mapping):
            todo += each.values()
        elif isinstance(each, list | tuple):
            todo += each
