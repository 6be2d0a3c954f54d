"""Hyper-parameters of a run: where each value comes from, and how the layers overlay.

A recipe is a TOML file ``recipes/<method>.toml`` beside the method's source::

    [paper]
    epochs = { value = 100, source = "section IV-B" }
    [paper.xmedia]
    epochs = { value = 300, source = "public code, main.py" }
    [quick]
    epochs = { value = 20, source = "quick profile" }
    [variant.published]
    select = { value = "test", source = "public code, train.py" }
    [tiny]
    epochs = 2

Layers, later over earlier: ``paper``, ``paper.<dataset>``; in the quick profile ``quick``,
``quick.<dataset>``; of a variant chosen with ``--set variant=<name>`` its ``variant.<name>``,
``variant.<name>.<dataset>``; then ``--set``. In checks and tests ``tiny`` lies over ``paper``. A method
without a recipe uses the defaults of its ``Config``. Reading a recipe imports neither torch nor the method.

A variant is a named set of values that belong together: what the public code does where we recommend
something else, say. Without one a run is the ``recommended`` variant, and its recipe does not mention it.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.core.registry import Entry
from benchmark.core.toml import parse_toml, read_toml
from benchmark.errors import RecipeError, UnknownNameError
from benchmark.records.record import SET, VARIANT, Value
from benchmark.runs.profile import DEFAULT_ROWS

LAYERS = ("paper", "quick", "tiny")
ROWS = "subsample"
"""Reserved name: rows per modality kept for training and validation, 0 for all; the runner applies it."""
RECOMMENDED = "recommended"
RESERVED = (ROWS, VARIANT)
"""Names in a recipe that are not handed to the method: rows, and the variant where one was chosen."""


Recipe = dict[str, Value]


def resolve(method: Entry, dataset: str, profile: str, overrides: Sequence[str] = ()) -> Recipe:
    """All hyper-parameters of a method on a dataset.

    Args:
        method: Registry entry of the method.
        dataset: Dataset id, which selects the ``paper.<dataset>`` and ``quick.<dataset>`` layers.
        profile: ``paper``, ``quick``, or ``tiny`` for checks.
        overrides: ``name=value`` strings, applied last; ``name.key=value`` sets one entry of a table, and
            ``variant=name`` chooses a variant.

    Raises:
        RecipeError: A recipe that cannot be read, or a value of the wrong type.
        UnknownNameError: An override of a hyper-parameter the method does not have, or an unknown variant.
    """
    changes = [(*parse_override(text), text) for text in overrides]
    variant = _chosen_variant(method, changes)
    rows = Value(
        dict(DEFAULT_ROWS.get(profile, DEFAULT_ROWS["paper"])),
        f"default of the {profile} profile",
        f"profile {profile}",
    )
    file = recipe_file(method)
    values = _defaults(method) if file is None else _layered(file, dataset, profile, variant)
    values = {**values, ROWS: _complete_rows(values.get(ROWS), rows)}
    for name, keys, given, text in changes:
        if name == VARIANT:
            continue
        if name not in values:
            defaults = _defaults(method)
            if name not in defaults:
                raise UnknownNameError(f"hyper-parameter of {method.id}", name, sorted({*values, *defaults}))
            values[name] = defaults[name]
        changed = _override(values[name].value, keys, given, text)
        if changed != values[name].value:  # what is set to what it is anyway is not changed
            values[name] = Value(changed, "command line", SET)
    if variant != RECOMMENDED:
        values[VARIANT] = Value(variant, "command line", SET)
    return values


def variants(method: Entry) -> tuple[str, ...]:
    """The variants of a method, the recommended one first.

    Raises:
        RecipeError: Its recipe cannot be read.
    """
    file = recipe_file(method)
    layers = {} if file is None else read_layers(file)
    named = [layer.split(".")[1] for layer in layers if layer.startswith(f"{VARIANT}.")]
    return tuple(dict.fromkeys((RECOMMENDED, *named)))


def layer_dataset(layer: str) -> str:
    """The dataset a layer is confined to; empty for none."""
    return layer.removeprefix(f"{VARIANT}.").partition(".")[2]


def recipe_file(method: Entry) -> Path | None:
    """``recipes/<id>.toml`` or ``<id>.toml`` beside the method's source file; ``None`` if neither exists."""
    if method.path is None:
        return None
    folder = method.path.parent
    candidates = (folder / "recipes" / f"{method.id}.toml", folder / f"{method.id}.toml")
    return next((file for file in candidates if file.is_file()), None)


def read_layers(file: Path) -> dict[str, Recipe]:
    """Every section of a recipe, ``{"paper": ..., "paper.xmedia": ..., "variant.published": ...}``, checked.

    Raises:
        RecipeError: Not TOML, an unknown section, or an entry that is not ``{ value, source }``.
    """
    try:
        document = read_toml(file)
    except ValueError as error:
        raise RecipeError(f"{file}: not a valid TOML file: {error}") from None
    if unknown := sorted(set(document) - {*LAYERS, VARIANT}):
        raise RecipeError(
            f"{file}: unknown section [{unknown[0]}]; expected [paper], [quick], [tiny] or [variant.<name>]"
        )
    layers: dict[str, Recipe] = {}
    for layer in LAYERS:
        layers |= _read_layer(file, layer, document.get(layer, {}))
    for name, content in document.get(VARIANT, {}).items():
        if not isinstance(content, dict) or "value" in content:
            raise RecipeError(
                f"{file}: [{VARIANT}] {name} must be in a named section such as [{VARIANT}.published]"
            )
        if name == RECOMMENDED or "." in name:
            raise RecipeError(f"{file}: a variant cannot be called {name!r}")
        layers |= _read_layer(file, f"{VARIANT}.{name}", content)
    return layers


def _read_layer(file: Path, layer: str, content: Mapping[str, Any]) -> dict[str, Recipe]:
    """A section, and its sections for single datasets."""
    layers: dict[str, Recipe] = {layer: {}}
    for name, item in content.items():
        if layer != "tiny" and isinstance(item, dict) and "value" not in item:
            section = f"{layer}.{name}"
            layers[section] = {key: _value(file, section, key, each) for key, each in item.items()}
        else:
            layers[layer][name] = _value(file, layer, name, item)
    return layers


def parse_override(text: str) -> tuple[str, tuple[str, ...], Any]:
    """``lr.image=1e-4`` to ``("lr", ("image",), 1e-4)``; the right side is TOML, or else a bare word.

    Raises:
        RecipeError: No ``=``, or an empty name.
    """
    left, equals, right = text.partition("=")
    names = [part.strip() for part in left.split(".")]
    if not equals or not all(names):
        raise RecipeError(f"--set {text!r}: expected name=value, e.g. alpha=0.2 or lr.image=1e-4")
    right = right.strip()
    try:
        document = parse_toml(f"value = {right}")
    except tomllib.TOMLDecodeError:
        document = {"value": right}
    except ValueError as error:
        raise RecipeError(f"--set {left[:60]}=...: {error}") from None
    # A right side with a line break could smuggle in a second key; it is then an ordinary string.
    value = document["value"] if set(document) == {"value"} else right
    if not _finite(value):
        raise RecipeError(f"--set {text!r}: not a finite number")
    return names[0], tuple(names[1:]), value


def coerce(value: Any, like: Any) -> Any:
    """``value`` as the type of ``like``: the same type, or a whole number where a decimal one is expected.

    Raises:
        TypeError: Any other type; the message says what is expected.
    """
    if isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(like, Mapping) and isinstance(value, dict):
        return {key: coerce(each, like.get(key, _any_of(like, each))) for key, each in value.items()}
    if isinstance(like, list | tuple) and isinstance(value, list):
        return [coerce(each, like[0]) for each in value] if like else value
    if like is not None and type(value) is not type(like):
        raise TypeError(f"expected {_kind(like)}, got {_kind(value)} {value!r}")
    return value


def _chosen_variant(method: Entry, changes: Sequence[tuple[str, tuple[str, ...], Any, str]]) -> str:
    """What the last ``variant=...`` says.

    Raises:
        UnknownNameError: No such variant.
    """
    chosen = RECOMMENDED
    for name, keys, given, _ in changes:
        if name == VARIANT:
            chosen = ".".join([*keys, str(given)])
            if keys or chosen not in variants(method):
                raise UnknownNameError(f"variant of {method.id}", chosen, list(variants(method)))
    return chosen


def _layered(file: Path, dataset: str, profile: str, variant: str) -> Recipe:
    layers = read_layers(file)
    order = ["paper", f"paper.{dataset}"]
    if profile != "paper":
        order += [profile, f"{profile}.{dataset}"]
    if variant != RECOMMENDED:
        order += [f"{VARIANT}.{variant}", f"{VARIANT}.{variant}.{dataset}"]
    values: Recipe = {}
    for layer in order:
        for name, new in layers.get(layer, {}).items():
            value = new.value
            # 1 and 1.0 must not make two different runs.
            if name in values and isinstance(values[name].value, float) and type(value) is int:
                value = float(value)
            values[name] = dataclasses.replace(new, value=value)
    return values


def _defaults(method: Entry) -> Recipe:
    config = method.load().Config
    values: Recipe = {}
    for field in dataclasses.fields(config):
        if field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            raise RecipeError(
                f"{method.id}: hyper-parameter {field.name!r} has neither a default nor an entry in "
                f"{'recipes/' + method.id + '.toml' if method.path else 'a recipe'}"
            )
        values[field.name] = Value(value, "method default", "method default")
    return values


def _complete_rows(given: Value | None, default: Value) -> Value:
    if given is None:
        return default
    if not isinstance(given.value, dict) or not set(given.value) <= set(default.value):
        raise RecipeError(f"{ROWS} ({given.origin}) must be a table with rows for train and val")
    return dataclasses.replace(given, value={**default.value, **given.value})


def _value(file: Path, section: str, name: str, item: Any) -> Value:
    if name == VARIANT:
        raise RecipeError(
            f"{file}: [{section}] {VARIANT} is a reserved name; write a section [{VARIANT}.<name>]"
        )
    if section == "tiny":  # for checks alone, so it needs no source
        item = {"value": item, "source": "small for checks"}
    if not isinstance(item, dict) or set(item) != {"value", "source"} or not isinstance(item["source"], str):
        raise RecipeError(f'{file}: [{section}] {name} must be {{ value = ..., source = "..." }}')
    if not _finite(item["value"]):
        raise RecipeError(f"{file}: [{section}] {name} is not a finite number")
    return Value(item["value"], item["source"], section)


def _override(old: Any, keys: tuple[str, ...], given: Any, text: str) -> Any:
    if keys:
        if not isinstance(old, Mapping):
            name = text.partition(".")[0]
            raise RecipeError(f"--set {text}: {name} is one value ({old!r}), not a table; use {name}=...")
        if keys[0] not in old and not _uniform(old):
            raise UnknownNameError(f"entry of {text.partition('.')[0]}", keys[0], [str(key) for key in old])
        like = old.get(keys[0], _any_of(old, given))
        return {**old, keys[0]: _override(like, keys[1:], given, text)}
    try:
        return coerce(given, old)
    except TypeError as error:
        hint = ""
        if isinstance(old, Mapping) and old:
            name = text.partition("=")[0]
            hint = f"; set one entry with {name}.{next(iter(old))}=..., or all with {name}={{...}}"
        raise RecipeError(f"--set {text}: {error}{hint}") from None


def _uniform(table: Mapping[str, Any]) -> bool:
    """Whether a table holds one value per modality (so that a new modality may be added to it)."""
    return "train" not in table and len({type(each) for each in table.values()}) == 1


def _any_of(table: Mapping[str, Any], otherwise: Any) -> Any:
    return next(iter(table.values()), otherwise)


def _finite(value: Any) -> bool:
    if isinstance(value, Mapping | list):
        return all(map(_finite, value.values() if isinstance(value, Mapping) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", list: "a list"}
    names |= {tuple: "a list", dict: "a table"}
    return names.get(type(value), type(value).__name__)
