"""All sixteen methods of the publication are there, called what it calls them."""

import csv
from pathlib import Path

import pytest

from benchmark.core.registry import METHODS
from benchmark.inspection.card import card

with (Path(__file__).parents[2] / "results/published/methods.csv").open(
    newline="", encoding="utf-8"
) as lines:
    PRINTED = list(csv.DictReader(lines))


@pytest.mark.parametrize("row", PRINTED, ids=lambda row: row["id"])
def test_a_method_is_registered_as_printed(row):
    info = METHODS.get(row["id"]).info
    assert (info.title, info.venue, str(info.year)) == (row["display_name"], row["venue"], row["year"])
    assert (info.group, info.modalities) == (row["group"], row["modalities"])


@pytest.mark.parametrize("row", PRINTED, ids=lambda row: row["id"])
def test_its_card_says_what_it_minimises_and_where_it_departs(row):
    found = card(METHODS.get(row["id"]))
    assert "ublic code" in found["description"]
    assert "Where this differs" in found["description"] or "No public code" in found["description"]
    for profile in ("paper", "quick"):
        assert all(value["source"] for value in found["recipe"][profile].values())
