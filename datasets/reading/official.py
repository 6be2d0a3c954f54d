"""What datasets with published feature files share: find, fetch, verify, load, or generate a stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmark.arrays import open_arrays
from benchmark.core.data import MultimodalData
from benchmark.core.dataset import DataRequest, Dataset, Location, Progress
from benchmark.disk import cache_folder
from benchmark.errors import DataError, MissingDataError, UnknownNameError

from .files import Remote, download, find, git_blob_id, identity
from .layouts import Foreign, Layout, assemble, choose
from .table1 import Table

STANDIN_OPTIONS = ("seed", "scale")


class PublishedDataset(Dataset):
    """A dataset whose feature files have known names.

    Attributes:
        layouts: File layouts, the preferred first.
        foreign: Different data under similar names.
        remotes: What ``fetch`` gets; all of them are needed.
        known: Git blob ids of further published files, per name.
        home: Where to ask for the files otherwise.
        file_option: Whether ``file=path`` may name a feature file of any name.
    """

    layouts: ClassVar[tuple[Layout, ...]] = ()
    foreign: ClassVar[tuple[Foreign, ...]] = ()
    remotes: ClassVar[tuple[Remote, ...]] = ()
    known: ClassVar[dict[str, str]] = {}
    home: ClassVar[str] = ""
    file_option: ClassVar[bool] = True

    @property
    def fetchable(self) -> bool:
        """Whether a public location is known."""
        return bool(self.remotes)

    def locate(self, request: DataRequest) -> Location:
        """Official files if they are found, else the stand-in, as the request allows."""
        self._check(request)
        standin = {name: request.options[name] for name in STANDIN_OPTIONS if name in request.options}
        files = () if request.source == "standin" else self._find(request)
        if files:
            if standin:
                raise DataError(
                    f"{self.info.id}: option {next(iter(standin))} is the stand-in's, but {files[0]} was "
                    "found; ask for source standin or leave the option out"
                )
            facts = f"{self.info.id} loader {self.info.version} split {self._split(request)}"
            return Location("official", files, f"{facts}|{identity(files)}", request)
        if request.source == "official" or not self.info.standin:
            raise MissingDataError(self._steps(request))
        from ..standin import sets as generator

        seed, scale = _standin_options(request)
        return Location("standin", (), generator.identity(self.info.id, seed, scale), request)

    def load(self, located: Location) -> MultimodalData:
        """Read the files, or generate the stand-in."""
        if located.source == "standin":
            from ..standin import sets as generator

            seed, scale = _standin_options(located.request)
            return generator.load_or_generate(self.info.id, seed=seed, scale=scale)
        return self.read(located.files, self._split(located.request))

    def read(self, files: tuple[Path, ...], split: str) -> MultimodalData:
        """Read published feature files.

        Raises:
            DataError: They cannot be used, in one line.
        """
        raise NotImplementedError

    def status(self, request: DataRequest) -> dict[str, Any]:
        """As every dataset's, with where files are searched and, unless they are here, how to get them."""
        facts = super().status(request)
        steps = "" if facts["source"] == "official" or facts["problem"] else self._steps(request)
        return {**facts, "searched": [str(root) for root in request.roots()], "steps": steps}

    def fetch(self, request: DataRequest, progress: Progress | None = None) -> list[Path]:
        """Fetch and verify the published files, unless they are here already.

        Returns:
            The files.

        Raises:
            DataError: No public location, or no mirror gave the right file.
        """
        if not self.remotes:
            raise DataError(f"{self.info.id}: no public location is known; {self._by_hand()}")
        here = {path.name: path for path in self._find(request)}
        if all(r.name in here and r.matches(here[r.name]) for r in self.remotes):
            return [here[r.name] for r in self.remotes]
        folder = cache_folder() / "data" / self.info.id
        return [download(remote, folder, progress) for remote in self.remotes]

    def verify(self, request: DataRequest) -> dict[str, Any]:
        """As every dataset's, with each file compared with the published one.

        A file entry gets ``git_blob`` and ``published``: true, false, or None where no id is known. A
        stand-in is not made to be verified: there is nothing to compare it with.
        """
        if not (located := self.locate(request)).files:
            missing = {"fingerprint": "", "notes": [], "problems": [self._steps(request)]}
            return {"id": self.info.id, "source": located.source, "files": [], **missing}
        facts = super().verify(request)
        known = {**self.known, **{remote.name: remote.blob for remote in self.remotes}}
        for entry in facts["files"]:
            blob = git_blob_id(Path(entry["path"]))
            wanted = known.get(Path(entry["path"]).name)
            entry |= {"git_blob": blob, "published": None if wanted is None else blob == wanted}
            if entry["published"] is False:
                facts["problems"].append(f"{entry['path']} is not the published file (git blob {blob[:12]})")
        return facts

    def _split(self, request: DataRequest) -> str:
        return request.split or (self.info.splits[0] if self.info.splits else "")

    def _check(self, request: DataRequest) -> None:
        """Refuse what this dataset cannot be asked."""
        valid = (*(STANDIN_OPTIONS if self.info.standin else ()), *(("file",) if self.file_option else ()))
        for name in request.options:
            if name not in valid:
                raise UnknownNameError(f"option of dataset {self.info.id}", name, list(valid))
        if request.source not in ("auto", "official", "standin"):
            raise UnknownNameError("source", request.source, ["auto", "official", "standin"])
        if request.source == "standin" and not self.info.standin:
            raise DataError(f"{self.info.id}: no stand-in exists; use source official")
        if request.split and request.split not in self.info.splits:
            if not self.info.splits:
                raise DataError(f"{self.info.id}: it has one split only; leave out {request.split!r}")
            raise UnknownNameError(f"split of {self.info.id}", request.split, list(self.info.splits))
        if request.data_root is not None and not request.data_root.exists():
            raise DataError(f"data root {request.data_root} does not exist")

    def _find(self, request: DataRequest) -> tuple[Path, ...]:
        groups = tuple(group for layout in self.layouts for group in layout.files)
        if "file" not in request.options:
            return find(groups, request.roots())
        path = Path(request.options["file"]).expanduser()
        if not path.is_file():
            raise MissingDataError(f"{self.info.id}: {path} (option file) does not exist")
        return find(groups, [path]) or (path,)

    def _by_hand(self) -> str:
        first = " and ".join(self.layouts[0].files[0])
        return (
            f"put {first} (home page: {self.home}) into a folder given with --data-root or $BENCHMARK_DATA, "
            f"or into {cache_folder() / 'data' / self.info.id}"
        )

    def _steps(self, request: DataRequest) -> str:
        """How to get the files, and what was found instead."""
        fetch = f"run `python -m benchmark data fetch {self.info.id}`, or " if self.remotes else ""
        patterns = [((name,), other.reason) for other in self.foreign for name in other.files]
        found = [(find([group], request.roots()), reason) for group, reason in patterns]
        instead = "".join(f"; {files[0].name} was found but is {reason}" for files, reason in found if files)
        return f"{self.info.id}: feature files not found{instead}. To get them: {fetch}{self._by_hand()}"


class BenchmarkDataset(PublishedDataset):
    """One of the five benchmark sets: layouts checked against Table I.

    Attributes:
        table: Shapes and class count that files must have.
        paired: Modalities whose rows show the same items.
        classes_in_halves: Whether every class must occur in both halves of a cut test part.
    """

    table: ClassVar[Table]
    paired: ClassVar[tuple[str, ...]] = ("image", "text")
    classes_in_halves: ClassVar[bool] = False

    def __init__(self, table: Table | None = None) -> None:
        self.expected = table or self.table

    def read(self, files: tuple[Path, ...], split: str) -> MultimodalData:  # noqa: ARG002 - one split only
        """Recognise the layout by the variables inside, then read and check."""
        arrays = open_arrays(*files)
        layout = choose(arrays, self.layouts, self.foreign, self.info.id)
        data = assemble(arrays, layout, self.expected, self.info.id, self.paired)
        if self.classes_in_halves:
            for half in (data.val, data.test):
                for modality in half:
                    if absent := data.classes - len(np.unique(modality.labels)):
                        raise DataError(
                            f"{arrays.path}: {absent} of {data.classes} classes have no {half.name} "
                            f"{modality.name}; rows sorted by class cannot be cut in halves"
                        )
        return data


def _standin_options(request: DataRequest) -> tuple[int, float]:
    """Seed and scale of a stand-in."""
    try:
        seed, scale = int(request.options.get("seed", "0")), float(request.options.get("scale", "1"))
    except ValueError as error:
        raise DataError(f"stand-in options seed (whole number) and scale (0 to 1): {error}") from None
    if seed < 0 or not 0 < scale <= 1:
        raise DataError(f"stand-in seed must be 0 or more and scale in (0, 1]; got {seed} and {scale}")
    return seed, scale
