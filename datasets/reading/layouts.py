"""How the arrays of a dataset are named and ordered inside a file, and how splits are cut out of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.arrays import Arrays, Value
from benchmark.core.data import Modality, MultimodalData, Split
from benchmark.core.validate import validate
from benchmark.errors import DataError

from .labels import distinct, encode, one_per_row
from .table1 import SPLITS, Table

Parts = dict[str, dict[str, tuple[str, str]]]
"""``{part of the file: {modality: (reference of the features, reference of the labels)}}``."""
Cuts = Mapping[str, tuple[str, ...]]
"""For a part that holds several splits, which, in the order of its rows: ``{"rest": ("val", "test")}``."""


def parts(words: Mapping[str, str], names: Mapping[str, tuple[str, str]]) -> Parts:
    """References for every part and modality.

    Args:
        words: How the file calls a part: ``{"train": "tr", "rest": "te"}``.
        names: Per modality, patterns of the features' and the labels' names with ``{0}`` for that word;
            ``a|b`` allows two names.
    """
    return {
        part: {m: (features.format(word), labels.format(word)) for m, (features, labels) in names.items()}
        for part, word in words.items()
    }


@dataclass(frozen=True)
class Layout:
    """One way the files of a dataset are laid out.

    Attributes:
        title: For messages.
        files: Alternatives of file patterns; the first is searched for, the others must lie beside it.
        parts: Where the arrays are. A label array that several parts name holds their rows one after the
            other.
        cuts: Parts that are divided into splits.
        note: Goes into the data's notes.
        locate: Finds the parts in the open file instead of ``parts`` (cell arrays, whose order is checked).
        needs: Variables that identify the layout, if ``locate`` is used.
    """

    title: str
    files: tuple[tuple[str, ...], ...]
    parts: Parts = field(default_factory=dict)
    cuts: Cuts = field(default_factory=dict)
    note: str = ""
    locate: Callable[[Arrays, Table], Parts] | None = None
    needs: tuple[str, ...] = ()

    def missing(self, arrays: Arrays) -> list[str]:
        """Variables of this layout that the file does not have."""
        pairs = [pair for modalities in self.parts.values() for pair in modalities.values()]
        wanted = self.needs or tuple(dict.fromkeys(reference for pair in pairs for reference in pair))
        return [reference for reference in wanted if not _present(arrays, reference)]


@dataclass(frozen=True)
class Foreign:
    """Different data that go by the same name: recognised, never loaded.

    Attributes:
        files: File patterns that are telling by themselves.
        needs: Variables that are telling by themselves.
        reason: What the data are.
    """

    reason: str
    files: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def _present(arrays: Arrays, reference: str) -> bool:
    return any(name in arrays for name in reference.split("|"))


def _read(arrays: Arrays, reference: str) -> Value:
    names = reference.split("|")
    return arrays.read(next((name for name in names if name in arrays), names[0]))


def choose(arrays: Arrays, layouts: tuple[Layout, ...], foreign: tuple[Foreign, ...], dataset: str) -> Layout:
    """The first layout whose variables are all in the file.

    Raises:
        DataError: None is; the message names the nearest layout, what it lacks and what is inside.
    """
    if layout := next((layout for layout in layouts if not layout.missing(arrays)), None):
        return layout
    for other in foreign:
        if other.needs and all(_present(arrays, name) for name in other.needs):
            raise DataError(f"{arrays.path}: not the {dataset} features of the paper: {other.reason}")
    nearest = min(layouts, key=lambda layout: len(layout.missing(arrays)))
    lacking = ", ".join(name.replace("|", " or ") for name in nearest.missing(arrays))
    raise DataError(
        f"{arrays.path}: no known layout of {dataset}; nearest is {nearest.title}, "
        f"which also has {lacking}; inside: {arrays.contents()}"
    )


def assemble(
    arrays: Arrays, layout: Layout, table: Table, name: str, paired: tuple[str, ...]
) -> MultimodalData:
    """Read, check against the table, cut and number the classes; features are not changed.

    Args:
        arrays: The open file.
        layout: Its layout.
        table: Shapes and class count the result must have.
        name: Dataset id.
        paired: Modalities whose rows show the same items.

    Returns:
        Data with source ``official``; pair ids are row numbers.

    Raises:
        DataError: A wrong shape, class count or label, values that are not finite, or pairs that disagree.
    """
    where = str(arrays.path)
    found = layout.locate(arrays, table) if layout.locate else layout.parts
    modalities = [m for m in table.shapes if all(m in part for part in found.values())]
    pieces = {m: _modality(arrays, found, layout.cuts, table, m) for m in modalities}
    labels = _number({m: {s: y for s, (_, y) in piece.items()} for m, piece in pieces.items()}, table, where)
    splits = {}
    for split in SPLITS:
        made = {}
        for m in modalities:
            x = pieces[m][split][0]
            ids = np.arange(len(x), dtype=np.int64) if m in paired else None
            made[m] = Modality(m, x, labels[m][split], ids)
        splits[split] = Split(split, made, table.classes)
    missing = [m for m in table.shapes if m not in modalities]
    notes = [f"{layout.title}: {layout.note}"] if layout.note else []
    notes += [f"{layout.title}: no {', '.join(missing)} features in it"] if missing else []
    data = MultimodalData(
        name, "official", splits["train"], splits["val"], splits["test"], notes=tuple(notes)
    )
    return validate(data, where)


def _modality(
    arrays: Arrays, found: Parts, cuts: Cuts, table: Table, m: str
) -> dict[str, tuple[NDArray[np.float32], NDArray[Any]]]:
    """Features and labels (as in the file) of one modality, per split."""
    shape = table.shapes[m]
    rows = {part: shape.rows(*cuts.get(part, (part,))) for part in found}
    sharing = Counter[str]()
    for part in found:
        sharing[found[part][m][1]] += rows[part]
    used = Counter[str]()
    pieces = {}
    for part in found:
        features, labels = found[part][m]
        where = f"{arrays.path}: {part} {m}"
        x = _features(_read(arrays, features), (rows[part], shape.dim), f"{where} ({features})")
        y = one_per_row(_read(arrays, labels), sharing[labels], f"{where} ({labels})")
        y = y[used[labels] : used[labels] + rows[part]]
        used[labels] += rows[part]
        start = 0
        for split in cuts.get(part, (part,)):
            stop = start + shape.rows(split)
            pieces[split] = (x[start:stop], y[start:stop])
            start = stop
    return pieces


def _features(value: Value, shape: tuple[int, int], where: str) -> NDArray[np.float32]:
    """``(n, d)`` float32; the exact transpose of the expected shape is turned."""
    if isinstance(value, list) or value.dtype.kind not in "iufb":
        kind = "a cell array" if isinstance(value, list) else str(value.dtype)
        raise DataError(f"{where}: features are {kind}, expected numbers")
    if value.shape != shape and value.shape == shape[::-1]:
        value = value.T
    if value.shape != shape:
        raise DataError(f"{where}: shape {value.shape}, expected {shape}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused later
        return np.ascontiguousarray(value, np.float32)


def _number(
    raw: Mapping[str, Mapping[str, NDArray[Any]]], table: Table, where: str
) -> dict[str, dict[str, NDArray[np.int64]]]:
    """Per modality and split, sorted distinct training labels become 0..C-1.

    Modalities may start counting at different numbers (both 0..9 and 1..10 occur), no more than that.
    """
    numbered: dict[str, dict[str, NDArray[np.int64]]] = {}
    reference = None
    for m, splits in raw.items():
        values = distinct([splits["train"]], where)
        if len(values) != table.classes:
            raise DataError(f"{where}: train {m} has {len(values)} classes, expected {table.classes}")
        pattern = values if values.dtype.kind == "U" else values - values[0]
        reference = pattern if reference is None else reference
        if not np.array_equal(pattern, reference):
            raise DataError(f"{where}: the class numbers of {m} are not those of {next(iter(raw))}")
        numbered[m] = {s: encode(y, values, f"{where}: {s} {m}") for s, y in splits.items()}
    return numbered
