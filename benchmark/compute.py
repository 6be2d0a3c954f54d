"""The computing part of a run: fit on training and validation data, then score the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.data import MultimodalData, Split, kept_rows, standardize, subsample, take_rows
from benchmark.errors import TrainingError
from benchmark.label_noise import corrupt_split
from benchmark.method import Method, Retriever, Run
from benchmark.plan import Plan, pick_modalities
from benchmark.recipe import RESERVED, ROWS
from benchmark.record import as_array, describe_run, environment, plain
from benchmark.scoring import (
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

if TYPE_CHECKING:
    from benchmark.runner import Reporter

Computed = tuple[dict[str, Any], dict[str, NDArray[Any]]]
Part = tuple[str, ...]
"""Modalities of one model."""


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
    train, val, test, noise = prepare(data, plan, modalities)
    methods = [build(each) for each in plans]
    models: list[Part] = list(combinations(modalities, 2)) if plan.pairwise else [modalities]
    for part in models:
        methods[0].check(train.restrict(part))
    own = own_items(test) if plan.spec.leave_own_out else {}
    torch.set_float32_matmul_precision("high" if plan.spec.precision == "tf32" else "highest")
    run = Run(
        seeds=plan.seeds * len(plans),
        device=device,
        precision=plan.spec.precision,
        replicas=plan.spec.replicas,
        progress=reporter.epoch,
        checkpoints=checkpoints,
        shared=None if plan.pairwise else shared,
        variants=variants(plans, methods) if len(plans) > 1 else None,
    )
    seeds = ",".join(map(str, plan.seeds))
    together = f", {len(plans)} runs together" if len(plans) > 1 else ""
    each_pair = f", {len(models)} models of two modalities each" if plan.pairwise else ""
    reporter.say(
        f"fit: {plan.method.id} on {device}, {plan.profile} profile, seeds {seeds}{together}{each_pair}"
    )
    fitting = {"load": load_seconds, "fit": 0.0}
    timings = [{"embed": 0.0, "score": 0.0} for _ in plans]
    scores: list[Scores] = [{way: [] for way in directions(modalities)} for _ in plans]
    try:
        for number, part in enumerate(models, 1):
            if plan.pairwise:
                reporter.say(f"{'+'.join(part)}, {number} of {len(models)}")
            own_run = part_run(run, part) if plan.pairwise else run
            retrievers = fit(plan, train.restrict(part), val.restrict(part), own_run, fitting)
            if plan.pairwise:
                gather(run, part, own_run)
            else:
                reporter.say("score: ranking the test split in every direction")
            for place, times in enumerate(timings):
                mine = slice(place * len(plan.seeds), (place + 1) * len(plan.seeds))
                with torch.no_grad():
                    seeded = replace(run, seeds=plan.seeds)
                    scores[place] |= score(retrievers[mine], test.restrict(part), seeded, times, own)
            del retrievers  # one pair's models are in memory at a time
    except (torch.OutOfMemoryError, MemoryError) as error:
        line = str(error).partition("\n")[0] or "out of memory"
        raise TrainingError(f"{line}; try --replicas alone, a smaller batch, or the quick profile") from error
    done = []
    for place, (each, method) in enumerate(zip(plans, methods, strict=True)):
        mine = slice(place * len(plan.seeds), (place + 1) * len(plan.seeds))
        record = {"key": each.key(), "started": started, **describe_run(each, data, modalities)}
        record["rows"] = {split.name: {m.name: len(m) for m in split} for split in (train, val, test)}
        record["config"] = plain(asdict(method.config))
        record["warnings"] = extensions(each, modalities)
        if len(plans) > 1:
            record["trained_with"] = [other.key() for other in plans if other is not each]
        times = {name: seconds / len(plans) for name, seconds in fitting.items()} | timings[place]
        whole = run if len(plans) == 1 else share(run, mine)
        record, arrays = finish(record, whole, scores[place], times, reporter)
        done.append((record, arrays | noise))
    return done


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


def part_run(run: Run, part: Part) -> Run:
    """What the model of two modalities gets: checkpoints, history, notes and arrays of its own."""
    name = "+".join(part)
    checkpoints, progress = None, None
    if run.checkpoints is not None:
        checkpoints = run.checkpoints / name
        checkpoints.mkdir(parents=True, exist_ok=True)
    if run.progress is not None:
        progress = partial(_named_epoch, run.progress, name)
    return replace(run, checkpoints=checkpoints, progress=progress, history={}, notes={}, arrays={})


def _named_epoch(progress: Any, name: str, phase: str, *numbers: Any) -> None:
    progress(f"{name}/{phase}", *numbers)


def gather(run: Run, part: Part, own: Run) -> None:
    """Enter what the model of two modalities left into that of the run, as ``<a>+<b>/<name>``."""
    for all_, new in ((run.history, own.history), (run.notes, own.notes), (run.arrays, own.arrays)):
        all_ |= {f"{'+'.join(part)}/{name}": value for name, value in new.items()}


def extensions(plan: Plan, modalities: tuple[str, ...]) -> list[str]:
    """One line if the method serves modalities that its publication does not."""
    info = plan.method.info
    others = [name for name in modalities if info.kinds and name not in info.kinds]
    if not others:
        return []
    return [
        f"beyond the publication: {info.id} is defined for {' and '.join(info.kinds)}; --pairwise extends it "
        f"to {', '.join(others)}"
    ]


def build(plan: Plan) -> Method:
    """The method of a run with its hyper-parameters."""
    values = {name: value.value for name, value in plan.recipe.items() if name not in RESERVED}
    method: Method = plan.method.load().from_values(values)
    method.beyond_kinds = plan.spec.pairwise
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
    return record, arrays | {f"method/{name}": as_array(value) for name, value in run.arrays.items()}


def prepare(
    data: MultimodalData, plan: Plan, modalities: tuple[str, ...]
) -> tuple[Split, Split, Split, dict[str, NDArray[Any]]]:
    """Training, validation and test split of a run: restricted, scaled, then subsampled (never the test).

    Noise corrupts training labels only. It is drawn for all training rows, so that a row has the same label
    whatever the profile; the subsample is that of the clean labels, so that runs with and without noise see
    the same rows and pairs stay together.

    Args:
        data: The dataset as loaded.
        plan: The run; names scaling, noise and the rows to keep.
        modalities: Those of the run.

    Returns:
        The splits, and the arrays to store about the noise: per modality ``label_noise/<modality>/selected``
        (bool, whether the label was drawn anew) and ``.../clean`` of the training rows of the run.

    Raises:
        UnsupportedError: Noise in labels of which an item may have several.
    """
    order, rows, noise = data.modalities, plan.recipe[ROWS].value, plan.spec.noise
    data = data.restrict(modalities)
    if plan.spec.scaling == "standardize":
        data = standardize(data)
    train, val = data.train, data.val
    selected: dict[str, NDArray[np.bool_]] = {}
    if noise:
        train, selected = corrupt_split(train, order, **noise)
    everything = {m.name: np.arange(len(m)) for m in train}
    kept = kept_rows(data.train, rows["train"]) if rows["train"] else everything
    arrays: dict[str, NDArray[Any]] = {}
    for name, mask in selected.items():
        arrays[f"label_noise/{name}/selected"] = mask[kept[name]]
        arrays[f"label_noise/{name}/clean"] = data.train[name].labels[kept[name]]
    if rows["train"]:
        train = take_rows(train, kept)
    if rows["val"]:
        val = subsample(val, rows["val"])
    return train, val, data.test, arrays
