"""The data model: features and labels per modality and split, with row pairing as data.

Plain numpy, no torch: listing, describing and checking data need no deep-learning library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import DataError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Modality:
    """One modality of one split.

    Attributes:
        name: Modality name, e.g. ``image``.
        features: ``(n, d)`` float32.
        labels: ``(n,)`` int64 class numbers ``0..C-1`` (single-label), or ``(n, C)`` uint8 of 0 and 1
            (multi-label).
        pair_ids: ``(n,)`` int64, or ``None``. Rows of two modalities with the same pair id show the same
            item (an image and its caption). ``None``: no row is paired with anything.
    """

    name: str
    features: NDArray[np.float32]
    labels: NDArray[np.int64] | NDArray[np.uint8]
    pair_ids: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dim(self) -> int:
        """Number of feature columns."""
        return int(self.features.shape[1])

    def take(self, rows: NDArray[np.int64]) -> Modality:
        """The given rows, in the given order, as a new modality."""
        ids = None if self.pair_ids is None else self.pair_ids[rows]
        return replace(self, features=self.features[rows], labels=self.labels[rows], pair_ids=ids)


@dataclass(frozen=True)
class Split:
    """All modalities of one split, in the dataset's canonical order."""

    name: str
    modalities: Mapping[str, Modality]
    classes: int
    label_form: str = "single"

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", MappingProxyType(dict(self.modalities)))

    def __getitem__(self, modality: str) -> Modality:
        return self.modalities[modality]

    def __iter__(self) -> Iterator[Modality]:
        return iter(self.modalities.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names in canonical order."""
        return tuple(self.modalities)

    def label_matrix(self, modality: str) -> NDArray[np.float32]:
        """Labels as ``(n, C)`` float32 rows: one-hot for single labels, multi-hot otherwise."""
        labels = self[modality].labels
        if self.label_form == "multi":
            return labels.astype(np.float32)
        rows = np.zeros((len(labels), self.classes), np.float32)
        rows[np.arange(len(labels)), labels] = 1
        return rows

    def restrict(self, modalities: tuple[str, ...]) -> Split:
        """Only these modalities, in canonical order."""
        return replace(self, modalities={m: v for m, v in self.modalities.items() if m in modalities})


@dataclass(frozen=True)
class Item:
    """What people call a row.

    Attributes:
        name: For instance a file name or a title.
        symbol: One character that shows it, e.g. an emoji; empty if there is none.
    """

    name: str
    symbol: str = ""


@dataclass(frozen=True)
class MultimodalData:
    """A dataset as a method and the runner see it.

    Attributes:
        name: Dataset id.
        source: ``official`` (published feature files), ``standin`` (generated), or ``user``.
        train, val, test: The splits. Test rows never reach a method's ``fit``.
        class_names: One per class, or empty.
        version: Version of the loader or generator; part of the fingerprint.
        notes: Remarks for reports (known flaws, how a cut was made), one line each.
        fixed_fingerprint: Set where a hash of the arrays is not reproducible across machines (stand-ins).
        items: Per modality, what every row of the test split shows; empty where nobody knows.
    """

    name: str
    source: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...] = ()
    version: str = "1"
    notes: tuple[str, ...] = ()
    fixed_fingerprint: str | None = None
    items: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Train, validation, test."""
        return self.train, self.val, self.test

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modality names in canonical order."""
        return self.train.names

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.train.classes

    @property
    def label_form(self) -> str:
        """``single`` or ``multi``."""
        return self.train.label_form

    def restrict(self, modalities: tuple[str, ...]) -> MultimodalData:
        """Only these modalities, in canonical order."""
        train, val, test = (split.restrict(modalities) for split in self.splits)
        items = {m: v for m, v in self.items.items() if m in modalities}
        return replace(self, train=train, val=val, test=test, items=items)

    def fingerprint(self) -> str:
        """Hex sha256 that changes with any value, label, pairing, order of rows, or the version."""
        if self.fixed_fingerprint is not None:
            return self.fixed_fingerprint
        digest = hashlib.sha256(f"{self.name}|{self.version}|{self.label_form}|{self.classes}".encode())
        for split in self.splits:
            for modality in split:
                arrays = {"x": modality.features, "y": modality.labels, "pairs": modality.pair_ids}
                for key, array in arrays.items():
                    if array is None:
                        continue
                    digest.update(f"|{split.name}|{modality.name}|{key}|{array.dtype}|{array.shape}".encode())
                    digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def validate(data: MultimodalData, where: str = "") -> MultimodalData:
    """Refuse data that would make a run meaningless; return it unchanged otherwise.

    Args:
        data: The dataset to check.
        where: What to name in the message, usually the file.

    Raises:
        DataError: A wrong shape, type or label, a value that is not finite, an empty split, a modality
            that is missing or changes its width, paired rows whose labels disagree, or a number of items
            that is not the number of test rows.
    """
    place = f"{where}: " if where else f"{data.name}: "
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


def standardize(data: MultimodalData) -> MultimodalData:
    """Every column minus its training mean, divided by its training standard deviation.

    Constant columns become 0. Statistics are taken in float64 on the training split only.
    """
    splits = {split.name: dict(split.modalities) for split in data.splits}
    for name in data.modalities:
        train = data.train[name].features
        mean = train.mean(axis=0, dtype=np.float64)
        deviation = train.std(axis=0, dtype=np.float64)
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        for split in data.splits:
            scaled = ((split[name].features - mean) * scale).astype(np.float32)
            splits[split.name][name] = replace(split[name], features=scaled)
    train_, val, test = (replace(s, modalities=splits[s.name]) for s in data.splits)
    return replace(data, train=train_, val=val, test=test, fixed_fingerprint=data.fingerprint())


def subsample(split: Split, rows: int, seed: int = 0) -> Split:
    """At most ``rows`` rows per modality, balanced over classes as far as they reach; pairs stay together.

    Classes are served in turn (every class keeps at least one row, even if that exceeds ``rows``), the
    order inside a class is a seeded permutation shared by paired modalities. Row order is kept.
    """
    return take_rows(split, kept_rows(split, rows, seed))


def kept_rows(split: Split, rows: int, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    """The rows of every modality that :func:`subsample` keeps, in ascending order."""
    kept: dict[str, NDArray[np.int64]] = {}
    items = np.unique(np.concatenate([_item_ids(m) for m in split]))
    ranks = np.random.default_rng(seed).permutation(len(items))
    for modality in split:
        if len(modality) <= rows:
            kept[modality.name] = np.arange(len(modality))
            continue
        keys = ranks[np.searchsorted(items, _item_ids(modality))]
        labels = modality.labels if modality.labels.ndim == 1 else modality.labels.argmax(axis=1)
        order = np.lexsort((keys, labels))
        starts = np.searchsorted(labels[order], labels[order])  # first position of the row's class
        turn = np.arange(len(order)) - starts
        served = np.lexsort((keys[order], turn))
        count = max(rows, int((turn == 0).sum()))
        kept[modality.name] = np.sort(order[served[:count]])
    return kept


def take_rows(split: Split, rows: Mapping[str, NDArray[np.int64]]) -> Split:
    """The given rows of every modality; one of which all are taken is not copied."""
    whole = {m.name: len(rows[m.name]) == len(m) for m in split}
    return replace(split, modalities={m.name: m if whole[m.name] else m.take(rows[m.name]) for m in split})


def _item_ids(m: Modality) -> NDArray[np.int64]:
    return np.arange(len(m)) if m.pair_ids is None else m.pair_ids
