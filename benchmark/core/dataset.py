"""The Dataset interface: find the files, then load them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from benchmark.core.info import DatasetInfo
from benchmark.core.option import check, option
from benchmark.core.registry import DATASETS, Entry, available
from benchmark.disk import cache_folder
from benchmark.errors import BenchmarkError, DataError

if TYPE_CHECKING:  # commands read the options of a request, and start without numpy
    from benchmark.core.data import MultimodalData

Progress = Callable[[str], None]
"""Called with a line of text now and then while something is downloaded."""


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.strip() and equals):
            raise BenchmarkError(f"--data-option {text!r}: expected name=value")
        pairs[name.strip()] = value.strip()
    return pairs


@dataclass(frozen=True)
class DataRequest:
    """What the user asked of a dataset.

    Attributes:
        source: ``auto`` (official if it can be had, else stand-in), ``official`` or ``standin``.
        data_root: Folder given with ``--data-root``; searched first.
        split: Name given with ``--split``; empty for the dataset's default.
        options: Other ``name=value`` options of this dataset (``seed``, ``scale`` of a stand-in, ...).
        description: TOML file of the user's own features (``--dataset path/to/file.toml``).
    """

    source: str = option(
        "auto",
        help="official files, standin (generated), or auto.",
        choices=("auto", "official", "standin"),
    )
    data_root: Path | None = option(None, help="Folder with feature files, searched first.", typed=Path)
    split: str = option(
        "", help="Another split than the dataset's default; of `run`, all: every fold, pooled."
    )
    options: Mapping[str, str] = option(
        dict,
        help="Option of the dataset; repeatable.",
        flag="--data-option",
        typed=list[str],
        metavar="NAME=VALUE",
        parse=_pairs,
    )
    description: Path | None = None

    def __post_init__(self) -> None:
        check(self)

    def roots(self) -> tuple[Path, ...]:
        """Folders to search for feature files, in order: --data-root, $BENCHMARK_DATA, the cache."""
        roots = [self.data_root] if self.data_root else []
        if chosen := os.environ.get("BENCHMARK_DATA"):
            roots.append(Path(chosen))
        return (*roots, cache_folder() / "data")


@dataclass(frozen=True)
class Location:
    """Where the data of a request will come from, found without reading them.

    Attributes:
        source: ``official``, ``standin`` or ``user``; never ``auto``.
        files: Files that will be read; empty for generated data.
        identity: Cheap string that changes when the data may change (paths, sizes, modification times,
            generator version and options). Maps to a known fingerprint, so that a stored run is found
            again without reading the data.
        request: The request this answers.
    """

    source: str
    files: tuple[Path, ...]
    identity: str
    request: DataRequest


class Dataset(ABC):
    """A dataset, ours or a plugin's. Decorate the class with ``@dataset(id, ...)``."""

    info: ClassVar[DatasetInfo]

    @abstractmethod
    def locate(self, request: DataRequest) -> Location:
        """Decide where the data come from. Fast: no feature file is read.

        Raises:
            MissingDataError: Official files were demanded and are not there; the message gives the steps.
            DataError: An option or split this dataset does not have.
        """

    @abstractmethod
    def load(self, located: Location) -> MultimodalData:
        """Read or generate the data and check them.

        Raises:
            DataError: A file that cannot be used, in one clear line.
        """

    @property
    def fetchable(self) -> bool:
        """Whether ``fetch`` has a public location to get files from."""
        return False

    def status(self, request: DataRequest) -> dict[str, Any]:
        """Where the data of a request would come from; reads no feature file and never fails.

        Returns:
            ``id``, ``title``, ``source`` (empty if the data cannot be had), ``files`` (``path``, ``bytes``),
            ``identity``, ``fetchable`` and ``problem`` (empty, or why the data cannot be had). JSON-ready.
        """
        facts = {"id": self.info.id, "title": self.info.title, "fetchable": self.fetchable}
        try:
            located = self.locate(request)
        except BenchmarkError as problem:
            return {**facts, "source": "", "files": [], "identity": "", "problem": str(problem)}
        files = _sizes(located.files)
        return {
            **facts,
            "source": located.source,
            "files": files,
            "identity": located.identity,
            "problem": "",
        }

    def fetch(self, request: DataRequest, progress: Progress | None = None) -> list[Path]:
        """Get the published files from their public location, verified; nothing is fetched twice.

        Args:
            request: Where to look first.
            progress: Called with a line of text now and then.

        Returns:
            The files.

        Raises:
            DataError: There is no public location, or the right file could not be had.
        """
        del request, progress
        raise DataError(f"{self.info.id}: no public location is known; nothing to fetch")

    def verify(self, request: DataRequest) -> dict[str, Any]:
        """Read everything and check it.

        Returns:
            ``id``, ``source``, ``files`` (``path``, ``bytes``), ``fingerprint``, ``notes`` and ``problems``
            (remarks that do not keep the data from being used). JSON-ready.

        Raises:
            DataError: The data cannot be used, in one line.
        """
        from benchmark.core.validate import validate

        located = self.locate(request)
        data = validate(self.load(located))
        return {
            "id": self.info.id,
            "source": located.source,
            "files": _sizes(located.files),
            "fingerprint": data.fingerprint(),
            "notes": list(data.notes),
            "problems": [],
        }


def _sizes(files: tuple[Path, ...]) -> list[dict[str, Any]]:
    return [{"path": str(file), "bytes": file.stat().st_size} for file in files]


def find_dataset(name: str, request: DataRequest) -> tuple[Entry, DataRequest]:
    """Registry entry and completed request of a dataset id or of a ``.toml`` description.

    Raises:
        UnknownNameError: No such dataset.
        DataError: A description or data root that does not exist.
    """
    if name.endswith(".toml"):
        file = Path(name)
        if not file.is_file():
            raise DataError(f"{file}: no such file; --dataset takes a dataset id or a TOML description")
        name, request = "features", replace(request, description=file)
    return available(DATASETS.get(name)), check_root(request)


def check_root(request: DataRequest) -> DataRequest:
    """The request itself.

    Raises:
        DataError: Its data root is not a folder.
    """
    if request.data_root is not None and not request.data_root.is_dir():
        raise DataError(f"--data-root {request.data_root}: no such folder")
    return request


def make_dataset(entry: Entry) -> Dataset:
    """An instance of a dataset's class."""
    instance = entry.load()()
    assert isinstance(instance, Dataset), f"{entry.target} is not a Dataset"
    return instance
