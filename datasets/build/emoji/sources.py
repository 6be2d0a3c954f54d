"""What the node packages hold: names and tags of every emoji, and its three drawings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
DATA = HERE.parents[1] / "emoji_data"
TABLE, FEATURES, CARD = DATA / "items.csv", DATA / "features.npz", DATA / "DATA_CARD.md"
LANGUAGES = ("en", "de", "fr", "es")
DRAWINGS = {
    "image": ("emoji-datasource-google/img/google/64", ".png"),
    "3d": ("@lobehub/fluent-emoji-3d/assets", ".webp"),
    "sketch": ("openmoji/black/svg", ".svg"),
}


@dataclass(frozen=True)
class Emoji:
    """One entry of the Unicode list.

    Attributes:
        code: Code points in lower-case hex, joined by ``-``, without the variation selector fe0f.
        character: The emoji itself.
        group, subgroup: Unicode's; empty for entries that belong to none.
        words: Per language the label, then the tags.
    """

    code: str
    character: str
    group: str
    subgroup: str
    words: dict[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """English label."""
        return self.words["en"][0]

    @property
    def points(self) -> list[str]:
        """Code points in lower-case hex."""
        return self.code.split("-")


def normal_code(name: str) -> str:
    """The code of an emoji as all packages agree on it."""
    return "-".join(point for point in name.lower().split("-") if point != "fe0f")


def read_emoji() -> dict[str, Emoji]:
    """Every emoji of emojibase-data, by code, in the order of its file."""
    folder = PACKAGES / "emojibase-data"
    meta = _json(folder / "meta/groups.json")
    lists = {language: _json(folder / language / "data.json") for language in LANGUAGES}
    words: dict[str, dict[str, tuple[str, ...]]] = {}
    for language, entries in lists.items():
        for entry in entries:
            code = normal_code(entry["hexcode"])
            words.setdefault(code, {})[language] = (entry["label"], *entry.get("tags", ()))
    found = {}
    for entry in lists["en"]:
        code = normal_code(entry["hexcode"])
        group = meta["groups"].get(str(entry.get("group")), "")
        subgroup = meta["subgroups"].get(str(entry.get("subgroup")), "")
        found[code] = Emoji(code, entry["emoji"], group, subgroup, words[code])
    return found


def drawings(modality: str) -> dict[str, Path]:
    """File of every drawing of ``image``, ``3d`` or ``sketch``, by code."""
    folder, suffix = DRAWINGS[modality]
    return {normal_code(file.stem): file for file in sorted((PACKAGES / folder).glob(f"*{suffix}"))}


def package_versions() -> dict[str, str]:
    """Version of every node package that is read."""
    names = ["emojibase-data", *("/".join(path.split("/")[:2]) for path, _ in DRAWINGS.values())]
    names = [name if name.startswith("@") else name.split("/")[0] for name in names]
    return {name: _json(PACKAGES / name / "package.json")["version"] for name in names}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
