"""The computing part of a run: fit on training and validation data, then score the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.core.data import MultimodalData, Split, pick_modalities
from benchmark.core.method import FitLog, Method, RunContext
from benchmark.errors import TrainingError, memory_line
from benchmark.evaluation.scoring import (
    METRICS,
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
from benchmark.runs.parts import Part, extensions, part_context, parts_of
from benchmark.runs.plan import Plan
from benchmark.runs.prepare import prepare
from benchmark.runs.provenance import as_array, describe_run, environment, plain
from benchmark.runs.recipe import RESERVED
from benchmark.runs.reporter import Reporter
from benchmark.training.modules import GlobalGenerators, evaluate

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
        The record, and the arrays to store with it: ``ap/<metric>/<query>-><database>`` with shape
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
    modalities = pick_modalities(plan.spec.modalities, data.modalities)
    train, val, test, noise = prepare(data, plan, modalities)
    method, parts = build(plan), parts_of(plan, modalities)
    for part in parts:
        method.check(train.restrict(part))
    torch.set_float32_matmul_precision("high" if plan.spec.precision == "tf32" else "highest")
    run = RunContext(
        seeds=plan.seeds,
        device=torch.device(plan.device),
        precision=plan.spec.precision,
        replicas=plan.spec.replicas,
        progress=reporter.epoch,
        checkpoints=checkpoints,
        shared=shared,
    )
    timings = {"load": load_seconds, "fit": 0.0, "embed": 0.0, "score": 0.0}
    try:
        log, scores = fit_and_score(plan, parts, (train, val, test), run, timings, reporter)
    except (MemoryError, RuntimeError) as error:
        if not (line := memory_line(error)):
            raise
        raise TrainingError(f"{line}; try --replicas alone, a smaller batch, or the quick profile") from error
    warnings = extensions(plan, modalities) + tie_warnings(scores)
    for warning in warnings:
        reporter.warn(warning)
    record = {"key": plan.key(), "started": started, **describe_run(plan, data, modalities)}
    record["rows"] = {split.name: {m.name: len(m) for m in split} for split in (train, val, test)}
    record |= {"config": plain(asdict(method.config)), "warnings": warnings}
    record |= {**environment(run.device), **results(scores), "top": TOP}
    if run.device.type == "cuda":
        record["peak_memory_bytes"] = torch.cuda.max_memory_allocated(run.device)
    timings["total"] = sum(timings.values())
    record["timings"] = {name: round(seconds, 4) for name, seconds in timings.items()}
    record |= {"history": plain(log.history), "notes": plain(log.notes)}
    arrays = {f"method/{name}": as_array(value) for name, value in log.arrays.items()}
    return RunRecord.from_json(record), {**score_arrays(scores), **arrays, **noise}


def fit_and_score(
    plan: Plan,
    parts: Sequence[Part],
    splits: tuple[Split, Split, Split],
    run: RunContext,
    timings: dict[str, float],
    reporter: Reporter,
) -> tuple[FitLog, Scores]:
    """Fit every model of a run and rank the test split with it; one model's weights are in memory at a time.

    Raises:
        TrainingError: The method gave another number of models than there are seeds, or one whose scores
            depend on chance.
    """
    train, val, test = splits
    pairwise = len(parts) > 1
    each = f", {len(parts)} models of two modalities each" if pairwise else ""
    seeds = ",".join(map(str, run.seeds))
    reporter.say(f"fit: {plan.method.id} on {run.device}, {plan.profile} profile, seeds {seeds}{each}")
    own = own_items(test) if plan.spec.leave_own_out else {}
    log, scores = FitLog(), Scores()
    for number, part in enumerate(parts, 1):
        context, left = run, log
        if pairwise:
            reporter.say(f"{'+'.join(part)}, {number} of {len(parts)}")
            context, left = part_context(run, part), FitLog()
        with clock(timings, "fit", run.device):
            retrievers = build(plan).fit(train.restrict(part), val.restrict(part), context, left)
        if len(retrievers) != len(run.seeds):
            raise TrainingError(
                f"{plan.method.id} returned {len(retrievers)} models for {len(run.seeds)} seeds"
            )
        if pairwise:
            log.join("+".join(part), left)
        else:
            reporter.say("score: ranking the test split in every direction")
        evaluate(retrievers)
        generators = GlobalGenerators(run.device)
        with torch.no_grad():
            scores |= score(retrievers, test.restrict(part), run, timings, own)
        generators.demand_untouched(f"{plan.method.id}, on test rows")
    return log, {direction: scores[direction] for direction in directions(test.names)}


def build(plan: Plan) -> Method:
    """The method of a run with its hyper-parameters."""
    values = {name: value.value for name, value in plan.recipe.items() if name not in RESERVED}
    method: Method = plan.method.load().from_values(values)
    method.beyond_kinds = plan.spec.pairwise
    return method


def score_arrays(scores: Scores) -> dict[str, NDArray[Any]]:
    """What is stored of the rankings, see :func:`compute`."""
    arrays = {
        f"ap/{metric}/{direction}": np.stack([as_array(one.ap[metric]) for one in per_seed])
        for direction, per_seed in scores.items()
        for metric in METRICS
    }
    for direction, per_seed in scores.items():
        curves = np.stack([as_array(one.precision) for one in per_seed])
        arrays[f"precision/{direction}"] = curves.astype(np.float32)
        arrays[f"top/{direction}"] = np.stack([as_array(one.first) for one in per_seed])
        arrays[f"top_score/{direction}"] = np.stack([as_array(one.first_scores) for one in per_seed])
    return arrays
