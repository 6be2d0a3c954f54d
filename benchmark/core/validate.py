"""Data that would make a run meaningless are refused here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from benchmark.core.data import Modality, MultimodalData, Split
from benchmark.errors import DataError

NAME_LENGTH = 64
SEPARATORS = ("/", "\\", "->", "+", ",")
"""What stands between names of modalities elsewhere: in paths, directions, pairs and lists."""


def check_names(names: Sequence[str], place: str) -> None:
    """Refuse names of modalities that would not be told apart, or not be printed.

    Args:
        names: Of all modalities.
        place: Beginning of the message.

    Raises:
        DataError: One that is empty, too long, not printable, holds a separator, or occurs twice.
    """
    for name in names:
        problem = ""
        if not name.strip() or name != name.strip():
            problem = "is empty, or begins or ends with a space"
        elif len(name) > NAME_LENGTH:
            problem = f"has {len(name)} characters, more than {NAME_LENGTH}"
        elif not name.isprintable():
            problem = "has characters that cannot be printed"
        elif found := [each for each in SEPARATORS if each in name]:
            problem = f"has {found[0]!r} in it"
        elif list(names).count(name) > 1:
            problem = "occurs twice"
        if problem:
            raise DataError(f"{place}modality name {name[:NAME_LENGTH]!r} {problem}; choose another")


def validate(data: MultimodalData, where: str = "") -> MultimodalData:
    """Refuse data that would make a run meaningless; return it unchanged otherwise.

    Args:
        data: The dataset to check.
        where: What to name in the message, usually the file.

    Raises:
        DataError: A wrong shape, type or label, a value that is not finite, an empty split, a modality
            that is missing, has an impossible name or changes its width, paired rows whose labels disagree,
            or a number of items that is not the number of test rows.
    """
    place = f"{where}: " if where else f"{data.name}: "
    check_names(data.modalities, place)
    for split in data.splits:
        if split.names != data.train.names:
            raise DataError(
                f"{place}{split.name} has {list(split.names)}, train has {list(data.train.names)}"
            )
        if split.classes != data.classes or split.label_form != data.label_form:
            raise DataError(
                f"{place}{split.name} has {split.classes} classes, labels {split.label_form}; "
                f"train has {data.classes}, {data.label_form}"
            )
        for modality in split:
            _validate_modality(modality, split, f"{place}{split.name}/{modality.name}")
            if modality.dim != data.train[modality.name].dim:
                raise DataError(
                    f"{place}{split.name}/{modality.name} has {modality.dim} columns, "
                    f"train has {data.train[modality.name].dim}"
                )
        _validate_pairs(split, place)
    if not data.modalities:
        raise DataError(f"{place}no modality")
    for name, items in data.items.items():
        if name not in data.modalities:
            raise DataError(f"{place}items of {name!r}, which is no modality ({', '.join(data.modalities)})")
        if items and len(items) != len(data.test[name]):
            raise DataError(f"{place}{len(items)} items of {name} for {len(data.test[name])} test rows")
    return data


def _validate_modality(m: Modality, split: Split, where: str) -> None:
    if m.features.ndim != 2:
        raise DataError(f"{where}: features have shape {m.features.shape}, expected (rows, columns)")
    if len(m) == 0 or m.dim == 0:
        raise DataError(f"{where}: empty features, shape {m.features.shape}")
    if m.features.dtype != np.float32:
        raise DataError(f"{where}: features are {m.features.dtype}, expected float32")
    if not np.isfinite(m.features).all():
        row, column = np.argwhere(~np.isfinite(m.features))[0]
        value = m.features[row, column]
        raise DataError(f"{where}: {value} at row {row}, column {column}; remove or repair that row")
    _validate_labels(m, split, where)
    if m.pair_ids is not None:
        if m.pair_ids.shape != (len(m),) or not np.issubdtype(m.pair_ids.dtype, np.integer):
            found = f"{m.pair_ids.dtype} {m.pair_ids.shape}"
            raise DataError(f"{where}: pair ids must be one integer for each of {len(m)} rows, got {found}")
        if len(np.unique(m.pair_ids)) != len(m):
            raise DataError(f"{where}: a pair id occurs twice; one row per modality and item is expected")


def _validate_labels(m: Modality, split: Split, where: str) -> None:
    if len(m.labels) != len(m):
        raise DataError(f"{where}: {len(m)} feature rows but {len(m.labels)} labels")
    if split.label_form == "multi":
        if m.labels.ndim != 2 or m.labels.shape[1] != split.classes:
            expected = (len(m), split.classes)
            raise DataError(f"{where}: labels have shape {m.labels.shape}, expected {expected}")
        if not np.isin(m.labels, (0, 1)).all():
            raise DataError(f"{where}: multi-label rows must hold 0 and 1 only")
    else:
        if m.labels.ndim != 1 or not np.issubdtype(m.labels.dtype, np.integer):
            raise DataError(
                f"{where}: labels must be one integer per row, got {m.labels.dtype} {m.labels.shape}"
            )
        if m.labels.min() < 0 or m.labels.max() >= split.classes:
            wrong = m.labels.min() if m.labels.min() < 0 else m.labels.max()
            raise DataError(f"{where}: label {wrong} is outside 0..{split.classes - 1}")


def _validate_pairs(split: Split, place: str) -> None:
    paired = [(m, m.pair_ids) for m in split if m.pair_ids is not None]
    for (first, ids), (second, other_ids) in combinations(paired, 2):
        common, i, j = np.intersect1d(ids, other_ids, return_indices=True)
        different = np.asarray(first.labels[i] != second.labels[j])
        wrong = different.any(axis=1) if different.ndim == 2 else different
        if wrong.any():
            at = int(np.argmax(wrong))
            raise DataError(
                f"{place}{split.name}: {first.name} row {i[at]} and {second.name} row {j[at]} are a pair "
                f"(id {common[at]}) but their labels differ"
            )
