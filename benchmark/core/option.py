"""An option of a run, declared once: at the field of the frozen dataclass that holds its value.

What has to know options reads the declarations: commands (:mod:`benchmark.cli.options`), keys, records and
captions (:mod:`benchmark.runs.spec`). A new option is a new field, and the code that acts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from benchmark.errors import UnknownNameError

REQUIRED: Any = ...
"""Default of an option that has none."""


@dataclass(frozen=True)
class Option:
    """What is declared of an option.

    Attributes:
        help: One line for the help of a command.
        name: Of the field.
        flag: On the command line; ``--name`` if not given.
        typed: Type the command line reads; that of the default if not given.
        metavar: What the help shows in place of the type.
        parse: Makes the value of what the command line has read.
        choices: All valid values; empty if they cannot be listed.
        check: Raises a ``BenchmarkError`` on a value that makes no sense.
        in_key: Whether the key of a run names it: ``always``, ``changed`` (an option that is off leaves the
            keys of earlier runs as they are), or ``never``.
        recorded: Whether a record lists it among its changed options. Not where the default leaves open what
            the record has a field for.
        words: How a caption says it, a template for :meth:`str.format`; empty if captions do not.
        may_differ: Whether runs that differ in it may stand in one table.
        trains: Whether it changes what the data look like in training; matters if it is in the key.
        part: Name of this value in the mapping that stands for several options in keys and records.
        part_of: The option that the mapping is named after and without which it is empty.
        default: Of the field; ``REQUIRED`` if there is none.
    """

    help: str
    name: str = ""
    flag: str = ""
    typed: Any = None
    metavar: str | None = None
    parse: Callable[[Any], Any] | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None
    in_key: Literal["always", "changed", "never"] = "changed"
    recorded: bool = True
    words: str = ""
    may_differ: bool = False
    trains: bool = True
    part: str = ""
    part_of: str = ""
    default: Any = REQUIRED

    def plain(self, value: Any) -> Any:
        """The value as JSON holds it; one number has one spelling, 1 is 1.0 where fractions are meant."""
        if isinstance(value, Mapping):
            return dict(value)
        if isinstance(value, tuple):
            return list(value)
        return float(value) if isinstance(self.default, float) else value

    def written(self, value: Any) -> list[str]:
        """The words of a command line that ask for a value; none for the default."""
        if value == self.default:
            return []
        if value is True:
            return [self.flag]
        if self.typed == list[str]:
            texts = [f"{n}={v}" for n, v in value.items()] if isinstance(value, Mapping) else value
            return [word for text in texts for word in (self.flag, text)]
        return [self.flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]


def option(default: Any = REQUIRED, **declaration: Any) -> Any:
    """A field of a frozen dataclass that is an option.

    Args:
        default: Its default, or a type that makes it; required if not given.
        **declaration: Fields of :class:`Option`.
    """
    made: dict[str, Any] = {} if default is REQUIRED else {"default": default}
    if isinstance(default, type):
        made = {"default_factory": default}
    return field(**made, metadata={"option": Option(**declaration)})


def declared(holder: type) -> dict[str, Option]:
    """The options that a dataclass declares itself, by the name of their field."""
    return {each.name: _complete(each) for each in fields(holder) if "option" in each.metadata}


def nested(holder: type) -> dict[str, type]:
    """Fields of a dataclass that hold options of their own, and what they are made of."""
    made: dict[str, Any] = {each.name: each.default_factory for each in fields(holder)}
    return {name: kind for name, kind in made.items() if isinstance(kind, type) and is_dataclass(kind)}


def check(holder: Any) -> None:
    """Refuse values that make no sense.

    Raises:
        BenchmarkError: An option with a value it cannot have.
    """
    for name, one in declared(type(holder)).items():
        value = getattr(holder, name)
        if one.choices and value not in one.choices:
            raise UnknownNameError(name.replace("_", " "), value, list(one.choices))
        if one.check is not None:
            one.check(value)


def _complete(each: Field[Any]) -> Option:
    made = each.default if each.default_factory is MISSING else each.default_factory()
    default = REQUIRED if made is MISSING else made
    given: Option = each.metadata["option"]
    flag, typed = given.flag or f"--{each.name.replace('_', '-')}", given.typed or type(default)
    return replace(given, name=each.name, flag=flag, typed=typed, default=default)
