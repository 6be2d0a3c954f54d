"""Studies: sets of runs, read side by side. What they are is said in :mod:`benchmark.studies.file`.

Runs that are stored are read; the others are computed one after the other, so that a study that was
interrupted goes on with the first run that is missing. This module does not import torch.
"""

from __future__ import annotations

from dataclasses import replace

from benchmark.core.registry import METHODS
from benchmark.errors import BenchmarkError, TrainingError, UnsupportedError
from benchmark.records.store import Store
from benchmark.runs.plan import make_plan
from benchmark.runs.reporter import Once, Reporter, Silent
from benchmark.runs.runner import execute, load
from benchmark.runs.spec import RunSpec
from benchmark.studies.batch import Done
from benchmark.studies.file import Study, Variant, read_document, read_study, study_file


def open_study(name: str, spec: RunSpec, reporter: Reporter | None = None) -> tuple[Study, RunSpec]:
    """A study on the dataset of ``spec``, and the spec with the study's seeds where it names none.

    Args:
        name: Of the study, or the path of its file.
        spec: Everything but method and the study's changes.
        reporter: Where to report that data are read to learn their modalities.

    Raises:
        BenchmarkError: No such study or dataset, or none of the study's methods is there.
    """
    file = study_file(name)
    methods = list(dict.fromkeys(str(run.get("method", "")) for run in read_document(file).get("run", ())))
    known = METHODS.entries()
    there = [method for method in methods if method in known]
    if not there:
        raise BenchmarkError(f"study {name}: none of its methods is there ({', '.join(methods)})")
    plan = make_plan(replace(spec, method=there[0]))
    if not plan.modalities:
        plan = load(plan, reporter or Silent())[2]
    study = read_study(file, plan.modalities, plan.profile)
    return study, replace(spec, seeds=spec.seeds or study.seeds)


def execute_study(
    study: Study,
    spec: RunSpec,
    store: Store | None = None,
    reporter: Reporter | None = None,
    *,
    force: bool = False,
) -> list[Done]:
    """Every row of a study: read from the store, or computed and stored.

    A method that is not there, cannot serve the data, or fails in training leaves its row without numbers;
    every other problem ends the study.
    """
    store, once = store or Store(), Once(reporter or Silent())
    known = METHODS.entries()
    fresh: set[str] = set()
    done = []
    for number, variant in enumerate(study.variants, 1):
        if variant.method not in known:
            done.append(Done(variant, None, f"method {variant.method} is not there"))
            continue
        once.say(f"{variant.label}, {number} of {len(study.variants)}: {variant.description}")
        try:
            one = variant_spec(variant, spec)
            outcome = execute(one, store, once, force=force and make_plan(one).key() not in fresh)
            key = outcome.run.record.key
            done.append(Done(variant, replace(outcome, cached=outcome.cached and key not in fresh)))
            if not outcome.cached:
                fresh.add(key)  # a second row of the same run reads it, with --force too
        except (UnsupportedError, TrainingError) as error:
            done.append(Done(variant, None, str(error)))
    return done


def present(study: Study) -> list[Variant]:
    """The rows whose method is there."""
    known = METHODS.entries()
    return [variant for variant in study.variants if variant.method in known]


def variant_spec(variant: Variant, spec: RunSpec) -> RunSpec:
    """The run of one row; the study's changes come after the user's."""
    return replace(spec, method=variant.method, overrides=(*spec.overrides, *variant.changes))
