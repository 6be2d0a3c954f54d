"""The data model: features and labels per modality and split, with row pairing as data.

Plain numpy, no torch: listing, describing and checking data need no deep-learning library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UnknownNameError

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


def pick_modalities(wanted: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """``wanted`` in canonical order; all of ``names`` if nothing is wanted in particular.

    Raises:
        UnknownNameError: One that the dataset does not have.
    """
    for name in wanted:
        if name not in names:
            raise UnknownNameError("modality", name, list(names))
    return tuple(name for name in names if name in wanted) if wanted else names
