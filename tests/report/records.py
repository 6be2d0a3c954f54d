"""Small records and stored runs for tests of reports, with the numbers a test asks for."""

from dataclasses import replace

import numpy as np

from benchmark.records.store import Store
from tests.stored import WAYS
from tests.stored import make_record as record_of


def make_record(method="drcl", maps=((0.5, 0.4),), *, dataset="wikipedia", **changes):
    """A record whose seed ``s`` has ``maps[s]`` in the two directions, at both cuts."""
    results = {direction: [one[k] for one in maps] for k, direction in enumerate(WAYS)}
    facts = {
        "started": "2026-01-02T03:04:05+00:00",
        "method__title": method.upper(),
        "dataset__splits": [],
        "history": {"main": {"train/total": [[1.0] * len(maps), [0.5] * len(maps)]}},
    }
    results = {"map@all": results, "map@50": results}
    return record_of(method, method=method, dataset=dataset, results=results, **(facts | changes))


def store_run(root, record, queries=40, seed=0):
    """Store a record with average precisions whose means are its numbers, and precision curves."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for direction in record.directions:
        noise = rng.uniform(-0.05, 0.05, queries)
        means = np.array(record.values("map@all", direction))[:, None]
        arrays[f"ap/map@all/{direction}"] = arrays[f"ap/map@50/{direction}"] = means + (noise - noise.mean())
        arrays[f"precision/{direction}"] = means * np.linspace(1, 0.2, 11)
    store = Store(root)
    store.prepare()
    with store.lock(record.key):
        sizes = {direction: {"queries": queries, "database": queries} for direction in record.directions}
        small = {name: array.astype(np.float32) for name, array in arrays.items()}
        return store.save(replace(record, sizes=sizes), small)
