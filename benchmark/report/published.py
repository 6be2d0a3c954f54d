"""The publication's numbers, and whether a run may be compared with them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.disk import published_folder
from benchmark.runs.recipe import VARIANT

TABLES = ("table2_map_all.csv", "table3_map_all.csv")
MEASURE = "map@all"


@dataclass(frozen=True)
class Comparison:
    """Our numbers beside the published ones, or the reason why there is nothing to compare.

    Attributes:
        reason: Why not; empty if there is a comparison.
        published: MAP@all per direction and ``avg``, as printed (three decimals).
        difference: Ours (mean over seeds) minus published.
    """

    reason: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    difference: Mapping[str, float] = field(default_factory=dict)


def published_numbers(dataset: str, method: str, folder: Path | None = None) -> dict[str, float]:
    """Printed MAP@all per direction and ``avg``; empty if the publication has none for this pair."""
    folder = folder or published_folder()
    numbers: dict[str, float] = {}
    if folder is None:
        return numbers
    for table in TABLES:
        with (folder / table).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if (row["dataset"], row["method"]) == (dataset, method):
                    numbers[row["direction"]] = float(row["map_all"])
    return numbers


def why_not_comparable(record: Mapping[str, Any]) -> str:
    """Everything about a run that differs from the publication's setting; empty if nothing does.

    Only official data in the paper profile, as published in every setting, may stand beside printed numbers.
    """
    reasons = []
    if (source := record["dataset"]["source"]) != "official":
        reasons.append({"standin": "stand-in data", "user": "data of your own"}.get(source, f"{source} data"))
    if record["profile"] != "paper":
        reasons.append(f"{record['profile']} profile")
    # a variant is a named set of values with sources, one of them what was published
    recipe = {name: value for name, value in record["recipe"].items() if name != VARIANT}
    changed = [name for name, value in recipe.items() if value["origin"] == "--set"]
    if changed:
        reasons.append(f"changed with --set: {', '.join(changed)}")
    if record["scaling"] != "raw":
        reasons.append("scaled features")
    if record["modalities"] != record["dataset"]["modalities"]:
        reasons.append(f"only {', '.join(record['modalities'])}")
    if record.get("leave_own_out"):
        reasons.append("own items left out of the database")
    if record.get("protocol") == "pairwise" and not record["method"].get("pairwise"):
        reasons.append("one model for every two modalities")
    if record.get("label_noise"):
        reasons.append("label noise")
    data = record["dataset"]
    if data["split"] not in ("", *data["splits"][:1]):
        reasons.append(f"split {data['split']}")
    if data["options"]:
        reasons.append(f"data options {', '.join(data['options'])}")
    return ", ".join(reasons)


def compare(record: Mapping[str, Any], folder: Path | None = None) -> Comparison:
    """A run beside the publication's numbers.

    Args:
        record: A run record.
        folder: Where the published tables are; the suite's own if not given.
    """
    if reason := why_not_comparable(record):
        return Comparison(reason)
    dataset, method = record["dataset"]["id"], record["method"]["id"]
    printed = published_numbers(dataset, method, folder)
    ours = {name: sum(seeds) / len(seeds) for name, seeds in record["results"][MEASURE].items()}
    averages = record["averages"][MEASURE]
    ours["avg"] = sum(averages) / len(averages)
    common = [name for name in ours if name in printed]
    if not common:
        return Comparison(f"the publication has no numbers for {method} on {dataset}")
    return Comparison(
        published={name: printed[name] for name in common},
        difference={name: ours[name] - printed[name] for name in common},
    )
