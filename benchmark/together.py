"""Runs that differ only in numbers a method takes per replica: trained in one fit, each stored as its own.

A record does not depend on whether its run was trained alone or in company, but for rounding, ``timings``
(every run gets an equal share) and ``trained_with``. This module does not import torch before a run has to be
computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from benchmark.plan import Plan, RunSpec, canonical, make_plan
from benchmark.runner import Outcome, Reporter, Silent, announce, confirm_device, load, look_up
from benchmark.store import Store


def groups(specs: Iterable[RunSpec], store: Store, *, force: bool = False) -> list[tuple[RunSpec, ...]]:
    """Runs that are not stored and may train together, as groups of two or more.

    Args:
        specs: What is asked for; equal runs count once.
        store: Where stored runs are found.
        force: Take stored runs too.

    Raises:
        BenchmarkError: A name that does not exist.
    """
    found: dict[str, dict[str, RunSpec]] = {}
    for spec in specs:
        plan = make_plan(spec)
        if look_up(plan, store, force=force) is None:
            found.setdefault(_common(plan), {}).setdefault(_recipe(plan), spec)
    return [tuple(group.values()) for group in found.values() if len(group) > 1]


def execute_together(
    specs: Sequence[RunSpec],
    store: Store | None = None,
    reporter: Reporter | None = None,
    *,
    force: bool = False,
) -> list[Outcome]:
    """Compute and store a group of :func:`groups` in one fit; what is stored by now is left alone.

    Arguments and errors as in :func:`benchmark.runner.execute`. If one run fails, none is stored.
    """
    store, reporter = store or Store(), reporter or Silent()
    plans = [make_plan(spec) for spec in specs]
    announce(plans[0], reporter)
    store.prepare()
    plans = [confirm_device(plan, reporter) for plan in plans]
    data, seconds, first = load(plans[0], reporter)
    keys = {key: plan for plan in (replace(p, known=first.known) for p in plans) if (key := plan.key())}
    with ExitStack() as locks:
        for key in sorted(keys):  # always in this order: two processes never wait for each other
            locks.enter_context(store.lock(key))
        stored = {key: None if force else store.find(key) for key in keys}
        missing = {key: keys[key] for key, run in stored.items() if run is None}
        if missing:
            from benchmark.compute import compute

            group = hashlib.sha256("".join(missing).encode()).hexdigest()
            shared = None if force else store.shared(first.training_data())
            todo = list(missing.values())
            computed = compute(todo, data, seconds, store.partial(group), shared, reporter)
            stored |= {record["key"]: store.save(record, arrays) for record, arrays in computed}
            store.clear_partial(group)
    return [Outcome(run, cached=key not in missing) for key, run in stored.items() if run is not None]


def _recipe(plan: Plan) -> str:
    return canonical({name: value.value for name, value in plan.recipe.items()})


def _common(plan: Plan) -> str:
    """What runs of one group have in common."""
    own = plan.method.load().per_replica
    recipe = {name: value.value for name, value in plan.recipe.items() if name not in own}
    spec = replace(plan.spec, overrides=())
    alone = "" if own else _recipe(plan)  # a method that takes nothing per replica trains every run alone
    return canonical([str(spec), plan.device, plan.profile, plan.seeds, recipe, alone])
