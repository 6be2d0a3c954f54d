"""Which runs may stand in one table or be tested against each other.

This module imports neither numpy nor torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from benchmark.errors import BenchmarkError

BLOCK = ("dataset", "fingerprint", "split", "modalities")
"""What numbers of one dataset have in common, and those of different datasets do not."""


FOLD_FIELDS = ("method", "profile", "seeds", "precision", "scaling", "modalities")
"""What the runs of all folds agree in, as their records name it."""


class IncomparableError(BenchmarkError):
    """Runs that differ in something which makes their numbers mean different things; it is named."""


def terms(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the numbers of a run depend on besides method, hyper-parameters, seeds and precision.

    How a method is trained (paired or paired-free) is its own affair and not among them: the publication has
    both in one table.

    Args:
        record: A run record.
    """
    data = record["dataset"]
    split = data["split"] or next(iter(data.get("splits", ())), "")
    facts = {
        "dataset": data["id"],
        "source": data["source"],
        "profile": record["profile"],
        "split": split,
        "modalities": list(record["modalities"]),
        "leave_own_out": False,
        "label_noise": {},
    }
    comparability = {k: v for k, v in record["comparability"].items() if k != "protocol"}
    return facts | comparability


def fold_terms(record: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but the data that the runs of all folds have in common."""
    # records made earlier hold the method's group there, as "protocol"
    facts = {k: v for k, v in record["comparability"].items() if k not in ("fingerprint", "protocol")}
    facts["pairwise"] = record.get("protocol") == "pairwise"
    same = {name: record[name] for name in FOLD_FIELDS} | facts
    recipe = {name: value["value"] for name, value in record["recipe"].items()}
    return same | {"source of the data": record["dataset"]["source"], "recipe": recipe}


def comparable(records: Sequence[Mapping[str, Any]], ignore: Collection[str] = ()) -> dict[str, Any]:
    """What runs have in common that must stand together.

    Args:
        records: Run records, in the order of a table; one or more.
        ignore: Fields that may differ: ``BLOCK`` for a table with several datasets, nothing for a
            comparison on the same queries.

    Returns:
        The common :func:`terms`, without the ignored.

    Raises:
        IncomparableError: Two runs that differ; names field, values and runs.
    """
    if not records:
        raise BenchmarkError("there are no runs to compare")
    first = _kept(records[0], ignore)
    for record in records[1:]:
        other = _kept(record, ignore)
        for name in [*first, *(name for name in other if name not in first)]:
            if first.get(name) != other.get(name):
                values = f"{_short(first.get(name))} and {_short(other.get(name))}"
                raise IncomparableError(
                    f"runs {_name(records[0])} and {_name(record)} differ in {name} ({values}); "
                    "their numbers are not comparable"
                )
    return first


def _kept(record: Mapping[str, Any], ignore: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in terms(record).items() if name not in ignore}


def _name(record: Mapping[str, Any]) -> str:
    return f"{record['key'][:16]} ({record['method']['id']} on {record['dataset']['id']})"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={each}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return "+".join(map(str, value))
    text = str(value)
    return text if len(text) <= 20 else f"{text[:12]}..."
