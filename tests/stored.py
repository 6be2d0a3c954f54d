"""Small records as a run would store them, made without running anything."""

import copy
import hashlib
import json

import numpy as np

from benchmark.records.document import CHECKSUM, SCHEMA, sealed
from benchmark.records.record import RunRecord

WAYS = ("image->text", "text->image")
METRICS = ("map@all", "map@50")


def make_document(name="a", *, method="toy", dataset="blobs", results=None, queries=5, **changes):
    """A sound document of the present layout.

    Args:
        name: The key is its hash.
        method, dataset: Ids.
        results: Per metric and direction one number per seed.
        queries: Of every direction.
        changes: Replace entries by dotted path.
    """
    results = results or {metric: {direction: [0.5, 0.4] for direction in WAYS} for metric in METRICS}
    directions = list(results["map@all"])
    names = list(dict.fromkeys(direction.partition("->")[0] for direction in directions))
    fingerprint = hashlib.sha256(dataset.encode()).hexdigest()
    document = {
        "key": hashlib.sha256(name.encode()).hexdigest(),
        "started": "2025-01-01T00:00:00",
        "schema": SCHEMA,
        "comparability": {"fingerprint": fingerprint, "metric_version": 1, "schema": SCHEMA},
        "options": {},
        "words": [],
        "protocol": "paired-free",
        "method": {"id": method, "title": method.title(), "version": 1, "origin": "toys"},
        "recipe": {"ridge": {"value": 2.0, "source": "section 1", "origin": "paper"}},
        "dataset": {
            "id": dataset,
            "title": dataset.title(),
            "source": "official",
            "fingerprint": fingerprint,
            "files": ["/data/blobs.mat"],
            "split": "",
            "splits": ["even", "odd"],
            "options": {},
            "description": "",
            "modalities": names,
        },
        "profile": "paper",
        "seeds": list(range(1, len(results["map@all"][directions[0]]) + 1)),
        "precision": "fp32",
        "scaling": "raw",
        "modalities": names,
        "rows": {"train": {"image": 10, "text": 10}},
        "results": results,
        "averages": {m: np.mean(list(results[m].values()), axis=0).tolist() for m in METRICS},
        "chance": dict.fromkeys(directions, 0.1),
        "sizes": {direction: {"queries": queries, "database": 7} for direction in directions},
        "device": {"type": "cpu", "name": "cpu", "threads": 1},
        "versions": {"python": "3.11", "torch": "2", "suite": "0.1.0", "commit": "c" * 40},
        "timings": {"fit": 1.0, "total": 1.5},
        "history": {"main": {"train/total": [[1.0], [0.5]]}},
        "warnings": [],
    }
    return changed(document, **changes)


def changed(document, **changes):
    """A copy of a document with entries replaced by dotted path, dots written as ``__``."""
    document = copy.deepcopy(document)
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = document
        for folder in folders:
            place = place[folder]
        place[last] = value
    return document


def make_record(*arguments, **options):
    """The same as a record."""
    return RunRecord.from_json(make_document(*arguments, **options))


def make_run(name="a", *, seeds=(1, 2), queries=5, shift=0.0, **changes):
    """A sound document and its arrays."""
    rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    arrays = {
        f"ap/{metric}/{direction}": (rng.uniform(0, 0.9, (len(seeds), queries)) + shift).astype(np.float32)
        for metric in METRICS
        for direction in WAYS
    }
    results = {
        m: {w: arrays[f"ap/{m}/{w}"].mean(axis=1, dtype=np.float64).tolist() for w in WAYS} for m in METRICS
    }
    seeds = {"seeds": list(seeds)}
    return make_document(name, results=results, queries=queries, **(seeds | changes)), arrays


def save(store, *arguments, **options):
    """Store such a run."""
    document, arrays = make_run(*arguments, **options)
    store.prepare()
    return store.save(RunRecord.from_json(document), arrays, replace=True)


def rewrite(folder, edit=None, **changes):
    """Edit the record of a stored run, with a checksum that fits; ``edit`` changes the document in place."""
    file = folder / "record.json"
    document = json.loads(file.read_text())
    document.pop(CHECKSUM, None)
    if edit is not None:
        edit(document)
    file.write_text(json.dumps(sealed(changed(document, **changes))))


def as_old(folder):
    """Make a stored run one of before records had checksums."""
    file = folder / "record.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({n: v for n, v in document.items() if n not in (CHECKSUM, "arrays_sha256")}))
