"""The card of a method: everything worth knowing before it is run, gathered without importing it.

Citation and protocol come from its decorator, objective and deviations from the docstring of its file, values
from its recipe. Only a method without a recipe is imported, for the defaults of its ``Config``.
"""

from __future__ import annotations

import ast
from dataclasses import asdict
from typing import Any

from benchmark.core.info import MethodInfo
from benchmark.core.registry import Entry
from benchmark.inspection.settings import settings
from benchmark.records.record import VARIANT
from benchmark.runs.profile import DEFAULT_ROWS
from benchmark.runs.recipe import (
    RECOMMENDED,
    Recipe,
    layer_dataset,
    read_layers,
    recipe_file,
    resolve,
    variants,
)

PROFILES = tuple(DEFAULT_ROWS)


def card(method: Entry, dataset: str = "") -> dict[str, Any]:
    """A method as one JSON document.

    Args:
        method: Its registry entry, an available one.
        dataset: Dataset id the values are resolved for; empty for those of any dataset.

    Returns:
        ``citation``; ``protocol``; ``description``, the docstring of its file; ``variants``, per name what
        each changes (:func:`changes`); ``settings``, per hyper-parameter its meaning and valid values as far
        as they are known; and ``recipe``, per profile every hyper-parameter with value, source and origin.

    Raises:
        RecipeError: A recipe that cannot be read.
    """
    info: MethodInfo = method.info
    facts = asdict(info)
    names = ("modalities", "pairwise", "kinds", "multilabel", "supervised", "trained", "transductive")
    return {
        "id": info.id,
        "title": info.title,
        "origin": method.origin,
        "version": info.version,
        "citation": {name: facts[name] for name in ("paper", "venue", "year", "doi")},
        "group": info.group,
        "protocol": {name: facts[name] for name in names},
        "description": docstring(method),
        "dataset": dataset,
        "variants": {
            name: changes(method, name, dataset) for name in variants(method) if name != RECOMMENDED
        },
        "settings": settings(method),
        "recipe": {
            profile: {name: asdict(value) for name, value in resolve(method, dataset, profile).items()}
            for profile in PROFILES
        },
    }


def docstring(method: Entry) -> str:
    """What the source file of a method says at its top; empty if it says nothing."""
    if method.path is None:
        return ""
    return ast.get_docstring(ast.parse(method.path.read_text(encoding="utf-8"))) or ""


def changes(method: Entry, variant: str, dataset: str = "") -> list[dict[str, Any]]:
    """Every value a variant changes.

    Args:
        method: Registry entry.
        variant: Its name.
        dataset: Dataset id; if empty, what the variant changes on single datasets is listed too.

    Returns:
        Entries with ``name``, ``dataset`` (empty: on any), ``recommended`` per profile, ``value`` and
        ``source``.
    """
    file = recipe_file(method)
    layers = {} if file is None else read_layers(file)
    own = [name for name in layers if name.startswith(f"{VARIANT}.{variant}.")]
    found = [_change(method, variant, dataset, name) for name in _names(method, variant, dataset)]
    for layer in () if dataset else own:
        found += [_change(method, variant, layer_dataset(layer), name) for name in layers[layer]]
    return [each for each in found if set(map(repr, each["recommended"].values())) != {repr(each["value"])}]


def _names(method: Entry, variant: str, dataset: str) -> list[str]:
    values = _resolved(method, variant, dataset, PROFILES[0])
    return [name for name, value in values.items() if value.origin.startswith(f"{VARIANT}.")]


def _change(method: Entry, variant: str, dataset: str, name: str) -> dict[str, Any]:
    new = _resolved(method, variant, dataset, PROFILES[0])[name]
    recommended = {p: resolve(method, dataset, p) for p in PROFILES}
    return {
        "name": name,
        "dataset": dataset,
        "recommended": {
            p: recipe[name].value if name in recipe else None for p, recipe in recommended.items()
        },
        "value": new.value,
        "source": new.source,
    }


def _resolved(method: Entry, variant: str, dataset: str, profile: str) -> Recipe:
    return resolve(method, dataset, profile, [f"{VARIANT}={variant}"])
