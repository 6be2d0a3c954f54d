"""Which emoji are items, which of them are near-duplicates, and in which fold each lies.

The result, ``items.csv``, is committed and is the definition of the split; this file explains it.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classes import COARSE, FINE, FINE_OF
from .pictures import raster
from .sources import TABLE, Emoji, drawings

FOLDS, LARGEST_FAMILY, SAME = 10, 6, 6.0  # SAME: mean difference of two thumbnails, of 255
THUMBNAIL = 24
SEED = 0
VARIANT_WORDS = """
red orange yellow green blue purple brown black white grey gray light dark pink
small medium large big tiny left right up down upwards downwards leftwards rightwards
clockwise counterclockwise oncoming old older manual motorized
man men woman women person people boy girl child adult baby prince princess face
cloud rain sun with and of the in on at a an to for behind
"""
IGNORED = frozenset(VARIANT_WORDS.split())


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    code: str
    character: str
    name: str
    fine: str
    coarse: str
    family: int
    fold: int


def candidates(emoji: dict[str, Emoji]) -> list[Emoji]:
    """Emoji of the eight groups that have all three drawings and are no gendered variant of another."""
    drawn = [set(drawings(modality)) for modality in ("image", "3d", "sketch")]
    return [
        e
        for e in emoji.values()
        if e.group in COARSE and all(e.code in codes for codes in drawn) and not _gendered(e, emoji)
    ]


def _gendered(e: Emoji, emoji: dict[str, Emoji]) -> bool:
    first, *rest = e.points
    if {"2640", "2642"} & set(rest):
        return True
    joined = first in ("1f468", "1f469") and rest[:1] == ["200d"]
    return joined and (e.subgroup == "family" or "-".join(["1f9d1", *rest]) in emoji)


def family_key(e: Emoji) -> str:
    """Items of a sub-group with the same key show the same thing in variants."""
    if e.points[-1] == "20e3":
        return "keycap"
    name = e.name.lower()
    if "claus" in name:
        return "claus"
    if e.subgroup == "sky-weather" and re.search(r"\bmoon\b", name):
        return "moon"
    words = re.findall(r"[^\W_]+", name.partition(":")[0])
    kept = [word for word in words if word not in IGNORED]
    kept = [word[:-1] if word.endswith("s") and not word.endswith("ss") else word for word in kept]
    return " ".join(kept)


def families(items: list[Emoji]) -> list[list[int]]:
    """Connected components of near-duplicates: positions in ``items``, each in order."""
    parent = list(range(len(items)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    by_subgroup: dict[str, list[int]] = defaultdict(list)
    for i, e in enumerate(items):
        by_subgroup[e.subgroup].append(i)
    looks = [thumbnails(items, modality) for modality in ("image", "3d")]
    lines = thumbnails(items, "sketch")  # without their colour some are the very same
    for subgroup, members in by_subgroup.items():
        for n, i in enumerate(members):
            for j in members[:n]:
                alike = family_key(items[i]) == family_key(items[j]) or (lines[i] == lines[j]).all()
                if not alike and not subgroup.startswith("face-"):
                    alike = any(np.abs(look[i] - look[j]).mean() < SAME for look in looks)
                if alike:
                    parent[root(i)] = root(j)
    found: dict[int, list[int]] = defaultdict(list)
    for i in range(len(items)):
        found[root(i)].append(i)
    return sorted(found.values())


def thumbnails(items: Iterable[Emoji], modality: str) -> NDArray[np.float32]:
    """``(n, 24, 24, 3)`` colours 0..255 over white."""
    files = drawings(modality)
    return np.stack([raster(files[e.code], THUMBNAIL)[0] * 255 for e in items]).astype(np.float32)


def thin(family: list[int]) -> list[int]:
    """At most six members, evenly spaced."""
    if len(family) <= LARGEST_FAMILY:
        return family
    return [family[i] for i in np.linspace(0, len(family) - 1, LARGEST_FAMILY).round().astype(int)]


def assign_folds(classes: list[str], members: list[list[int]]) -> list[int]:
    """Fold of every family: class by class, the largest first, each to the fold with fewest of its class.

    Args:
        classes: Class of every family.
        members: Items of every family.
    """
    rng = np.random.default_rng(SEED)
    total = np.zeros(FOLDS, int)
    folds = [0] * len(members)
    for name in dict.fromkeys(classes):
        own = rng.permutation([f for f, c in enumerate(classes) if c == name])
        count = np.zeros(FOLDS, int)
        for f in sorted(own, key=lambda f: -len(members[f])):
            fold = min(range(FOLDS), key=lambda k: (count[k], total[k], k))
            folds[f] = fold
            count[fold] += len(members[f])
            total[fold] += len(members[f])
    return folds


def choose(emoji: dict[str, Emoji]) -> list[Row]:
    """The table, in the order of Unicode's list; families are numbered by their first item."""
    items = [e for e in candidates(emoji) if e.subgroup in FINE_OF]
    kept = [thin(family) for family in families(items)]
    order = list(FINE)
    kept.sort(key=lambda family: (order.index(FINE_OF[items[family[0]].subgroup]), family[0]))
    folds = assign_folds([FINE_OF[items[family[0]].subgroup] for family in kept], kept)
    place = {i: number for number, family in enumerate(kept) for i in family}
    rows = []
    for i in sorted(place, key=lambda i: (order.index(FINE_OF[items[i].subgroup]), i)):
        e, family = items[i], place[i]
        fine, coarse = FINE_OF[e.subgroup], COARSE[e.group]
        rows.append(Row(e.code, e.character, e.name, fine, coarse, family, folds[family]))
    return rows


def write_table(rows: list[Row]) -> None:
    """Write the table, in the order of its rows."""
    TABLE.parent.mkdir(exist_ok=True)
    with TABLE.open("w", encoding="utf-8", newline="\n") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows(astuple(row) for row in rows)


def read_table() -> list[Row]:
    """The committed table."""
    with TABLE.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    return [Row(**dict[str, Any](line, family=int(line["family"]), fold=int(line["fold"]))) for line in lines]
