"""Small records and stored runs for tests of reports, with the numbers a test asks for."""

import numpy as np

from benchmark.records.store import Store

WAYS = ("image->text", "text->image")


def make_record(method="drcl", maps=((0.5, 0.4),), *, dataset="wikipedia", seeds=None, **changes):
    """A record whose seed ``s`` has ``maps[s]`` in the two directions, at both cuts."""
    results = {way: [one[k] for one in maps] for k, way in enumerate(WAYS)}
    record = {
        "schema": 2,
        "key": (method * 64)[:8].encode().hex()[:16] * 4,
        "started": "2026-01-02T03:04:05+00:00",
        "comparability": {"fingerprint": "f" * 64, "metric_version": 1, "schema": 2},
        "method": {"id": method, "title": method.upper()},
        "protocol": "paired-free",
        "recipe": {"alpha": {"value": 1, "source": "s", "origin": "paper"}},
        "overrides": [],
        "dataset": {
            "id": dataset,
            "title": dataset.title(),
            "source": "official",
            "split": "",
            "splits": [],
            "options": {},
            "fingerprint": "f" * 64,
            "modalities": ["image", "text"],
            "description": "",
            "files": [],
        },
        "profile": "paper",
        "seeds": list(seeds or range(1, len(maps) + 1)),
        "precision": "fp32",
        "scaling": "raw",
        "modalities": ["image", "text"],
        "results": {"map@all": results, "map@50": results},
        "averages": {measure: [sum(one) / 2 for one in maps] for measure in ("map@all", "map@50")},
        "chance": dict.fromkeys(WAYS, 0.1),
        "versions": {"suite": "0.1.0", "torch": "2", "python": "3", "commit": "c" * 40},
        "device": {"type": "cpu", "name": "cpu", "threads": 1},
        "timings": {"fit": 1.0, "total": 1.0},
        "history": {"main": {"train/total": [[1.0] * len(maps), [0.5] * len(maps)]}},
        "warnings": [],
    }
    for name, value in changes.items():
        where, _, field = name.partition("__")
        record[where] = {**record[where], field: value} if field else value
    return record


def store_run(root, record, queries=40, seed=0):
    """Store a record with average precisions whose means are its numbers, and precision curves."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for way in WAYS:
        noise = rng.uniform(-0.05, 0.05, queries)
        means = np.array(record["results"]["map@all"][way])[:, None]
        arrays[f"ap/map@all/{way}"] = arrays[f"ap/map@50/{way}"] = means + (noise - noise.mean())
        arrays[f"precision/{way}"] = means * np.linspace(1, 0.2, 11)
    store = Store(root)
    store.prepare()
    with store.lock(record["key"]):
        return store.save(record, {name: a.astype(np.float32) for name, a in arrays.items()})
