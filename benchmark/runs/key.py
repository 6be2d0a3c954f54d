"""The key of a run: a hash of what it is, from a plan before it is computed, or from its record afterwards.

Both ways make the content with the same function, so that a record can be held against the key it claims.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.core.option import declared
from benchmark.disk import read_bytes
from benchmark.errors import BenchmarkError, RecipeError
from benchmark.records.document import canonical
from benchmark.records.record import RunRecord, Value
from benchmark.runs.spec import RunSpec

KEY_VERSION = 2
"""Stands in every key as ``schema``; another number would make every stored run one that has to be computed
again, so it is not that of the record's layout, which may change while the runs stay what they are."""
MOST = 1 << 30
"""Bytes of a file that a hyper-parameter names."""
FILE = "file:"
"""How a hyper-parameter names a file."""


def make_key(
    *,
    metric_version: int,
    method: tuple[str, int, str],
    code: str,
    recipe: Mapping[str, Any],
    dataset: tuple[str, str],
    options: Mapping[str, Any],
) -> str:
    """Hex sha256 of what a run is.

    Args:
        metric_version: Of the metrics.
        method: Id, version and group.
        code: Hash of the source, of a plugin; empty of ours.
        recipe: Values of the hyper-parameters; of a file that one names, the content.
        dataset: Id and fingerprint.
        options: Of the run, as :func:`benchmark.runs.spec.in_key` has them.
    """
    name, version, group = method
    content = {
        "schema": KEY_VERSION,
        "metric_version": metric_version,
        "method": [name, version, *filter(None, [code])],
        "protocol": group,
        "recipe": dict(recipe),
        "dataset": list(dataset),
        **options,
    }
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def record_key(record: RunRecord) -> str:
    """The key of the run that a record describes, whatever key it claims.

    Raises:
        BenchmarkError: The record does not say enough, or says two things.
    """
    known = declared(RunSpec)
    options = {name: getattr(record, name) for name, one in known.items() if one.in_key == "always"}
    for name, value in options.items():
        stated = record.options.get(name, known[name].default)
        if known[name].recorded and value != stated:
            raise BenchmarkError(f"record.json: {name!r} is {value} and in 'options' {stated}")
    options |= {name: value for name, value in record.options.items() if name not in options}
    if record.is_pairwise:  # not among the options where the method is defined so
        options["pairwise"] = True
    data, method = record.dataset, record.method
    return make_key(
        metric_version=record.comparability["metric_version"],
        method=(method.id, method.version, str(method.more.get("group", ""))),
        code=method.code or "",
        recipe={name: _recorded(name, value, record) for name, value in record.recipe.items()},
        dataset=(data.id, data.fingerprint),
        options=options,
    )


def by_content(value: Any) -> Any:
    """The value itself; in place of ``file:<path>``, which file it is: two contents make two runs.

    Raises:
        RecipeError: The file cannot be read.
    """
    if not isinstance(value, str) or not value.startswith(FILE):
        return value
    try:
        return FILE + hashlib.sha256(read_bytes(Path(value.removeprefix(FILE)), MOST)).hexdigest()
    except OSError as error:
        raise RecipeError(f"{value}: {error.strerror or error}") from None


def named_files(recipe: Mapping[str, Value]) -> dict[str, str]:
    """Sha256 of every file that a hyper-parameter names, by the name of the hyper-parameter."""
    found = {name: by_content(each.value) for name, each in recipe.items()}
    return {name: at.removeprefix(FILE) for name, at in found.items() if at != recipe[name].value}


def _recorded(name: str, value: Value, record: RunRecord) -> Any:
    """What :func:`by_content` said when the run was made; the file may be gone, or another machine's."""
    if not isinstance(value.value, str) or not value.value.startswith(FILE):
        return value.value
    known = record.named_files or {}
    if name not in known:
        raise BenchmarkError(
            f"record.json: 'recipe.{name}' names a file and not what was in it, so nobody can tell which run "
            "this is; compute it anew"
        )
    return FILE + known[name]
