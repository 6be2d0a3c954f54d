"""Small records as a run would store them, made without running anything."""

import hashlib

import numpy as np

from benchmark.records.record import SCHEMA

WAYS = ("image->text", "text->image")
MEASURES = ("map@all", "map@50")


def make_run(name="a", *, seeds=(1, 2), queries=5, method="toy", dataset="blobs", shift=0.0, **changes):
    """A sound record and its arrays; ``changes`` replace entries by dotted path."""
    rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    arrays = {
        f"ap/{measure}/{way}": (rng.uniform(0, 0.9, (len(seeds), queries)) + shift).astype(np.float32)
        for measure in MEASURES
        for way in WAYS
    }
    results = {
        m: {w: arrays[f"ap/{m}/{w}"].mean(axis=1, dtype=np.float64).tolist() for w in WAYS} for m in MEASURES
    }
    fingerprint = hashlib.sha256(dataset.encode()).hexdigest()
    record = {
        "key": hashlib.sha256(name.encode()).hexdigest(),
        "started": "2025-01-01T00:00:00",
        "schema": SCHEMA,
        "comparability": {"fingerprint": fingerprint, "metric_version": 1, "schema": SCHEMA},
        "method": {"id": method, "title": method.title(), "version": 1, "origin": "toys"},
        "recipe": {"ridge": {"value": 2.0, "origin": "paper", "source": "section 1"}},
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
            "modalities": ["image", "text"],
        },
        "profile": "paper",
        "seeds": list(seeds),
        "precision": "fp32",
        "scaling": "raw",
        "modalities": ["image", "text"],
        "rows": {"train": {"image": 10, "text": 10}},
        "results": results,
        "averages": {m: np.mean(list(results[m].values()), axis=0).tolist() for m in MEASURES},
        "chance": dict.fromkeys(WAYS, 0.1),
        "sizes": {way: {"queries": queries, "database": 7} for way in WAYS},
        "device": {"type": "cpu"},
        "versions": {"python": "3.11"},
        "timings": {"total": 1.5},
        "warnings": [],
    }
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = record
        for folder in folders:
            place = place[folder]
        place[last] = value
    return record, arrays


def save(store, *arguments, **options):
    """Store such a run."""
    store.prepare()
    return store.save(*make_run(*arguments, **options))
