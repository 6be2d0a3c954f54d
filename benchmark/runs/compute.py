"""The computing part of a run: fit on training and validation data, then score the test split."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.core.data import MultimodalData, Split, pick_modalities
from benchmark.core.method import Method, Retriever, Run
from benchmark.errors import TrainingError
from benchmark.evaluation.scoring import (
    MEASURES,
    TOP,
    Scores,
    clock,
    directions,
    own_items,
    results,
    score,
    tie_warnings,
)
from benchmark.records.record import RunRecord
from benchmark.runs.parts import Part, extensions, gather, part_run
from benchmark.runs.plan import Plan
from benchmark.runs.prepare import prepare
from benchmark.runs.provenance import as_array, describe_run, environment, plain
from benchmark.runs.recipe import RESERVED

if TYPE_CHECKING:
    from benchmark.runs.reporter import Reporter

Computed = tuple[RunRecord, dict[str, NDArray[Any]]]


def compute(
    plan: Plan,
    data: MultimodalData,
    load_seconds: float,
    checkpoints: Path,
    shared: Path | None,
    reporter: Reporter,
) -> Computed:
    """Train and score a run.

    Args:
        plan: The run; its key is known.
        data: The dataset as loaded, all modalities.
        load_seconds: How long loading took, for the record.
        checkpoints: Folder the training loop may use to resume an interrupted run.
        shared: Folder of finished phases that runs on the same data share; ``None`` to train them all.
        reporter: Where to report progress.

    Returns:
        The record, and the arrays to store with it: ``ap/<measure>/<query>-><database>`` with shape
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
    device = torch.device(plan.device)
    modalities = pick_modalities(plan.spec.modalities, data.modalities)
    train, val, test, noise = prepare(data, plan, modalities)
    method = build(plan)
    models: list[Part] = list(combinations(modalities, 2)) if plan.pairwise else [modalities]
    for part in models:
        method.check(train.restrict(part))
    own = own_items(test) if plan.spec.leave_own_out else {}
    torch.set_float32_matmul_precision("high" if plan.spec.precision == "tf32" else "highest")
    run = Run(
        seeds=plan.seeds,
        device=device,
        precision=plan.spec.precision,
        replicas=plan.spec.replicas,
        progress=reporter.epoch,
        checkpoints=checkpoints,
        shared=None if plan.pairwise else shared,
    )
    seeds = ",".join(map(str, plan.seeds))
    each_pair = f", {len(models)} models of two modalities each" if plan.pairwise else ""
    reporter.say(f"fit: {plan.method.id} on {device}, {plan.profile} profile, seeds {seeds}{each_pair}")
    timings = {"load": load_seconds, "fit": 0.0, "embed": 0.0, "score": 0.0}
    scores: Scores = {way: [] for way in directions(modalities)}
    try:
        for number, part in enumerate(models, 1):
            if plan.pairwise:
                reporter.say(f"{'+'.join(part)}, {number} of {len(models)}")
            own_run = part_run(run, part) if plan.pairwise else run
            retrievers = fit(plan, train.restrict(part), val.restrict(part), own_run, timings)
            if plan.pairwise:
                gather(run, part, own_run)
            else:
                reporter.say("score: ranking the test split in every direction")
            with torch.no_grad():
                scores |= score(retrievers, test.restrict(part), run, timings, own)
            del retrievers  # one pair's models are in memory at a time
    except (torch.OutOfMemoryError, MemoryError) as error:
        line = str(error).partition("\n")[0] or "out of memory"
        raise TrainingError(f"{line}; try --replicas alone, a smaller batch, or the quick profile") from error
    record = {"key": plan.key(), "started": started, **describe_run(plan, data, modalities)}
    record["rows"] = {split.name: {m.name: len(m) for m in split} for split in (train, val, test)}
    record["config"] = plain(asdict(method.config))
    record["warnings"] = extensions(plan, modalities)
    finished, arrays = finish(record, run, scores, timings, reporter)
    return finished, arrays | noise


def fit(plan: Plan, train: Split, val: Split, run: Run, timings: dict[str, float]) -> list[Retriever]:
    """One model per seed of ``run``, the seconds added to ``timings["fit"]``.

    Raises:
        TrainingError: Another number of models.
    """
    with clock(timings, "fit", run.device):
        retrievers = build(plan).fit(train, val, run)
    if len(retrievers) != len(run.seeds):
        raise TrainingError(f"{plan.method.id} returned {len(retrievers)} models for {len(run.seeds)} seeds")
    return retrievers


def build(plan: Plan) -> Method:
    """The method of a run with its hyper-parameters."""
    values = {name: value.value for name, value in plan.recipe.items() if name not in RESERVED}
    method: Method = plan.method.load().from_values(values)
    method.beyond_kinds = plan.spec.pairwise
    return method


def finish(
    record: dict[str, Any], run: Run, scores: Scores, timings: dict[str, float], reporter: Reporter
) -> Computed:
    """Complete a record, and collect the arrays to store with it."""
    timings["total"] = sum(timings.values())
    if run.device.type == "cuda":
        record["peak_memory_bytes"] = torch.cuda.max_memory_allocated(run.device)
    warnings = record.pop("warnings", []) + tie_warnings(scores)
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
    return RunRecord.from_json(record), arrays | {
        f"method/{name}": as_array(value) for name, value in run.arrays.items()
    }
