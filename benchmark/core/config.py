"""Hyper-parameters that say in their types what they may be.

A method writes, without a default where its recipe gives the value::

    class Settings(Config):
        hidden: Widths
        alpha: Weight
        norm: Literal["row", "frobenius"]

and a value that does not fit is refused with the name, the value and what is valid. This module imports
neither numpy nor torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Annotated, Any, Literal, dataclass_transform, get_args, get_origin, get_type_hints


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Range of a number, ends included: without ``low`` where ``open``, without ``high`` where ``below``."""

    low: float
    high: float = math.inf
    open: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open else self.low <= value
        return above and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        if self.high < math.inf:
            ends = ((self.low, self.open), (self.high, self.below))
            return f"from {self.low:g} to {self.high:g}" + "".join(
                f", not {end:g}" for end, out in ends if out
            )
        return f"above {self.low:g}" if self.open else f"at least {self.low:g}"


@dataclasses.dataclass(frozen=True)
class Least:
    """A list has so many entries at least."""

    entries: int

    def __contains__(self, value: Sequence[Any]) -> bool:
        return len(value) >= self.entries

    def __str__(self) -> str:
        return f"(of length {self.entries} or more)"


@dataclasses.dataclass(frozen=True)
class Names:
    """A table has this entry, whatever else it has."""

    entry: str

    def __contains__(self, value: Mapping[str, Any]) -> bool:
        return self.entry in value

    def __str__(self) -> str:
        return f"({self.entry} among them)"


Count = Annotated[int, Bounds(1)]
Whole = Annotated[int, Bounds(0)]
Weight = Annotated[float, Bounds(0)]
Positive = Annotated[float, Bounds(0, open=True)]
Share = Annotated[float, Bounds(0, 1)]
Part = Annotated[float, Bounds(0, 1, below=True)]
"""A share that is never all."""
Widths = tuple[Count, ...]
Betas = tuple[Share, Share]
"""Adam's decay rates."""
Rates = Annotated[Mapping[str, Weight], Names("default")]
"""A learning rate per modality; ``default`` for those not named."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Config:
    """Base of a method's hyper-parameters; every subclass is a frozen dataclass, built by keywords.

    Raises:
        ValueError: A value that its type does not allow, in words for the user.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        for name, hint in hints(type(self)).items():
            object.__setattr__(self, name, fitting(name, getattr(self, name), hint))


def hints(config: Any) -> dict[str, Any]:
    """The types of all fields, bounds included."""
    found = get_type_hints(config, include_extras=True)
    return {field.name: found[field.name] for field in dataclasses.fields(config)}


def words(hint: Any) -> str:
    """What a type allows, in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{words(inner[0])} {inner[1]}"
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin is tuple:
        each = words(inner[0])
        return f"a list, each {each}" if inner[-1] is Ellipsis else f"a list of {len(inner)}, each {each}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a table, each {words(inner[1])}"
    if is_config(hint):
        return f"a table of {', '.join(hints(hint))}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(hint, "anything")


def fitting(name: str, value: Any, hint: Any) -> Any:
    """The value as its type asks for it: lists as tuples, whole numbers as decimal ones.

    Raises:
        ValueError: It does not fit.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        outer = get_origin(inner[0])
        entry = outer and isinstance(value, list | tuple if outer is tuple else Mapping)
        with nullcontext() if entry else suppress(ValueError):  # a wrong entry speaks for itself
            found = fitting(name, value, inner[0])
            if found in inner[1]:
                return found
    elif origin is Literal:
        if value in inner:
            return value
    elif origin is tuple:
        fits = isinstance(value, list | tuple) and (inner[-1] is Ellipsis or len(value) == len(inner))
        if fits:
            return tuple(fitting(name, each, inner[0]) for each in value)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return {key: fitting(f"{name}.{key}", each, inner[1]) for key, each in value.items()}
    elif is_config(hint) and isinstance(value, Mapping):
        return nested(name, value, hint)
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif hint is Any or type(value) is hint:
        return value
    raise ValueError(
        f"{name} must be {words(hint)}; got {list(value) if isinstance(value, tuple) else value!r}"
    )


def is_config(hint: Any) -> bool:
    """Whether a type is that of nested settings, which a recipe gives as a table."""
    return isinstance(hint, type) and issubclass(hint, Config)


def nested(name: str, values: Mapping[str, Any], config: Any) -> Any:
    """A table of a recipe as the Config it stands for; every entry is stated.

    Raises:
        ValueError: An entry that is missing, unknown or does not fit.
    """
    known = hints(config)
    if wrong := sorted(set(values) ^ set(known)):
        problem = "has no setting" if wrong[0] in values else "does not state"
        raise ValueError(f"{name} {problem} {wrong[0]!r}; it has {', '.join(known)}")
    return config(**{key: fitting(f"{name}.{key}", value, known[key]) for key, value in values.items()})
