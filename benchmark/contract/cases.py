"""Tiny generated data for contract checks: every shape a method may meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import Modality, Split
from benchmark.core.info import MethodInfo

ROWS = MappingProxyType({"image": 24, "text": 24, "audio": 18, "3d": 9, "video": 11})
DIMS = MappingProxyType({"image": 6, "text": 5, "audio": 4, "3d": 7, "video": 3})
PAIRED = 2  # the first two modalities of a case show the same items
CLASSES = 4
LATENT = 8


@dataclass(frozen=True)
class Case:
    """Data of one shape.

    Attributes:
        name: What is special about it, for the report.
        train, val, test: The splits; modalities have different numbers of rows in each.
    """

    name: str
    train: Split
    val: Split
    test: Split

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Train, validation, test."""
        return self.train, self.val, self.test


def make_case(
    name: str,
    names: tuple[str, ...],
    *,
    form: str = "single",
    rows: Mapping[str, int] = MappingProxyType({}),
) -> Case:
    """A case with the usual row numbers, some of them replaced by ``rows`` (training only).

    Args:
        name: For the report.
        names: Modalities.
        form: ``single`` or ``multi``.
        rows: Training rows of some of the modalities.
    """
    usual = {m: ROWS.get(m, 24) for m in names}
    sizes = {"train": {**usual, **rows}, "val": dict.fromkeys(names, 10)}
    sizes["test"] = {m: 9 if number < PAIRED else 6 + number for number, m in enumerate(names)}
    splits = [_make_split(split, size, form) for split, size in sizes.items()]
    return Case(name, *splits)


def cases(info: MethodInfo) -> list[Case]:
    """All shapes a method of this description has to serve; the plainest first."""
    names = info.kinds or tuple(ROWS)
    two = names[:PAIRED]
    found = [make_case("two paired modalities", two)]
    if info.modalities == "many":
        found += [make_case(f"{n} modalities", names[:n]) for n in (3, 5) if len(names) >= n]
    if info.multilabel:
        found.append(make_case("several labels per item", two, form="multi"))
    most = names[:3] if info.modalities == "many" else two
    found.append(_lonely_class(make_case("a class of one row", most)))
    few = {most[2]: 3} if len(most) > PAIRED else dict.fromkeys(two, 5)
    found.append(make_case("fewer rows than a batch", most, rows=few))
    found.append(_blank(make_case("constant columns and an empty row", most)))
    return found


def foreign_names(info: MethodInfo) -> tuple[str, ...]:
    """As many modality names as a method confined to certain kinds serves, none of them among these."""
    return tuple(f"other{number}" for number in range(len(info.kinds)))


def _make_split(name: str, rows: Mapping[str, int], form: str) -> Split:
    """Class centres plus noise, seen through one fixed random map per modality."""
    centres = np.random.default_rng(1).normal(size=(CLASSES, LATENT))
    modalities = {}
    for number, (m, count) in enumerate(rows.items()):
        paired = number < PAIRED
        rng = np.random.default_rng([len(name), 0 if paired else number])
        labels = rng.permutation(np.arange(count) % CLASSES)
        hidden = centres[labels] + 0.5 * rng.normal(size=(count, LATENT))
        own = np.random.default_rng([len(name), number, 7])
        view = np.random.default_rng([number, 11]).normal(size=(LATENT, DIMS.get(m, 5)))
        features = np.tanh(hidden @ view / 3) + 0.1 * own.normal(size=(count, view.shape[1]))
        order = own.permutation(count)  # partners are stored in different orders
        modalities[m] = Modality(
            m,
            features[order].astype(np.float32),
            _labels(labels, form)[order],
            np.arange(count)[order] if paired else None,
        )
    return Split(name, modalities, CLASSES, form)


def _labels(labels: NDArray[np.int64], form: str) -> NDArray[np.int64] | NDArray[np.uint8]:
    if form == "single":
        return labels
    several = np.eye(CLASSES, dtype=np.uint8)[labels]
    several[::3, 0] = 1  # every third item also has class 0
    return several


def _lonely_class(case: Case) -> Case:
    """One more class, with a single training row per modality and none in the other splits."""

    def relabel(m: Modality) -> Modality:
        labels = m.labels.copy()
        labels[0 if m.pair_ids is None else int(np.argmin(m.pair_ids))] = CLASSES
        return replace(m, labels=labels)

    modalities = {m.name: relabel(m) for m in case.train}
    train = replace(case.train, modalities=modalities, classes=CLASSES + 1)
    return replace(
        case,
        train=train,
        val=replace(case.val, classes=CLASSES + 1),
        test=replace(case.test, classes=CLASSES + 1),
    )


def _blank(case: Case) -> Case:
    """A constant and a zero column in every modality, and an all-zero first row in every split."""

    def blank(split: Split) -> Split:
        modalities = {}
        for m in split:
            features = m.features.copy()
            features[:, 0], features[:, 1] = 1, 0
            features[0] = 0
            modalities[m.name] = replace(m, features=features)
        return replace(split, modalities=modalities)

    train, val, test = (blank(split) for split in case.splits)
    return replace(case, train=train, val=val, test=test)
