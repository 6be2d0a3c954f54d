"""The contract every dataset keeps, checked on whatever data of it are on this machine.

Where the files are missing and no stand-in exists, the checks that need data are reported as not made, with
the reason the dataset gives.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.contract.result import CheckResult, check, demand
from benchmark.core.data import Modality, MultimodalData, Split
from benchmark.core.dataset import DataRequest, Dataset, Location
from benchmark.core.info import DatasetInfo
from benchmark.core.registry import Entry
from benchmark.core.validate import validate
from benchmark.errors import BenchmarkError, MissingDataError

LOCATE_SECONDS = 1.0
SMALL = {"scale": "0.05"}  # option of our stand-ins; one without it is made in full
SEEN_BEFORE = 0.5  # share of test rows that may also be training rows; published sets hold a few duplicates


def check_dataset(subject: Entry | type[Dataset]) -> list[CheckResult]:
    """Check a dataset's contract.

    Args:
        subject: Registry entry, or the class itself.

    Returns:
        One result per check. Data are loaded twice: from the official files if they are here, else a small
        stand-in.
    """
    cls: type[Dataset] = subject.load() if isinstance(subject, Entry) else subject
    results = [check("class", lambda: _class(cls))]
    if not results[0].passed:
        return results
    dataset = cls()
    results.append(check("refuses what it does not have", lambda: _refuses(dataset)))
    found: list[Location] = []

    def locate() -> str:
        try:
            found.append(_small(dataset, dataset.locate(DataRequest())))
        except BenchmarkError as reason:
            _one_line(reason)
            return f"no data here, nothing else is checked: {reason}"
        return _locates(dataset, found[0])

    results.append(check("finds data, fast and the same twice", locate))
    if not found or not results[-1].passed:
        return results
    loaded: list[MultimodalData] = []

    def load() -> str:
        loaded.append(validate(dataset.load(found[0])))
        return "; ".join(
            f"{s.name} " + ", ".join(f"{m.name} {len(m)}x{m.dim}" for m in s) for s in loaded[0].splits
        )

    results.append(check("loads valid data", load))
    if not loaded:
        return results
    return [
        *results,
        check("is what its description says", lambda: _as_described(cls.info, found[0], loaded[0])),
        check("test rows are not training rows", lambda: _unseen(loaded[0])),
        check("loads the same data twice", lambda: _same(loaded[0], dataset.load(found[0]))),
    ]


def _class(cls: type[Dataset]) -> str:
    demand(
        isinstance(cls, type) and issubclass(cls, Dataset), "not a subclass of benchmark.core.dataset.Dataset"
    )
    demand(isinstance(getattr(cls, "info", None), DatasetInfo), "not decorated with @dataset(...)")
    info = cls.info
    demand(len(set(info.modalities)) == len(info.modalities), f"modalities repeat a name: {info.modalities}")
    demand(len(set(info.splits)) == len(info.splits), f"splits repeat a name: {info.splits}")
    demand("all" not in info.splits, "a split is called 'all', which means every fold")
    demand(not info.folds or len(info.splits) > 1, "folds are declared, but there are not two splits")
    return f"{info.title}: {', '.join(info.modalities) or 'modalities as found'}"


def _refuses(dataset: Dataset) -> str:
    """Requests for what no dataset has end in an error of the user's, not in data or a crash."""
    wrong = {
        "an unknown split": DataRequest(split="no-such-split"),
        "an unknown option": DataRequest(options={"no-such-option": "1"}),
    }
    if not dataset.info.standin:
        wrong["a stand-in it does not have"] = DataRequest(source="standin")
    for what, request in wrong.items():
        try:
            dataset.locate(request)
        except BenchmarkError as error:
            _one_line(error)
        else:
            demand(condition=False, message=f"locate() accepted {what}; raise a DataError that says so")
    return ", ".join(wrong)


def _small(dataset: Dataset, located: Location) -> Location:
    if located.source != "standin":
        return located
    try:
        return dataset.locate(DataRequest(source="standin", options=SMALL))
    except BenchmarkError:  # it has no such option
        return located


def _locates(dataset: Dataset, first: Location) -> str:
    start = time.perf_counter()
    again = dataset.locate(first.request)
    seconds = time.perf_counter() - start
    demand(seconds < LOCATE_SECONDS, f"locate() took {seconds:.1f} s; it must not read feature files")
    sources = ("official", "standin", "user")
    demand(first.source in sources, f"source is {first.source!r}, expected one of {', '.join(sources)}")
    demand(bool(first.identity), "identity is empty; name what the data depend on (paths, sizes, version)")
    demand(first == again, "two calls of locate() with the same request differ")
    missing = [str(file) for file in first.files if not file.is_file()]
    demand(not missing, f"locate() names files that do not exist: {missing[:1]}")
    for split in dataset.info.splits:
        try:
            other = dataset.locate(DataRequest(split=split))
        except MissingDataError:
            continue
        demand(
            split == dataset.info.splits[0] or other.identity != dataset.locate(DataRequest()).identity,
            f"split {split!r} has the identity of the default split; stored runs would be mixed up",
        )
    return f"{first.source}, {len(first.files)} files, {seconds * 1000:.0f} ms"


def _as_described(info: DatasetInfo, located: Location, data: MultimodalData) -> str:
    facts: list[tuple[str, Any, Any]] = [
        ("source", data.source, located.source),
        ("label form", data.label_form, info.label_form if located.source != "user" else data.label_form),
        ("modalities", data.modalities, info.modalities or data.modalities),
        ("number of classes", data.classes, info.classes or data.classes),
        ("number of class names", len(data.class_names) or data.classes, data.classes),
        ("names of the splits", tuple(s.name for s in data.splits), ("train", "val", "test")),
    ]
    if located.source != "user":
        facts.append(("name", data.name, info.id))
    for what, found, said in facts:
        demand(found == said, f"{what}: the data have {found}, expected {said}")
    return f"{data.classes} classes, {data.label_form}-label"


def _unseen(data: MultimodalData) -> str:
    """Rows are compared by value: pair ids number the items of one split only."""
    shares = {}
    for m in data.test:
        known = {row.tobytes() for row in data.train[m.name].features}
        shares[m.name] = sum(row.tobytes() in known for row in m.features) / len(m)
    worst = max(shares, key=lambda name: shares[name])
    demand(
        shares[worst] <= SEEN_BEFORE,
        f"{worst}: {shares[worst]:.0%} of the test rows are training rows as well",
    )
    return f"at most {shares[worst]:.1%} of a modality's test rows occur in training"


def _same(first: MultimodalData, second: MultimodalData) -> str:
    demand(first.fingerprint() == second.fingerprint(), "two loads have different fingerprints")
    # A fixed fingerprint says nothing about the arrays.
    for (where, one), (_, two) in zip(_arrays(first), _arrays(second), strict=True):
        demand(np.array_equal(one, two), f"{where} differs between two loads")
    return f"fingerprint {first.fingerprint()[:12]}"


def _arrays(data: MultimodalData) -> Iterator[tuple[str, NDArray[Any]]]:
    for split in data.splits:
        for m in split:
            yield from _fields(split, m)


def _fields(split: Split, m: Modality) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, array in (("features", m.features), ("labels", m.labels), ("pair ids", m.pair_ids)):
        if array is not None:
            yield f"{split.name}/{m.name} {name}", array


def _one_line(error: BenchmarkError) -> None:
    text = str(error)
    demand(bool(text.strip()) and "\n" not in text, f"an error's message is not one line: {text!r}")
