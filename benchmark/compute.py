"""The computing part of a run: fit on training and validation data, then score the test split."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.data import MultimodalData, Split, standardize, subsample
from benchmark.errors import TrainingError, UnsupportedError
from benchmark.method import Method, Retriever, Run
from benchmark.metrics import TIE_LIMIT, DirectionScores, evaluate, evaluate_one
from benchmark.pairing import partners
from benchmark.plan import Plan, pick_modalities
from benchmark.recipe import ROWS
from benchmark.record import as_array, describe_run, environment, plain

if TYPE_CHECKING:
    from benchmark.runner import Reporter

MEASURES = ("map@all", "map@50")
TOP = 20
"""Ranks stored for every query."""
CHUNK = 8192
"""Rows embedded at once."""

Scores = dict[str, list[DirectionScores]]
Computed = tuple[dict[str, Any], dict[str, NDArray[Any]]]
Own = Mapping[str, NDArray[np.int64]]
"""Per direction, the database row to leave out for every query; -1 for none."""


def compute(
    plans: Sequence[Plan],
    data: MultimodalData,
    load_seconds: float,
    checkpoints: Path,
    shared: Path | None,
    reporter: Reporter,
) -> list[Computed]:
    """Train and score runs that differ in nothing but hyper-parameters a method takes per replica.

    Args:
        plans: The runs, one or more, trained in one fit; their keys are known.
        data: The dataset as loaded, all modalities.
        load_seconds: How long loading took, for the record.
        checkpoints: Folder the training loop may use to resume an interrupted run.
        shared: Folder of finished phases that runs on the same data share; ``None`` to train them all.
        reporter: Where to report progress.

    Returns:
        Per run its record, and the arrays to store with it: ``ap/<measure>/<query>-><database>`` with shape
        ``(seeds, queries)`` in float32; ``precision/<query>-><database>`` with shape
        ``(seeds, RECALL_LEVELS)`` in float32, the precision-recall curve; ``top/<query>-><database>`` and
        ``top_score/...``, shape ``(seeds, queries, TOP)``: the database rows at the first ranks in int32 (-1
        where there are no more) and their scores in float32 (NaN there); and ``method/<name>`` for what the
        method handed back.

    Raises:
        UnsupportedError: The method cannot serve these data, or there are no pairs to leave own items out.
        TrainingError: Training failed, or the model gives values that are not finite.
    """
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    plan = plans[0]
    device = torch.device(plan.device)
    modalities = pick_modalities(plan.spec.modalities, data.modalities)
    train, val, test = prepare(data, plan, modalities)
    methods = [build(each) for each in plans]
    methods[0].check(train)
    own = own_items(test) if plan.spec.leave_own_out else {}
    torch.set_float32_matmul_precision("high" if plan.spec.precision == "tf32" else "highest")
    run = Run(
        seeds=plan.seeds * len(plans),
        device=device,
        precision=plan.spec.precision,
        replicas=plan.spec.replicas,
        progress=reporter.epoch,
        checkpoints=checkpoints,
        shared=shared,
        variants=variants(plans, methods) if len(plans) > 1 else None,
    )
    seeds = ",".join(map(str, plan.seeds))
    together = f", {len(plans)} runs together" if len(plans) > 1 else ""
    reporter.say(f"fit: {plan.method.id} on {device}, {plan.profile} profile, seeds {seeds}{together}")
    timings = {"load": load_seconds, "fit": 0.0, "embed": 0.0, "score": 0.0}
    try:
        with clock(timings, "fit", device):
            retrievers = methods[0].fit(train, val, run)
        if len(retrievers) != len(run.seeds):
            raise TrainingError(
                f"{plan.method.id} returned {len(retrievers)} models for {len(run.seeds)} seeds"
            )
        reporter.say("score: ranking the test split in every direction")
        timings = {name: seconds / len(plans) for name, seconds in timings.items()}
        done = []
        for place, (each, method) in enumerate(zip(plans, methods, strict=True)):
            mine = slice(place * len(plan.seeds), (place + 1) * len(plan.seeds))
            record = {"key": each.key(), "started": started, **describe_run(each, data, modalities)}
            record["rows"] = {split.name: {m.name: len(m) for m in split} for split in (train, val, test)}
            record["config"] = plain(asdict(method.config))
            if len(plans) > 1:
                record["trained_with"] = [other.key() for other in plans if other is not each]
            times = dict(timings)
            with torch.no_grad():
                scores = score(retrievers[mine], test, replace(run, seeds=plan.seeds), times, own)
            done.append(finish(record, run if len(plans) == 1 else share(run, mine), scores, times, reporter))
    except (torch.OutOfMemoryError, MemoryError) as error:
        line = str(error).partition("\n")[0] or "out of memory"
        raise TrainingError(f"{line}; try --replicas alone, a smaller batch, or the quick profile") from error
    return done


def build(plan: Plan) -> Method:
    """The method of a run with its hyper-parameters."""
    values = {name: value.value for name, value in plan.recipe.items() if name != ROWS}
    method: Method = plan.method.load().from_values(values)
    return method


def variants(plans: Sequence[Plan], methods: Sequence[Method]) -> tuple[dict[str, float], ...]:
    """What every replica has of its own, the runs one after the other, the seeds of each together."""
    names = methods[0].per_replica
    own = [{name: float(getattr(method.config, name)) for name in names} for method in methods]
    return tuple(each for each, plan in zip(own, plans, strict=True) for _ in plan.seeds)


def share(run: Run, mine: slice) -> Run:
    """One run's part of what several left in ``run``: its seeds, history, notes and arrays."""
    count = len(run.seeds)

    def cut(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: cut(each) for name, each in value.items()}
        return value[mine] if isinstance(value, list) and len(value) == count else value

    history = {
        phase: {name: [row[mine] for row in rows] for name, rows in quantities.items()}
        for phase, quantities in run.history.items()
    }
    given = {name: as_array(value) for name, value in run.arrays.items()}
    arrays = {n: a[mine] if a.ndim and len(a) == count else a for n, a in given.items()}
    return replace(run, seeds=run.seeds[mine], history=history, notes=cut(run.notes), arrays=arrays)


def finish(
    record: dict[str, Any], run: Run, scores: Scores, timings: dict[str, float], reporter: Reporter
) -> Computed:
    """Complete a record, and collect the arrays to store with it."""
    timings["total"] = sum(timings.values())
    if run.device.type == "cuda":
        record["peak_memory_bytes"] = torch.cuda.max_memory_allocated(run.device)
    warnings = tie_warnings(scores)
    for warning in warnings:
        reporter.warn(warning)
    record |= {**environment(run.device), **results(scores), "top": TOP}
    record |= {
        "timings": {name: round(seconds, 4) for name, seconds in timings.items()},
        "history": plain(run.history),
        "notes": plain(run.notes),
        "warnings": warnings,
    }
    arrays = {
        f"ap/{measure}/{direction}": np.stack([as_array(one.ap[measure]) for one in per_seed])
        for direction, per_seed in scores.items()
        for measure in MEASURES
    }
    for direction, per_seed in scores.items():
        curves = np.stack([as_array(one.precision) for one in per_seed])
        arrays[f"precision/{direction}"] = curves.astype(np.float32)
        arrays[f"top/{direction}"] = np.stack([as_array(one.first) for one in per_seed])
        arrays[f"top_score/{direction}"] = np.stack([as_array(one.first_scores) for one in per_seed])
    return record, arrays | {f"method/{name}": as_array(value) for name, value in run.arrays.items()}


def prepare(data: MultimodalData, plan: Plan, modalities: tuple[str, ...]) -> tuple[Split, Split, Split]:
    """Training, validation and test split of a run: restricted, scaled, then subsampled (never the test).

    Args:
        data: The dataset as loaded.
        plan: The run; names scaling and the rows to keep.
        modalities: Those of the run.
    """
    data = data.restrict(modalities)
    if plan.spec.scaling == "standardize":
        data = standardize(data)
    rows = plan.recipe[ROWS].value
    train = subsample(data.train, rows["train"]) if rows["train"] else data.train
    val = subsample(data.val, rows["val"]) if rows["val"] else data.val
    return train, val, data.test


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


def score(retrievers: list[Retriever], test: Split, run: Run, timings: dict[str, float], own: Own) -> Scores:
    """Every ordered pair of modalities, one entry per seed.

    Embeddings are computed once per seed and modality, and both directions of a pair are scored from one
    similarity. Models that score pairs directly are asked once per direction: nothing says that they are
    symmetric.
    """
    features = {modality.name: run.tensor(modality.features) for modality in test}
    labels = {modality.name: torch.as_tensor(modality.labels).to(run.device) for modality in test}
    scores: Scores = {f"{a}->{b}": [] for a in test.names for b in test.names if a != b}
    options: dict[str, dict[str, Any]] = {way: {"measures": MEASURES, "top": TOP} for way in scores}
    for way, rows in own.items():
        options[way]["exclude"] = torch.as_tensor(rows).to(run.device)
    for seed, model in zip(run.seeds, retrievers, strict=True):
        embedded: dict[str, Tensor] = {}
        for a, b in combinations(test.names, 2):
            with clock(timings, "embed", run.device):
                direct = model.similarity(a, features[a], b, features[b])
                if direct is None:
                    for name in (a, b):
                        if name not in embedded:
                            embedded[name] = embed(model, name, features[name], seed)
                else:
                    reverse = model.similarity(b, features[b], a, features[a])
            with clock(timings, "score", run.device):
                ours, theirs = options[f"{a}->{b}"], options[f"{b}->{a}"]
                if direct is None:
                    pair = evaluate(embedded[a], labels[a], embedded[b], labels[b], **ours)
                else:
                    pair = (
                        evaluate_one(None, labels[a], None, labels[b], similarity=direct, **ours),
                        evaluate_one(None, labels[b], None, labels[a], similarity=reverse, **theirs),
                    )
            scores[f"{a}->{b}"].append(pair[0])
            scores[f"{b}->{a}"].append(pair[1])
    return scores


def tie_warnings(scores: Scores) -> list[str]:
    """One line if in some direction so many queries have ties that the order of equal scores matters."""
    most = {way: max(one.ties for one in each) for way, each in scores.items()}
    ties = {way: share for way, share in most.items() if share > TIE_LIMIT}
    if not ties:
        return []
    worst = max(ties, key=lambda way: ties[way])
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
    """The numbers of a record, per measure, direction and seed."""
    table = {
        measure: {direction: [one.mean(measure) for one in each] for direction, each in scores.items()}
        for measure in MEASURES
    }
    return {
        "results": table,
        "averages": {
            measure: [sum(column) / len(column) for column in zip(*rows.values(), strict=True)]
            for measure, rows in table.items()
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
