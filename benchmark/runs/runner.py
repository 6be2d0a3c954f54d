"""One run: data, fit, embed, score, record; or the stored record if the same run was done before.

This module does not import torch: only a run that has to be computed does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benchmark.core.data import pick_modalities
from benchmark.core.dataset import make_dataset
from benchmark.errors import BenchmarkError
from benchmark.records.store import Store, StoredRun
from benchmark.runs.fingerprints import DataIdentity, recall, remember
from benchmark.runs.plan import Plan, make_plan, protocol
from benchmark.runs.reporter import STANDIN_WARNING, Reporter, Silent
from benchmark.runs.spec import RunSpec, values

if TYPE_CHECKING:
    from benchmark.core.data import MultimodalData


@dataclass(frozen=True)
class Outcome:
    """A run that is now in the store.

    Attributes:
        run: Its record.
        cached: It was there before.
    """

    run: StoredRun
    cached: bool


def execute(
    spec: RunSpec, store: Store | None = None, reporter: Reporter | None = None, *, force: bool = False
) -> Outcome:
    """The record of a run, read from the store or computed and stored.

    Args:
        spec: What is asked for.
        store: Where records are kept; the default store if not given.
        reporter: Where to report progress; silent if not given.
        force: Compute even if the run is stored, and replace it; phases of other runs are not used either.

    Raises:
        BenchmarkError: Anything the user can set right; nothing is stored then.
    """
    reporter = reporter or Silent()
    plan = make_plan(spec)
    announce(plan, reporter)
    return execute_plan(plan, store or Store(), reporter, force=force)


def execute_plan(plan: Plan, store: Store, reporter: Reporter, *, force: bool = False) -> Outcome:
    """The same for a run that is worked out and announced already."""
    plan = plan if plan.known else replace(plan, known=recall(plan.dataset, plan.located))
    if (found := look_up(plan, store, force=force)) is not None:
        return Outcome(found, cached=True)
    store.prepare()
    plan = confirm_device(plan, reporter)
    data, seconds, plan = load(plan, reporter)
    key = plan.key()
    assert key is not None, "data were loaded"
    with store.lock(key, lambda: reporter.say("another process is computing this run; waiting for it")):
        # Found now: the data turned out to be known ones, or another process has just finished.
        if (found := look_up(plan, store, force=force)) is not None:
            return Outcome(found, cached=True)
        from benchmark.runs.compute import compute

        shared = None if force else store.shared(plan.training_data())
        record, arrays = compute(plan, data, seconds, store.partial(key), shared, reporter)
        return Outcome(store.save(record, arrays, replace=force), cached=False)


def look_up(plan: Plan, store: Store, *, force: bool = False) -> StoredRun | None:
    """The stored run of a plan; ``None`` if there is none, its key is not known yet, or ``force``."""
    key = plan.key()
    return None if key is None or force else store.find(key)


def preview(plan: Plan, store: Store) -> dict[str, Any]:
    """What :func:`execute_plan` would do, as a JSON document; nothing is read, trained or written."""
    found, key = look_up(plan, store), plan.key()
    return {
        **values(plan.settled),
        "dataset": plan.dataset.id,
        "source": plan.located.source,
        "files": [str(file) for file in plan.located.files],
        "protocol": protocol(plan.method.info, pairwise=plan.pairwise),
        "recipe": {name: vars(value) for name, value in plan.recipe.items()},
        "key": key or "known once the data have been read",
        "stored": str(found.folder) if found else "",
    }


def announce(plan: Plan, reporter: Reporter) -> None:
    """Say which profile ``auto`` meant, and warn of stand-in data."""
    if plan.profile_reason:
        reporter.say(plan.profile_reason)
    if plan.located.source == "standin":
        reporter.warn(STANDIN_WARNING)


def load(plan: Plan, reporter: Reporter) -> tuple[MultimodalData, float, Plan]:
    """Read the data of a plan.

    Returns:
        The data (all modalities, as the files are), the seconds it took, and the plan with the data's
        fingerprint, so that its key is known.
    """
    import time

    start = time.perf_counter()
    reporter.say(f"data: {plan.dataset.id} ({plan.located.source})")
    data = make_dataset(plan.dataset).load(plan.located)
    pick_modalities(plan.spec.modalities, data.modalities)
    known = DataIdentity(data.fingerprint(), data.modalities)
    if known != plan.known:
        try:
            remember(plan.dataset, plan.located, known)
        except OSError as error:
            reporter.warn(f"fingerprint not remembered, the data are read again next time: {error}")
    return data, time.perf_counter() - start, replace(plan, known=known)


def confirm_device(plan: Plan, reporter: Reporter) -> Plan:
    """The plan was made on a guess; torch knows. A wrong guess may change profile and key."""
    if not plan.device.startswith("cuda"):
        return plan
    import torch

    index = int(plan.device.partition(":")[2] or 0)
    if torch.cuda.is_available() and index < torch.cuda.device_count():
        return plan
    if plan.spec.device != "auto":
        raise BenchmarkError(
            f"--device {plan.device}: torch {torch.__version__} finds {torch.cuda.device_count()} CUDA "
            "devices (see `python -m benchmark doctor`); use cpu"
        )
    plan = make_plan(plan.spec, cuda=False)
    reporter.say(f"no usable CUDA device after all; profile {plan.profile} on the CPU")
    return plan
