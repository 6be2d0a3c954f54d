"""Your own features: one .npz, .mat or HDF5 file and a small TOML description; any number of modalities.

A complete description (``flowers.toml``; all keys but ``file`` are optional)::

    name = "flowers"                          # default: name of this file
    file = "flowers.npz"                      # relative to this description
    modalities = ["photo", "caption", "scan"] # canonical order; default: as found in the file
    labels = "single"                         # or "multi": rows of 0 and 1, one column per class
    pairs = ["photo", "caption"]              # row i of these shows one item; or "rows": of all modalities
    classes = 3                               # checked if given
    class_names = ["rose", "tulip", "lily"]   # in the order of the sorted label values
    validation_share = 0.1                    # only without a validation part: this share of training rows
    seed = 0                                  # ... is held out, by class, items of a pair together
    notes = ["collected in 2024"]             # repeated in reports

    [train]                                   # where an array is, if not under its usual name
    photo = "X[0][0:1000]"
    labels = "Y[0:1000]"

A modality's name has at most 64 characters, which can be printed, and no slash or backslash, ``->``, ``+`` or
comma in it.

Usual names, so that most descriptions need no such table: ``train_photo``, ``train_photo_labels`` (or
``train_labels`` for all modalities), the same with ``val_`` and ``test_``. Pairing that is not by row:
``train_photo_pair_ids`` per modality (or ``train_pair_ids`` for all, or one ``pair_ids`` holding the ids of
train, val and test one after the other); rows of two modalities with the same id show the same item.

In a table a key is such a name without its split (``photo``, ``photo_labels``, ``labels``,
``photo_pair_ids``, ``pair_ids``) and the value says where the array is: ``X`` (a variable), ``X[2]`` (an
element of a MATLAB cell array, from 0), ``X[0:1000]`` (rows), ``X[2][0:1000]`` (both).

Labels may be any whole numbers or strings: the sorted distinct training values become classes 0..C-1.
Features are (rows, columns) and are not changed, except to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.arrays import Arrays, open_arrays
from benchmark.core.data import Modality, MultimodalData, Split
from benchmark.core.dataset import DataRequest, Dataset, Location
from benchmark.core.registry import dataset
from benchmark.core.toml import read_toml
from benchmark.core.validate import check_names, validate
from benchmark.errors import DataError, MissingDataError, UnknownNameError

from .reading.files import identity
from .reading.holdout import hold_out
from .reading.labels import distinct, encode, multi_hot, one_per_row
from .reading.table1 import SPLITS

TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "file": (str,),
    "modalities": (list,),
    "labels": (str,),
    "pairs": (str, list),
    "classes": (int,),
    "class_names": (list,),
    "validation_share": (float,),
    "seed": (int,),
    "notes": (list,),
    **dict.fromkeys(SPLITS, (dict,)),
}


@dataclass(frozen=True)
class Description:
    """A description file, checked.

    Attributes:
        path: The TOML file.
        file: The feature file.
        values: Everything else it says.
    """

    path: Path
    file: Path
    values: dict[str, Any]

    def get(self, key: str, default: Any = None) -> Any:
        """A value, or the default."""
        return self.values.get(key, default)


@dataset("features", title="Your own features", modalities=(), classes=0, citation="described by a TOML file")
class Features(Dataset):
    """Features described by a TOML file, see the module's text."""

    def locate(self, request: DataRequest) -> Location:
        """The described file; its name and place come from the description."""
        if request.description is None:
            raise DataError("features: give a description, --dataset path/to/description.toml")
        if request.options:
            raise UnknownNameError("option of your own features", next(iter(request.options)), [])
        if request.split:
            raise DataError(f"{request.description}: there is one split only; leave out {request.split!r}")
        if request.source == "standin":
            raise DataError(f"{request.description}: no stand-in exists for your own features")
        description = read_description(request.description)
        if not description.file.is_file():
            raise MissingDataError(f"{description.path}: file {description.file} does not exist")
        files = (description.path, description.file)
        return Location("user", files, f"features loader {self.info.version}|{identity(files)}", request)

    def load(self, located: Location) -> MultimodalData:
        """Read, number the classes, hold out validation rows if asked to, and check."""
        description = read_description(located.files[0])
        data = _Reader(description, open_arrays(description.file)).data()
        return validate(data, str(description.file))


def read_description(path: Path) -> Description:
    """Read and check a description.

    Raises:
        DataError: Not TOML, an unknown key or a value of the wrong kind.
    """
    try:
        values = read_toml(path)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as TOML: {error}") from None
    for key, value in values.items():
        if key not in TYPES:
            raise UnknownNameError(f"key in {path}:", key, list(TYPES))
        if not isinstance(value, TYPES[key]) or isinstance(value, bool):
            raise DataError(f"{path}: {key} must be {' or '.join(t.__name__ for t in TYPES[key])}")
        texts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f"{path}: {key} must hold strings")
    if "file" not in values:
        raise DataError(f'{path}: no file named; add file = "features.npz"')
    if values.get("labels", "single") not in ("single", "multi"):
        raise DataError(f'{path}: labels must be "single" or "multi"')
    if not 0 < values.get("validation_share", 0.5) < 1:
        raise DataError(f"{path}: validation_share must be between 0 and 1")
    if values.get("seed", 0) < 0:
        raise DataError(f"{path}: seed must not be negative")
    return Description(path, path.parent / values["file"], values)


class _Reader:
    """Turns a described file into data."""

    def __init__(self, description: Description, arrays: Arrays) -> None:
        self.says, self.arrays = description, arrays
        self.multi = description.get("labels", "single") == "multi"
        self.modalities = tuple(description.get("modalities", ())) or self._found()
        check_names(self.modalities, f"{description.path}: ")
        self.has_val = any(self._name("val", m) for m in self.modalities)
        self._check_tables()

    def data(self) -> MultimodalData:
        """Everything, not yet validated."""
        share = self.says.get("validation_share")
        if self.has_val and share is not None:
            raise DataError(f"{self.says.path}: validation_share is given, but there is a validation part")
        if not self.has_val and share is None:
            raise DataError(
                f"{self.says.path}: no validation part (val_{self.modalities[0]}); add "
                "validation_share = 0.1 to hold out a tenth of the training rows"
            )
        names = [split for split in SPLITS if split != "val" or self.has_val]
        x = {split: {m: self._features(split, m) for m in self.modalities} for split in names}
        raw = {
            split: {m: self._labels(split, m, len(x[split][m])) for m in self.modalities} for split in names
        }
        labels, classes, class_names = self._classes(raw)
        ids = self._pair_ids({split: {m: len(v) for m, v in part.items()} for split, part in x.items()})
        form = "multi" if self.multi else "single"
        splits = {}
        for split in names:
            made = {m: Modality(m, x[split][m], labels[split][m], ids[split].get(m)) for m in self.modalities}
            splits[split] = Split(split, made, classes, form)
        notes = list(self.says.get("notes", []))
        if not self.has_val:
            seed = self.says.get("seed", 0)
            splits["train"], splits["val"] = hold_out(splits["train"], share, seed)
            notes.append(f"validation: {share:g} of the training rows, by class, held out with seed {seed}")
        return MultimodalData(
            self.says.get("name", self.says.path.stem),
            "user",
            splits["train"],
            splits["val"],
            splits["test"],
            class_names=class_names,
            notes=tuple(notes),
        )

    def _found(self) -> tuple[str, ...]:
        """Modalities named by the [train] table and the file's variables."""
        named = [*self.says.get("train", {}), *(n[6:] for n in self.arrays.shapes if n.startswith("train_"))]
        other = ("labels", "pair_ids")
        found = dict.fromkeys(n for n in named if n not in other and not n.endswith(("_labels", "_pair_ids")))
        if not found:
            inside = self.arrays.contents()
            raise DataError(f"{self.says.file}: no train_<modality> array; inside: {inside}")
        return tuple(found)

    def _check_tables(self) -> None:
        keys = [f"{m}{end}" for m in self.modalities for end in ("", "_labels", "_pair_ids")]
        for split in SPLITS:
            for key in self.says.get(split, {}):
                if key not in (*keys, "labels", "pair_ids"):
                    raise UnknownNameError(f"key in [{split}] of {self.says.path}:", key, keys)

    def _name(self, split: str, *keys: str) -> str:
        """Where the first of these arrays is that the table names or the file holds; empty if none."""
        table = self.says.get(split, {})
        usual = [f"{split}_{key}" for key in keys]
        named = [str(table[key]) for key in keys if key in table]
        return next(iter([*named, *(name for name in usual if name in self.arrays.shapes)]), "")

    def _where(self, split: str, what: str) -> str:
        return f"{self.says.file}: {split}_{what}"

    def _features(self, split: str, m: str) -> NDArray[np.float32]:
        name = self._name(split, m)
        if not name:
            raise DataError(f"{self._where(split, m)} is missing; inside: {self.arrays.contents()}")
        value = self.arrays.read(name)
        if isinstance(value, list) or value.ndim != 2 or value.dtype.kind not in "iufb":
            got = "a cell array" if isinstance(value, list) else f"{value.dtype} of shape {value.shape}"
            raise DataError(f"{self._where(split, m)} ({name}): {got}, expected numbers (rows, columns)")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused later
            return np.ascontiguousarray(value, np.float32)

    def _labels(self, split: str, m: str, rows: int) -> NDArray[Any]:
        name = self._name(split, f"{m}_labels", "labels")
        if not name:
            raise DataError(f"{self._where(split, m)}_labels is missing; inside: {self.arrays.contents()}")
        where = f"{self._where(split, m)} (labels {name})"
        value = self.arrays.read(name)
        return multi_hot(value, rows, where) if self.multi else one_per_row(value, rows, where)

    def _classes(
        self, raw: dict[str, dict[str, NDArray[Any]]]
    ) -> tuple[dict[str, dict[str, NDArray[Any]]], int, tuple[str, ...]]:
        """Class numbers, their count and their names."""
        where, names = str(self.says.file), tuple(self.says.get("class_names", ()))
        if self.multi:
            labels, classes = raw, next(iter(raw["train"].values())).shape[1]
        else:
            values = distinct(raw["train"].values(), where)
            labels = {
                split: {m: encode(y, values, f"{where}: {split}/{m}") for m, y in part.items()}
                for split, part in raw.items()
            }
            classes = len(values)
            names = names or tuple(map(str, values))
        if self.says.get("classes", classes) != classes:
            raise DataError(f"{where}: {classes} classes, {self.says.path} says {self.says.get('classes')}")
        if names and len(names) != classes:
            raise DataError(f"{self.says.path}: {len(names)} class_names for {classes} classes")
        return labels, classes, names

    def _pair_ids(self, rows: dict[str, dict[str, int]]) -> dict[str, dict[str, NDArray[np.int64]]]:
        """Pair ids per split and modality, from row numbers or from the file."""
        pairs = self.says.get("pairs", [])
        if pairs and pairs != "rows" and (isinstance(pairs, str) or not set(pairs) <= set(self.modalities)):
            raise DataError(f'{self.says.path}: pairs must be "rows" or a list of {list(self.modalities)}')
        aligned = self.modalities if pairs == "rows" else tuple(pairs)
        ids: dict[str, dict[str, NDArray[np.int64]]] = {}
        for split, counts in rows.items():
            if len({counts[m] for m in aligned}) > 1:
                counted = ", ".join(f"{m} {counts[m]}" for m in aligned)
                raise DataError(f"{self.says.path}: paired by row, but {split} rows differ: {counted}")
            ids[split] = {m: np.arange(counts[m], dtype=np.int64) for m in aligned}
            stored = {m: self._stored_ids(split, m, rows) for m in self.modalities if m not in aligned}
            given = {m: v for m, v in stored.items() if v is not None}
            if given and aligned:
                raise DataError(f"{self.says.path}: give either pairs or pair ids in the file, not both")
            if given:
                values = distinct(given.values(), f"{self.says.file}: {split} pair ids")
                ids[split] = {m: np.searchsorted(values, v).astype(np.int64) for m, v in given.items()}
        return ids

    def _stored_ids(self, split: str, m: str, rows: dict[str, dict[str, int]]) -> NDArray[Any] | None:
        name = self._name(split, f"{m}_pair_ids", "pair_ids")
        if name:
            return one_per_row(self.arrays.read(name), rows[split][m], f"{self.says.file}: {name}")
        if "pair_ids" not in self.arrays.shapes:
            return None
        counts = [part[m] for part in rows.values()]
        start = sum(counts[: list(rows).index(split)])
        everything = one_per_row(self.arrays.read("pair_ids"), sum(counts), f"{self.says.file}: pair_ids")
        return everything[start : start + rows[split][m]]
