"""A module with the parameters of one replica, written as if they were its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

Params = dict[str, Tensor]


class Model:
    """A module bound to parameters: ``model.encoder(x)``, ``model.encoders["text"](x)``, ``model.centres``.

    Attributes are the module's submodules (bound likewise), its parameters and buffers, and any further
    tensor that stands among the parameters. Calls go through ``torch.func.functional_call``, so that
    everything works under ``torch.vmap``.

    Args:
        net: The module; ``None`` where there are only tensors.
        params: Parameters and buffers by their names in the module, and further tensors.
        prefix: Of the names that belong to ``net``.
    """

    def __init__(self, net: nn.Module | None, params: Mapping[str, Tensor], prefix: str = "") -> None:
        self._net, self._params, self._prefix = net, params, prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if (full := self._prefix + name) in self._params:
            return self._params[full]
        inner = getattr(self._net, name)
        return Model(inner, self._params, f"{full}.") if isinstance(inner, nn.Module) else inner

    def __getitem__(self, name: str | int) -> Model:
        return Model(self._net[name], self._params, f"{self._prefix}{name}.")  # type: ignore[index]

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the module gives with these parameters."""
        return functional_call(self._net, self.own, args, options)  # type: ignore[arg-type]

    @property
    def own(self) -> Params:
        """The module's parameters and buffers, by their names in it."""
        assert self._net is not None, "there is no module to call"
        return {name: self._params[self._prefix + name] for name in _names(self._net)}

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Everything the model was bound to, by full names."""
        return self._params

    def detached(self) -> Model:
        """The same model, through which no gradient passes."""
        return Model(self._net, {name: p.detach() for name, p in self._params.items()}, self._prefix)


@lru_cache(maxsize=128)
def _names(net: nn.Module) -> tuple[str, ...]:
    """Of all parameters and buffers; asked for in every step."""
    return tuple(name for name, _ in (*net.named_parameters(), *net.named_buffers()))
