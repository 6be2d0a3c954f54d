"""Wikipedia with the features of 2010: 128-bin SIFT visual words and 10 LDA topics, 2,866 pairs, 10 classes.

Row i of the features belongs to line i of the lists; class numbers there start at 1. Image and text of a row
are a pair. The same documents as dataset ``wikipedia``, but in another order: results of the two cannot be
compared item by item.

Splits:
    ``paper``: 2173 train / 231 val / 462 test. Of the 693 rows that are not training rows, in file order, the
    first 231 are validation, as in the files of dataset ``wikipedia``.
    ``literature``: 2173 / 693, as older work reports it. That work has no validation part; here it is a
    class-balanced choice of 231 training rows, which stay in training: all 2173 rows are learned from and no
    test row is looked at, but selection on it favours models that fit the training rows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.arrays import Arrays, open_arrays
from benchmark.core.data import Item, Modality, MultimodalData, Split
from benchmark.core.registry import dataset
from benchmark.core.subsample import subsample
from benchmark.core.validate import validate
from benchmark.errors import DataError

from .reading.files import Remote, github
from .reading.layouts import Layout
from .reading.official import PublishedDataset

TRAIN, TEST, VALIDATION = 2173, 693, 231
DIMS = {"image": 128, "text": 10}
VARIABLES = {"image": "I", "text": "T"}
BLOBS = {
    "raw_features.mat": "4bd245cb9c2ff0611f2985404d6a8780a002b6b1",
    "trainset_txt_img_cat.list": "525903f3d6ce6225f1998aeff101012aa0ec958e",
    "testset_txt_img_cat.list": "5b8a229c433a27b1707442b4664d2ae16400fe20",
    "categories.list": "ae8a86008067856cc18c6f9cd842f7da3a49d5dc",
}


@dataset(
    "wikipedia-classic",
    title="Wikipedia (SIFT words, LDA topics)",
    modalities=("image", "text"),
    classes=10,
    citation="Rasiwasia et al., A New Approach to Cross-Modal Multimedia Retrieval, ACM MM 2010",
    splits=("paper", "literature"),
)
class WikipediaClassic(PublishedDataset):
    """``raw_features.mat`` and the three lists beside it."""

    home = "http://www.svcl.ucsd.edu/projects/crossmodal/"
    file_option = False
    layouts = (Layout("raw_features.mat", (tuple(BLOBS),)),)
    remotes = tuple(
        Remote(
            name,
            (
                github(
                    "2012013382/JFSSL-Cross-Modal-Retrieval",
                    "6779ff11f033c22d5dbb5a1743a3b5ad1f766ccc",
                    f"wikipedia_info/{name}",
                ),
            ),
            blob=blob,
        )
        for name, blob in BLOBS.items()
    )

    def read(self, files: tuple[Path, ...], split: str) -> MultimodalData:
        """Features, labels and item names of the chosen split."""
        features, train_list, test_list, categories = files
        arrays = open_arrays(features)
        names = tuple(_text(categories).split())
        train = _part(arrays, "train", TRAIN, _labels(train_list, TRAIN, len(names)), len(names))
        rest = _part(arrays, "test", TEST, _labels(test_list, TEST, len(names)), len(names))
        ids = {"text": _column(test_list, 0), "image": _column(test_list, 1)}
        if split == "literature":
            val, test, first = replace(subsample(train, VALIDATION), name="val"), rest, 0
            notes = (
                "split literature (2173/693): validation is a class-balanced choice of 231 training rows "
                "that stay in training; selection on it favours models that fit the training rows",
            )
        else:
            val = _rows(rest, "val", np.arange(VALIDATION))
            test, first = _rows(rest, "test", np.arange(VALIDATION, TEST)), VALIDATION
            notes = ("split paper (2173/231/462): of the 693 list rows, the first 231 are validation",)
        data = MultimodalData(
            "wikipedia-classic",
            "official",
            train,
            val,
            test,
            class_names=names,
            notes=notes,
            items={m: tuple(map(Item, ids[m][first:])) for m in DIMS},
        )
        return validate(data, str(features.parent))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable list: {error}") from None


def _column(path: Path, column: int) -> list[str]:
    """A column of a tab-separated list (text id, image id, class number)."""
    rows = [line.split("\t") for line in _text(path).splitlines()]
    if short := [number for number, row in enumerate(rows, 1) if len(row) != 3]:
        raise DataError(f"{path}: line {short[0]} is not text id, image id, class, separated by tabs")
    return [row[column] for row in rows]


def _labels(path: Path, rows: int, classes: int) -> NDArray[np.int64]:
    """``(rows,)`` class numbers from 0."""
    column = _column(path, 2)
    if len(column) != rows:
        raise DataError(f"{path}: {len(column)} lines, expected {rows}")
    valid = {str(number) for number in range(1, classes + 1)}
    if wrong := [number for number, value in enumerate(column, 1) if value.strip() not in valid]:
        value = column[wrong[0] - 1]
        raise DataError(f"{path}: line {wrong[0]} has class {value!r}, expected 1..{classes}")
    return np.array(column, np.int64) - 1


def _part(arrays: Arrays, name: str, rows: int, labels: NDArray[np.int64], classes: int) -> Split:
    modalities = {}
    for m, letter in VARIABLES.items():
        variable = f"{letter}_{name[:2]}"
        value = arrays.read(variable)
        shape = np.shape(value) if not isinstance(value, list) else "of a cell array"
        if isinstance(value, list) or shape != (rows, DIMS[m]):
            raise DataError(f"{arrays.path}: {variable} has shape {shape}, expected {(rows, DIMS[m])}")
        modalities[m] = Modality(m, value.astype(np.float32), labels, np.arange(rows, dtype=np.int64))
    return Split(name, modalities, classes)


def _rows(split: Split, name: str, rows: NDArray[np.int64]) -> Split:
    return replace(split, name=name, modalities={m.name: m.take(rows) for m in split})
