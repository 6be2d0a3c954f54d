"""Sizes of the five benchmark sets (DRCL, IEEE TMM 2025, Table I)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Shape:
    """Rows per split and columns of one modality."""

    train: int
    val: int
    test: int
    dim: int

    def rows(self, *splits: str) -> int:
        """Rows of these splits together."""
        return sum(int(getattr(self, split)) for split in splits)


@dataclass(frozen=True)
class Table:
    """What a dataset must look like: number of classes, and a shape per modality in canonical order."""

    classes: int
    shapes: Mapping[str, Shape]


TABLE_I = {
    "xmedia": Table(
        20,
        {
            "image": Shape(4000, 500, 500, 4096),
            "text": Shape(4000, 500, 500, 3000),
            "audio": Shape(800, 100, 100, 29),
            "3d": Shape(400, 50, 50, 4700),
            "video": Shape(969, 87, 87, 4096),
        },
    ),
    "xmedianet": Table(
        200,
        {
            "image": Shape(32000, 4000, 4000, 4096),
            "text": Shape(32000, 4000, 4000, 300),
            "audio": Shape(8000, 1000, 1000, 672),
            "3d": Shape(1600, 200, 200, 4700),
            "video": Shape(8000, 1000, 1000, 4096),
        },
    ),
    "wikipedia": Table(10, {"image": Shape(2173, 231, 462, 4096), "text": Shape(2173, 231, 462, 300)}),
    "nuswide": Table(10, {"image": Shape(8000, 1000, 1000, 4096), "text": Shape(8000, 1000, 1000, 300)}),
    "websearch": Table(100, {"image": Shape(9000, 1332, 4366, 4096), "text": Shape(9000, 1332, 4366, 1000)}),
}
