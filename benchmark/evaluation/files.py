"""Embeddings and labels from files of any source (.mat, .npz), and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.arrays import open_arrays
from benchmark.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

FEATURES = (
    "test_fea",
    "test_features",
    "test_embeddings",
    "embeddings",
    "embedding",
    "emb",
    "features",
    "feature",
    "feats",
    "fea",
)
LARGEST = 1 << 62
"""Bound for class numbers."""
LABELS = ("test_lab", "test_labels", "test_label", "labels", "label", "lab")


@dataclass(frozen=True)
class Embeddings:
    """Embedded items of one modality.

    Attributes:
        name: Modality name.
        embeddings: ``(n, d)`` float32.
        labels: ``(n,)`` int64 class numbers, or ``(n, C)`` uint8 rows of 0 and 1.
        file: Where they were read from.
    """

    name: str
    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64] | NDArray[np.uint8]
    file: str = ""


def read_embeddings(path: Path) -> list[Embeddings]:
    """Read every modality of a .mat (any version) or .npz file; nothing pickled is ever loaded.

    What is inside is recognised by the names of the variables:

    - one modality, called like the file: ``test_fea``, ``embeddings``, ``features`` or ``emb`` with
      ``test_lab`` or ``labels``;
    - several: ``image`` or ``image_embeddings`` with ``image_labels``, ``text`` with ``text_labels``, ...

    Raises:
        DataError: A file that cannot be used, in one line.
    """
    variables, skipped = _numeric(path)
    features = _first(variables, FEATURES)
    labels = _first(variables, LABELS)
    if features and labels:
        return [_checked(path, path.stem, features, variables[features], labels, variables[labels])]
    found = []
    for lab in variables:
        name, feature = _prefixed(variables, lab)
        if feature:
            found.append(_checked(path, name, feature, variables[feature], lab, variables[lab]))
    if not found:
        inside = [f"{name} {array.shape}" for name, array in variables.items()] + skipped
        raise DataError(
            f"{path}: no embeddings with labels; expected embeddings + labels, test_fea + test_lab, or "
            f"image + image_labels and so on; inside: {', '.join(inside) or 'nothing'}"
        )
    return found


def _numeric(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The numeric arrays of a file, and in words what else it holds."""
    arrays = open_arrays(path)
    values = {name: arrays.read(name) for name in arrays.shapes}
    numeric = {n: v for n, v in values.items() if not isinstance(v, list) and v.dtype.kind in "biuf"}
    other = [
        f"{n} ({'a cell array' if isinstance(v, list) else f'not numeric: {v.dtype}'})"
        for n, v in values.items()
    ]
    return numeric, [text for name, text in zip(values, other, strict=True) if name not in numeric]


def _first(variables: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((name for name in names if name in variables), "")


def _prefixed(variables: Mapping[str, Any], label: str) -> tuple[str, str]:
    """Modality name and embeddings variable that belong to a label variable such as ``image_labels``."""
    for ending in LABELS:
        name = label.removesuffix(f"_{ending}")
        if name not in {label, ""}:
            return name, _first(variables, [name, *(f"{name}_{feature}" for feature in FEATURES)])
    return "", ""


def _checked(
    path: Path, name: str, feature: str, values: NDArray[Any], label: str, labels: NDArray[Any]
) -> Embeddings:
    if values.ndim != 2 or not values.size:
        raise DataError(f"{path}: {feature} has shape {values.shape}, expected (rows, columns)")
    with np.errstate(over="ignore"):
        embeddings = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(embeddings).all():
        row, column = np.argwhere(~np.isfinite(embeddings))[0]
        raise DataError(
            f"{path}: {feature} holds {values[row, column]} at row {row}, column {column}; "
            "every value must be a finite float32"
        )
    return Embeddings(name, embeddings, _labels(f"{path}: {label}", labels, len(embeddings)), str(path))


def _labels(where: str, labels: NDArray[Any], rows: int) -> NDArray[np.int64] | NDArray[np.uint8]:
    if not np.isfinite(labels).all() or (labels != np.floor(labels)).any():
        raise DataError(f"{where} must hold whole numbers")
    if labels.size and not -LARGEST < labels.min() <= labels.max() < LARGEST:
        raise DataError(f"{where} holds {labels.min():g} to {labels.max():g}; no class has such a number")
    if labels.size == rows and labels.ndim in (1, 2) and max(labels.shape) == rows:
        return labels.reshape(-1).astype(np.int64)
    if labels.ndim != 2 or len(labels) != rows:
        hint = "; transposed?" if labels.ndim == 2 and labels.shape[1] == rows else ""
        raise DataError(f"{where} has shape {labels.shape}, the embeddings have {rows} rows{hint}")
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{where} has shape {labels.shape} and must then hold rows of 0 and 1")
    return labels.astype(np.uint8)


def read_named(argument: str | Path) -> list[Embeddings]:
    """Read ``path`` or ``name=path``; with a name, the modalities of one file become ``name/modality``."""
    text = str(argument)
    name, equals, rest = text.partition("=")
    if not equals or Path(text).exists():
        return read_embeddings(Path(text))
    if not name or not rest:
        raise DataError(f"{text!r}: expected a file, or name=file")
    found = read_embeddings(Path(rest))
    if len(found) == 1:
        return [replace(found[0], name=name)]
    return [replace(modality, name=f"{name}/{modality.name}") for modality in found]


def score_files(
    paths: Sequence[str | Path], metrics: Sequence[str] = ("map@all", "map@50")
) -> dict[str, Any]:
    """Score every ordered pair of modalities in these files.

    Args:
        paths: Files, or ``name=file``.
        metrics: Metric names, see ``benchmark.evaluation.metrics``.

    Returns:
        JSON-able: ``metric_version``, ``metrics``, ``modalities`` (name, file, rows, columns, label_form),
        ``directions`` (query, database, queries, items, every metric, chance, ties), ``average`` of every
        metric over the directions, and ``warnings``.

    Raises:
        BenchmarkError: A file or metric that cannot be used, fewer than two modalities, two of one name, or
            modalities that cannot be compared.
    """
    from benchmark.evaluation.metrics import METRIC_VERSION, parse_metric

    names = list(dict.fromkeys(parse_metric(name).name for name in metrics))
    modalities = [modality for argument in paths for modality in read_named(argument)]
    _check_set(modalities)
    directions: list[dict[str, Any]] = []
    warnings: list[str] = []
    for first, second in combinations(modalities, 2):
        warnings += _class_warning(first, second)
        for row, warning in _score_pair(first, second, names):
            directions.append(row)
            warnings += warning
    return {
        "metric_version": METRIC_VERSION,
        "metrics": names,
        "modalities": [_described(modality) for modality in modalities],
        "directions": directions,
        "average": {name: float(np.mean([row[name] for row in directions])) for name in names},
        "warnings": warnings,
    }


def _described(modality: Embeddings) -> dict[str, Any]:
    rows, columns = modality.embeddings.shape
    form = "single" if modality.labels.ndim == 1 else "multi"
    facts = {"name": modality.name, "file": modality.file, "rows": rows, "columns": columns}
    return {**facts, "label_form": form}


def _check_set(modalities: Sequence[Embeddings]) -> None:
    names = [modality.name for modality in modalities]
    if len(names) < 2:
        raise DataError(
            f"nothing to compare: found {', '.join(names) or 'no modality'}; give at least two modalities"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(
            f"two modalities are called {twice[0]!r}; name them, as in image={modalities[0].file}"
        )
    for modality in modalities[1:]:
        if modality.embeddings.shape[1] != modalities[0].embeddings.shape[1]:
            raise DataError(
                f"{modalities[0].name} has embeddings of {modalities[0].embeddings.shape[1]} columns, "
                f"{modality.name} of {modality.embeddings.shape[1]}; they must share one space"
            )


def _class_warning(first: Embeddings, second: Embeddings) -> list[str]:
    """Labels counted from 0 in one file and from 1 in the other would pass unnoticed."""
    if first.labels.ndim != 1 or second.labels.ndim != 1:
        return []
    if not (lonely := np.setxor1d(first.labels, second.labels)).size:
        return []
    shown = ", ".join(map(str, lonely[:5])) + (", ..." if len(lonely) > 5 else "")
    return [f"{first.name} and {second.name}: class {shown} occurs in one of the two only"]


def _score_pair(
    first: Embeddings, second: Embeddings, metrics: Sequence[str]
) -> list[tuple[dict[str, Any], list[str]]]:
    from benchmark.evaluation.metrics import evaluate

    def tensor(array: NDArray[Any]) -> Tensor:
        import torch

        return torch.as_tensor(array)

    labels = _comparable(first, second)
    both = evaluate(
        tensor(first.embeddings),
        tensor(labels[0]),
        tensor(second.embeddings),
        tensor(labels[1]),
        metrics=metrics,
    )
    rows = []
    for scores, query, database in zip(both, (first, second), (second, first), strict=True):
        row = {
            "query": query.name,
            "database": database.name,
            "queries": scores.queries,
            "items": scores.database,
            **{name: scores.mean(name) for name in metrics},
            "chance": scores.chance,
            "ties": scores.ties,
        }
        warning = [f"{query.name} -> {database.name}: {line}" for line in [scores.warning()] if line]
        rows.append((row, warning))
    return rows


def _comparable(first: Embeddings, second: Embeddings) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels of both in one form; class numbers become rows of 0 and 1 beside such rows."""
    one, other = first.labels, second.labels
    if one.ndim == other.ndim == 1:
        return one, other
    classes = one.shape[1] if one.ndim == 2 else other.shape[1]
    rows = []
    for modality in (first, second):
        labels = modality.labels
        if labels.ndim == 1 and (labels.min() < 0 or labels.max() >= classes):
            raise DataError(
                f"{modality.name} has class numbers {labels.min()}..{labels.max()}, the other modality label "
                f"rows of {classes} columns; number the classes 0..{classes - 1}"
            )
        if labels.ndim == 2 and labels.shape[1] != classes:
            raise DataError(f"{first.name} has {one.shape[1]} label columns, {second.name} {other.shape[1]}")
        rows.append(np.eye(classes, dtype=np.uint8)[labels] if labels.ndim == 1 else labels)
    return rows[0], rows[1]
