"""Emoji: 1,310 items in five modalities, made for this suite and shipped with it.

The same thing drawn by three hands, named in four languages and spoken by two voices:

- ``image``: flat colour drawing (Noto Emoji), HOG, colours and local binary patterns;
- ``text``: names and tags in English, German, French and Spanish, binary bag of words without the words
  that name a class;
- ``audio``: English names and tags as synthetic speech (espeak-ng, two voices), counts of acoustic words;
- ``3d``: one rendered view of a 3D model (Fluent Emoji), no geometry; HOG, silhouette and colours;
- ``sketch``: black line drawing (OpenMoji), HOG, local binary patterns and ink.

Every item has every modality. ``emoji`` has 39 classes, sub-groups of the Unicode standard, ``emoji-coarse``
the eight groups above them. ``emoji_data/items.csv`` defines items, classes, families of near-duplicates and
ten folds; no family is in two folds. Split s tests on fold s, validates on fold s + 1 (after 9 comes 0) and
trains on the rest, so that each item is tested once in the ten splits; one alone has too few test items to
rank methods.

How the features are made: ``build/emoji``. Sources, licences, difficulty, flaws: ``emoji_data/DATA_CARD.md``.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import Item, Modality, MultimodalData, Split
from benchmark.core.dataset import DataRequest, Dataset, Location
from benchmark.core.registry import dataset
from benchmark.core.validate import validate
from benchmark.errors import DataError, MissingDataError, UnknownNameError

from .reading.files import identity

FOLDER = Path(__file__).parent / "emoji_data"
FILES = {
    "items.csv": "b96ab4f0567c25b42b9f27c5b7ae3dc0ccdd1b771bac899bbd359160e38c9778",
    "features.npz": "672a7127dc4f46d62300935d6f7bc74447819bada2f713d1f3d24519502279d6",
}
"""The files and their sha256; that of the table with line ends as ``\\n``."""

FOLDS = 10
NOTES = (
    "3d is one rendered view of a 3D model, not geometry; audio is synthetic speech of the English words",
    "one split has about 131 test items, too few to rank methods: use all ten (0 to 9)",
)


@dataclass(frozen=True)
class Table:
    """The columns of ``items.csv``, row by row."""

    codes: tuple[str, ...]
    items: tuple[Item, ...]
    fine: tuple[str, ...]
    coarse: tuple[str, ...]
    families: NDArray[np.int64]
    folds: NDArray[np.int64]


class _Emoji(Dataset):
    """What the two sets share; ``label`` names the column of the table that holds the class."""

    label: str

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    def locate(self, request: DataRequest) -> Location:
        """The files beside this module; there is nothing to search, fetch or generate."""
        for name in request.options:
            raise UnknownNameError(f"option of dataset {self.info.id}", name, [])
        if request.source not in ("auto", "official", "standin"):
            raise UnknownNameError("source", request.source, ["auto", "official", "standin"])
        if request.source == "standin":
            raise DataError(f"{self.info.id}: no stand-in exists; the data come with the suite")
        split = request.split or self.info.splits[0]
        if split not in self.info.splits:
            raise UnknownNameError(f"split of {self.info.id}", split, list(self.info.splits))
        files = tuple(self.folder / name for name in FILES)
        for file in files:
            if not file.is_file():
                raise MissingDataError(f"{self.info.id}: {file} is missing; restore it from the repository")
        facts = f"{self.info.id} loader {self.info.version} split {split}"
        return Location("official", files, f"{facts}|{identity(files)}", request)

    def load(self, located: Location) -> MultimodalData:
        """Read both files, compare them with the published ones, and cut the split."""
        table_file, features_file = located.files
        table = read_table(table_file)
        features = read_features(features_file, table)
        column = table.fine if self.label == "fine" else table.coarse
        names = tuple(dict.fromkeys(column))
        numbers = {name: number for number, name in enumerate(names)}
        labels = np.array([numbers[name] for name in column], np.int64)
        test = int(located.request.split or self.info.splits[0])
        val = (test + 1) % FOLDS
        parts = {
            "train": np.flatnonzero((table.folds != test) & (table.folds != val)),
            "val": np.flatnonzero(table.folds == val),
            "test": np.flatnonzero(table.folds == test),
        }
        train, validation, tested = (
            Split(
                part,
                {m: Modality(m, x[rows], labels[rows], rows.astype(np.int64)) for m, x in features.items()},
                len(names),
            )
            for part, rows in parts.items()
        )
        items = tuple(table.items[row] for row in parts["test"])
        data = MultimodalData(
            self.info.id,
            "official",
            train,
            validation,
            tested,
            class_names=names,
            version=str(self.info.version),
            notes=NOTES,
            items=dict.fromkeys(features, items),
        )
        return validate(data, str(self.folder))


@dataset(
    "emoji",
    title="Emoji",
    modalities=("image", "text", "audio", "3d", "sketch"),
    classes=39,
    citation="Noto Emoji, Fluent Emoji, OpenMoji, emojibase; see datasets/emoji_data/DATA_CARD.md",
    standin=False,
    splits=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    folds=True,
)
class Emoji(_Emoji):
    """39 classes: sub-groups of the Unicode standard, small ones merged within their group."""

    label = "fine"


@dataset(
    "emoji-coarse",
    title="Emoji (8 groups)",
    modalities=("image", "text", "audio", "3d", "sketch"),
    classes=8,
    citation="Noto Emoji, Fluent Emoji, OpenMoji, emojibase; see datasets/emoji_data/DATA_CARD.md",
    standin=False,
    splits=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    folds=True,
)
class EmojiCoarse(_Emoji):
    """Eight classes: the groups of the Unicode standard; items and splits of ``emoji``."""

    label = "coarse"


def _content(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: They are not the published ones.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    if path.suffix == ".csv":
        content = content.replace(b"\r\n", b"\n")
    if hashlib.sha256(content).hexdigest() != FILES[path.name]:
        raise DataError(f"{path} is damaged or changed (sha256 differs); restore it from the repository")
    return content


def read_table(path: Path = FOLDER / "items.csv") -> Table:
    """Items, classes, families and folds; the row number is the item's pair id.

    Raises:
        DataError: The table is not the published one.
    """
    rows = list(csv.DictReader(io.StringIO(_content(path).decode("utf-8"), newline="")))
    return Table(
        codes=tuple(row["code"] for row in rows),
        items=tuple(Item(row["name"], row["character"]) for row in rows),
        fine=tuple(row["fine"] for row in rows),
        coarse=tuple(row["coarse"] for row in rows),
        families=np.array([row["family"] for row in rows], np.int64),
        folds=np.array([row["fold"] for row in rows], np.int64),
    )


def read_features(path: Path, table: Table) -> dict[str, NDArray[np.float32]]:
    """``(1310, d)`` per modality, in their natural scale and the order of the table.

    Raises:
        DataError: The file is not the published one, or of other items than the table.
    """
    with np.load(io.BytesIO(_content(path)), allow_pickle=False) as stored:
        if tuple(stored["codes"].tobytes().decode().split("\n")) != table.codes:
            raise DataError(f"{path}: its items are not those of the table")
        words = len(stored["text_words"].tobytes().split(b"\n"))
        text = np.unpackbits(stored["text"], axis=1, count=words).astype(np.float32)
        return {
            m: text if m == "text" else stored[m] * stored[f"{m}_scale"]
            for m in ("image", "text", "audio", "3d", "sketch")
        }
