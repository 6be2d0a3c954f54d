"""Which numbers may stand together: in one table, over all folds, beside those of the publication.

This module imports neither numpy nor torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from benchmark.errors import BenchmarkError
from benchmark.records.record import VARIANT, RunRecord

ROWS = ("method", "recipe", "seeds", "options")
"""What the rows of one table may differ in; options that may not are in ``comparability``, too."""
FOLDS = ("split", "fingerprint")
"""What the folds of one whole differ in."""
ARITHMETIC = ("precision",)
"""Options that change how a run is reckoned, not what; the caption names them."""


class IncomparableError(BenchmarkError):
    """Runs that differ in something which makes their numbers mean different things; it is named."""


def facts(record: RunRecord, ignore: Collection[str] = ()) -> dict[str, Any]:
    """What the numbers of a run depend on, by name; options that are off are absent.

    How a method is trained (paired or paired-free) is its own affair and not among them: the publication has
    both in one table.

    Args:
        record: Of the run.
        ignore: Names to leave out, such as :data:`ROWS`; ``options`` stands for all of them.
    """
    found: dict[str, Any] = {
        "dataset": record.dataset.id,
        "source": record.dataset.source,
        "profile": record.profile,
        "split": record.split,
        "modalities": list(record.modalities),
        "method": record.method,
        "recipe": {name: each.value for name, each in record.recipe.items()},
        "seeds": list(record.seeds),
        **({} if "options" in ignore else record.options),
        **record.comparability,
    }
    return {name: value for name, value in found.items() if name not in ignore}


def difference(a: RunRecord, b: RunRecord, ignore: Collection[str] = ()) -> str:
    """The name of the first of their :func:`facts` in which two runs differ; empty if there is none."""
    ours, theirs = facts(a, ignore), facts(b, ignore)
    return next((name for name in ours | theirs if ours.get(name) != theirs.get(name)), "")


def comparable(records: Sequence[RunRecord], ignore: Collection[str] = ROWS) -> dict[str, Any]:
    """What runs have in common that must stand together.

    Args:
        records: In the order of a table; one or more.
        ignore: Facts that may differ.

    Returns:
        The common :func:`facts`, without the ignored.

    Raises:
        IncomparableError: Two runs that differ; names fact, values and runs.
    """
    if not records:
        raise BenchmarkError("there are no runs to compare")
    first = facts(records[0], ignore)
    for record in records[1:]:
        if name := difference(records[0], record, ignore):
            values = f"{_short(first.get(name))} and {_short(facts(record, ignore).get(name))}"
            raise IncomparableError(
                f"runs {_name(records[0])} and {_name(record)} differ in {name} ({values}); "
                "their numbers are not comparable"
            )
    return first


def why_not_comparable(record: RunRecord, ignore: Collection[str] = ()) -> str:
    """Everything about a run that differs from the publication's setting; empty if nothing does.

    Only official data in the paper profile, as published in every setting, may stand beside printed numbers.

    Args:
        record: Of the run.
        ignore: ``("recipe",)`` where changed hyper-parameters are what was published.
    """
    reasons, data = [], record.dataset
    if data.source != "official":
        reasons.append("stand-in data" if record.is_standin else "data of your own")
    if record.profile != "paper":
        reasons.append(f"{record.profile} profile")
    # a variant is a named set of values with sources, one of them what was published
    changed = [name for name in record.changed if name != VARIANT]
    if changed and "recipe" not in ignore:
        reasons.append(f"changed with --set: {', '.join(changed)}")
    if record.is_partial:
        reasons.append(f"only {', '.join(record.modalities)}")
    if options := [f"--{_dashed(name)}" for name in record.options if name not in ARITHMETIC]:
        reasons.append(f"run with {' '.join(options)}")
    if record.split != record.default_split:
        reasons.append(f"split {record.split}")
    if data.options:
        reasons.append(f"data options {', '.join(data.options)}")
    return ", ".join(reasons)


def changes(record: RunRecord) -> str:
    """What sets a run apart from the plain one of its method, dataset and profile, in a few words."""
    found = [f"{name}={value}" for name, value in record.changed.items()]
    found += [f"split {record.split}"] if record.split != record.default_split else []
    found += ["+".join(record.modalities)] if record.is_partial else []
    return " ".join([*found, *(_said(name, value) for name, value in record.options.items())])


def common_words(records: Sequence[RunRecord]) -> list[str]:
    """What captions say of every one of these runs; the rest is said of single rows."""
    words = records[0].words if records else ()
    return [word for word in words if all(word in record.words for record in records)]


def _said(name: str, value: Any) -> str:
    """An option in short: ``leave-own-out``, ``standardize``, ``label-noise ratio 0.4 sym seed 3``."""
    if value is True:
        return _dashed(name)
    if isinstance(value, Mapping):
        parts = [each if isinstance(each, str) else f"{part} {_short(each)}" for part, each in value.items()]
        return " ".join([_dashed(name), *parts])
    return value if isinstance(value, str) else f"{_dashed(name)} {_short(value)}"


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _name(record: RunRecord) -> str:
    return f"{record.name} ({record.method.id} on {record.dataset.id})"


def _short(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={each}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return "+".join(map(str, value))
    text = str(value)
    return text if len(text) <= 20 else f"{text[:12]}..."
