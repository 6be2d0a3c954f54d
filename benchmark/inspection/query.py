"""One query of a stored run, looked at: what came first, and was it relevant?

Rankings and scores are read from the run, names and classes from the test split, which is loaded again. This
module does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import Item, MultimodalData
from benchmark.core.dataset import DataRequest, Location, find_dataset, make_dataset
from benchmark.core.pairing import partners
from benchmark.core.registry import DATASETS
from benchmark.errors import BenchmarkError, DataError, UnknownNameError
from benchmark.records.comparable import FOLDS, difference
from benchmark.records.record import RunRecord
from benchmark.records.store import Store, StoredRun
from benchmark.runs.stale import stale

NEAREST = 5
LISTED = 8
VARIATION = "\ufe0f"  # asks for the colourful form of a character; typed or not, it is the same item


class UnknownItemError(BenchmarkError):
    """An item that is not among the test rows; has the items that are."""

    def __init__(self, message: str, items: Sequence[Item] = ()) -> None:
        super().__init__(message)
        self.items = items


def find_runs(
    store: Store, warn: Callable[[str], None], run: str = "", method: str = "", dataset: str = ""
) -> list[StoredRun]:
    """The run the user means, and after it its companions on the other folds of the data.

    Args:
        store: Where to look.
        warn: Told of every damaged run that is passed over, and if the method's code has changed since.
        run: Its id, or the beginning of it.
        method: Or: the latest run of this method,
        dataset: on this dataset (id, or the path of a description).

    Raises:
        BenchmarkError: No such run, several, or nothing to go by.
    """
    if run and (method or dataset):
        raise BenchmarkError("--run names one run already; leave out --method and --dataset")
    found = [store.starting_with(run)] if run else _latest(store, warn, method, dataset)
    for words in stale([found[0].record]).values():
        warn(f"run {found[0].record.name}: {words}")
    return found


def _latest(store: Store, warn: Callable[[str], None], method: str, dataset: str) -> list[StoredRun]:
    """The latest run of a method on a dataset and its companions, see :func:`find_runs`."""
    if not (method or dataset):
        raise BenchmarkError(
            "which run? Give --run (see `results`), or --method and --dataset for the latest"
        )
    runs, problems = store.all()
    for problem in problems:
        warn(problem)
    for each in reversed(runs):
        data = each.record.dataset
        described = data.description
        same = bool(described) and Path(dataset).resolve() == Path(described).resolve()
        if method in ("", each.record.method.id) and (dataset in ("", data.id) or same):
            return [each, *_companions(each.record, runs)]
    asked = " ".join(f"--{k} {v}" for k, v in (("method", method), ("dataset", dataset)) if v)
    raise BenchmarkError(f"no stored run of {asked} in {store.root}; `results` lists what is stored")


def _companions(record: RunRecord, runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The latest run of every other fold with the terms of this one; none where splits are no folds."""
    found = dict[str, StoredRun]()
    if DATASETS.get(record.dataset.id).info.folds:
        found = {run.record.split: run for run in runs if not difference(record, run.record, FOLDS)}
    return [run for split, run in found.items() if split != record.split]


def answer_first(runs: Sequence[StoredRun], *question: str, **options: Any) -> dict[str, Any]:
    """The answer of the first run that has the item; question and options as in :func:`answer`.

    Raises:
        BenchmarkError: As :func:`answer` of the first run, if none has the item.
    """
    refused: list[UnknownItemError] = []
    for run in runs:
        try:
            return answer(run, *question, **options)
        except UnknownItemError as error:
            refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    near = nearest(question[-1], [item for error in refused for item in error.items])
    raise UnknownItemError(
        f"no test item of the {len(refused)} stored splits is called {question[-1]!r}; {near}"
    )


def answer(
    run: StoredRun,
    query: str,
    database: str,
    item: str,
    *,
    seed: int | None = None,
    top: int = 10,
    data_root: Path | None = None,
) -> dict[str, Any]:
    """What a query of a run found.

    Args:
        run: The run.
        query: Modality of the query.
        database: Modality searched.
        item: The query: an item's name or character, or ``row:17``, or ``17``.
        seed: One of the run's seeds; its first if not given.
        top: How many ranks.
        data_root: Where the data are now, if they have moved.

    Returns:
        JSON-ready: ``run``, ``query``, ``database``, ``ap``, ``chance`` (its expectation under a random
        ranking), and ``results``, the first ranks.

    Raises:
        BenchmarkError: A name, row or seed that does not exist, or data that are no longer those of the run.
    """
    record = run.record
    for name in (query, database):
        if name not in record.modalities:
            raise UnknownNameError("modality of this run", name, list(record.modalities))
    if query == database:
        raise BenchmarkError(f"--from and --to are both {query}; a run ranks one modality against another")
    if seed is not None and seed not in record.seeds:
        raise UnknownNameError("seed of this run", str(seed), [str(each) for each in record.seeds])
    if record.top is None:
        raise BenchmarkError(f"run {run.folder.name} was stored without rankings; repeat it with --force")
    if not 1 <= top <= record.top:
        raise BenchmarkError(f"--top {top}: a run keeps the first 1 to {record.top}")
    chosen = record.seeds[0] if seed is None else seed
    at, direction = record.seeds.index(chosen), f"{query}->{database}"
    data = reload(run, data_root)
    sizes = {"queries": len(data.test[query]), "database": len(data.test[database])}
    if record.sizes[direction] != sizes:
        raise DataError(
            f"run {run.folder.name} is not of these data: {direction} has {record.sizes[direction]}, "
            f"not {sizes}"
        )
    asked, searched = Rows.of(data, query, record.dataset.split), Rows.of(data, database)
    row = asked.find(item)
    own = int(partners(data.test[query], data.test[database])[row])
    relevant = _relevant(data, query, row, database)
    candidates = np.ones(len(relevant), bool)
    if record.options.get("leave_own_out") and own >= 0:
        candidates[own] = False
    names = f"top/{direction}", f"top_score/{direction}", f"ap/map@all/{direction}"
    found, scores, ap = run.arrays(*names).values()
    ranked = [(int(r), float(s)) for r, s in zip(found[at, row], scores[at, row], strict=True) if r >= 0]
    count = int((relevant & candidates).sum())
    return {
        "run": {
            "id": run.folder.name,
            "stored": str(run.folder),
            "method": record.method.id,
            "title": f"{record.method.title} on {record.dataset.title}",
            "source": record.dataset.source,
            "split": record.dataset.split,
            "dataset": record.dataset.id,
            "profile": record.profile,
            "seed": chosen,
            "seeds": list(record.seeds),
            "leave_own_out": bool(record.options.get("leave_own_out")),
        },
        "query": {"modality": query, **asked.describe(row)},
        "database": {"modality": database, "items": int(candidates.sum()), "relevant": count},
        "ap": float(ap[at, row]),
        "chance": random_ap(count, int(candidates.sum())),
        "results": [
            {
                "rank": rank,
                **searched.describe(r),
                "score": s,
                "relevant": bool(relevant[r]),
                "own_item": r == own,
            }
            for rank, (r, s) in enumerate(ranked[:top], 1)
        ],
    }


def reload(run: StoredRun, data_root: Path | None = None) -> MultimodalData:
    """The data of a run: same split and options, same files unless another root is given.

    Raises:
        DataError: They cannot be found, or are not the data of the run any more.
    """
    facts = run.record.dataset
    source = facts.source if facts.source in ("official", "standin") else "auto"
    request = DataRequest(source, data_root, facts.split, facts.options)
    entry, request = find_dataset(facts.description or facts.id, request)
    dataset, files = make_dataset(entry), tuple(map(Path, facts.files))
    if files and data_root is None and all(file.is_file() for file in files):
        located = Location(facts.source, files, f"files of run {run.folder.name}", request)
    else:
        located = dataset.locate(request)
    data = dataset.load(located)
    if (now := data.fingerprint()) != facts.fingerprint:
        raise DataError(
            f"{facts.id} is no longer the data of run {run.folder.name} (fingerprint {now[:12]}, then "
            f"{facts.fingerprint[:12]}); run it again, or give the old files with --data-root"
        )
    return data


@dataclass(frozen=True)
class Rows:
    """What the test rows of one modality show.

    Attributes:
        place: Dataset and modality, for messages.
        items: One per row, or empty.
        classes: Class of every row, in words.
    """

    place: str
    items: Sequence[Item]
    classes: Sequence[str]

    @classmethod
    def of(cls, data: MultimodalData, modality: str, split: str = "") -> Rows:
        """The rows of a modality of the test split."""
        names = data.class_names or tuple(f"class {number}" for number in range(data.classes))
        labels = data.test[modality].labels
        sets = (np.flatnonzero(each) if labels.ndim == 2 else [each] for each in labels)
        classes = [", ".join(names[number] for number in numbers) or "none" for numbers in sets]
        place = f"{modality} of {data.name}" + (f", split {split}" if split else "")
        return cls(place, data.items.get(modality, ()), classes)

    def describe(self, row: int) -> dict[str, Any]:
        """Row number, name, symbol and class; the name is that of the row where nobody knows better."""
        item = self.items[row] if self.items else Item(f"row {row}")
        return {"row": row, "name": item.name, "symbol": item.symbol, "class": self.classes[row]}

    def find(self, text: str) -> int:
        """The row with this name (in any case), character or number.

        Raises:
            BenchmarkError: None or several, with the nearest names or all rows that fit, in one line.
        """
        wanted = _plain(text)
        named = re.fullmatch(r"row:(\d+)", wanted)
        if named is None:
            for words in ([item.name for item in self.items], [item.symbol for item in self.items]):
                if rows := [row for row, each in enumerate(words) if wanted and _plain(each) == wanted]:
                    return rows[0] if len(rows) == 1 else self._several(text, rows)
        number = named[1] if named else wanted
        if re.fullmatch(r"[0-9]+", number):
            if int(number) < len(self.classes):
                return int(number)
            raise BenchmarkError(
                f"there is no row {number}: the test rows of {self.place} are {self._span()}"
            )
        if not self.items:
            raise BenchmarkError(
                f"{self.place} has no item names, so {text!r} is not found; give one of the rows "
                f"{self._span()}, as in row:0"
            )
        raise UnknownItemError(
            f"no test item of {self.place} is called {text!r}; {nearest(text, self.items)}; "
            f"a row number ({self._span()}) will do, too",
            self.items,
        )

    def _span(self) -> str:
        return f"0 to {len(self.classes) - 1}"

    def _several(self, text: str, rows: list[int]) -> int:
        listed = ", ".join(f"row:{row} ({self.classes[row]})" for row in rows[:LISTED])
        more = f" and {len(rows) - LISTED} more" if len(rows) > LISTED else ""
        raise BenchmarkError(f"{len(rows)} items of {self.place} are called {text!r}: {listed}{more}")


def nearest(text: str, items: Sequence[Item]) -> str:
    """The items with the most similar names, in words."""
    names = {_plain(item.name): item for item in items}
    near = [names[name] for name in get_close_matches(_plain(text), names, n=NEAREST, cutoff=0.5)]
    words = ", ".join(f"{item.name!r} {item.symbol}".rstrip() for item in near)
    return f"nearest: {words}" if near else "nothing is near"


def random_ap(relevant: int, items: int) -> float:
    """Expectation of AP under a random ranking, for one query.

    The formula of :func:`benchmark.evaluation.metrics.expected_random_ap`, which needs torch.

    Args:
        relevant: Number of relevant items.
        items: Number of items ranked.
    """
    if not relevant:
        return 0.0
    harmonic = sum(1 / rank for rank in range(1, items + 1))
    return (harmonic + (relevant - 1) * (items - harmonic) / max(items - 1, 1)) / items


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace(VARIATION, "").split())


def _relevant(data: MultimodalData, query: str, row: int, database: str) -> NDArray[np.bool_]:
    """Which database rows share a class with the query: ``(n,)``."""
    mine, theirs = data.test.label_matrix(query)[row], data.test.label_matrix(database)
    return np.asarray(theirs @ mine > 0)
