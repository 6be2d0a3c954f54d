"""Scores of fitted models: every query of the test split against every item of the other modalities."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.core.data import Split
from benchmark.core.method import Retriever, RunContext
from benchmark.core.pairing import partners
from benchmark.errors import TrainingError, UnsupportedError
from benchmark.evaluation.metrics import TIE_LIMIT, DirectionScores, evaluate, evaluate_one

METRICS = ("map@all", "map@50")
TOP = 20
"""Ranks stored for every query."""
CHUNK = 8192
"""Rows embedded at once."""

Scores = dict[str, list[DirectionScores]]
Own = Mapping[str, NDArray[np.int64]]
"""Per direction, the database row to leave out for every query; -1 for none."""


def own_items(test: Split) -> Own:
    """Where a query's own item is in the database, for every direction.

    Raises:
        UnsupportedError: Two modalities show no item in common.
    """
    own = {f"{a.name}->{b.name}": partners(a, b) for a in test for b in test if a is not b}
    for direction, rows in own.items():
        if (rows < 0).all():
            names = direction.replace("->", " and ")
            raise UnsupportedError(
                f"--leave-own-out: no test rows of {names} are paired, so no query has an own item there; "
                "leave the option out, or choose others with --modalities"
            )
    return own


def score(
    retrievers: Sequence[Retriever], test: Split, run: RunContext, timings: dict[str, float], own: Own
) -> Scores:
    """Every ordered pair of modalities, one entry per model.

    Embeddings are computed once per model and modality, and both directions of a pair are scored from one
    similarity. Models that score pairs directly are asked once per direction, because nothing says that they
    are symmetric; the scores of one direction are dropped before the other is asked for.

    Args:
        retrievers: One model per seed of ``run.seeds``.
        test: The modalities the models were trained on.
        run: Seeds and device.
        timings: Seconds of ``embed`` and ``score`` are added here.
        own: Items to leave out, for all directions or none.
    """
    features = {modality.name: run.tensor(modality.features) for modality in test}
    labels = {modality.name: torch.as_tensor(modality.labels).to(run.device) for modality in test}
    options: dict[str, dict[str, Any]] = {}
    for direction in directions(test.names):
        options[direction] = {"metrics": METRICS, "top": TOP}
        if own:
            options[direction]["exclude"] = torch.as_tensor(own[direction]).to(run.device)
    scores: Scores = {direction: [] for direction in options}
    for seed, model in zip(run.seeds, retrievers, strict=True):
        embedded: dict[str, Tensor] = {}
        for a, b in combinations(test.names, 2):
            with clock(timings, "embed", run.device):
                direct = model.similarity(a, features[a], b, features[b])
                for name in (a, b) if direct is None else ():
                    if name not in embedded:
                        embedded[name] = embed(model, name, features[name], seed)
            there, back = f"{a}->{b}", f"{b}->{a}"
            if direct is None:
                with clock(timings, "score", run.device):
                    pair = evaluate(embedded[a], labels[a], embedded[b], labels[b], **options[there])
                scores[there].append(pair[0])
                scores[back].append(pair[1])
                continue
            with clock(timings, "score", run.device):
                scores[there].append(_ranked(direct, labels[a], labels[b], options[there]))
                del direct
            with clock(timings, "embed", run.device):
                reverse = model.similarity(b, features[b], a, features[a])
            with clock(timings, "score", run.device):
                scores[back].append(_ranked(reverse, labels[b], labels[a], options[back]))
                del reverse
    return scores


def _ranked(
    similarity: Tensor | None, queries: Tensor, items: Tensor, options: dict[str, Any]
) -> DirectionScores:
    return evaluate_one(None, queries, None, items, similarity=similarity, **options)


def directions(names: Sequence[str]) -> list[str]:
    """``query->database`` for every ordered pair of modalities."""
    return [f"{a}->{b}" for a in names for b in names if a != b]


def tie_warnings(scores: Scores) -> list[str]:
    """One line if in some direction so many queries have ties that the order of equal scores matters."""
    most = {direction: max(one.ties for one in each) for direction, each in scores.items()}
    ties = {direction: share for direction, share in most.items() if share > TIE_LIMIT}
    if not ties:
        return []
    worst = max(ties, key=lambda direction: ties[direction])
    return [
        f"ties: in {len(ties)} of {len(scores)} directions more than {TIE_LIMIT:.0%} of the queries have a "
        f"relevant item whose score another item has too (most in {worst}: {ties[worst]:.1%}); equal scores "
        "are ranked by a fixed permutation of the database"
    ]


def embed(model: Retriever, name: str, features: Tensor, seed: int) -> Tensor:
    """Embeddings ``(n, d)`` of all rows of a modality, a chunk at a time.

    Raises:
        TrainingError: Not one row per item, or values that are not finite.
    """
    chunks = (features[start : start + CHUNK] for start in range(0, len(features), CHUNK))
    whole = torch.cat([model.embed(name, chunk) for chunk in chunks])
    if whole.ndim != 2 or len(whole) != len(features):
        raise TrainingError(
            f"{name}, seed {seed}: {len(features)} rows became embeddings of shape {tuple(whole.shape)}"
        )
    if not bool(torch.isfinite(whole).all()):
        raise TrainingError(f"{name}, seed {seed}: embeddings hold NaN or infinity; nothing is stored")
    return whole


def results(scores: Scores) -> dict[str, Any]:
    """The numbers of a record, per metric, direction and seed."""
    table = {
        metric: {direction: [one.mean(metric) for one in each] for direction, each in scores.items()}
        for metric in METRICS
    }
    return {
        "results": table,
        "averages": {
            metric: [sum(column) / len(column) for column in zip(*rows.values(), strict=True)]
            for metric, rows in table.items()
        },
        "chance": {direction: each[0].chance for direction, each in scores.items()},
        "ties": {direction: [one.ties for one in each] for direction, each in scores.items()},
        "sizes": {
            direction: {"queries": each[0].queries, "database": each[0].database}
            for direction, each in scores.items()
        },
    }


@contextmanager
def clock(timings: dict[str, float], name: str, device: torch.device) -> Iterator[None]:
    """Add the seconds of a block to ``timings[name]``, work queued on the device included."""
    start = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    timings[name] += time.perf_counter() - start
