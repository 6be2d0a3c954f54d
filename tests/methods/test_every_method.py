"""What holds for every method of ours alike; what only one has to keep stands in its own file."""

import csv
from itertools import product
from pathlib import Path

import pytest

from benchmark.contract.method import check_method
from benchmark.core.config import Config, hints, words
from benchmark.core.registry import DATASETS, METHODS
from benchmark.errors import RecipeError
from benchmark.inspection.card import card
from benchmark.runs.recipe import RESERVED, layer_dataset, read_layers, recipe_file, resolve, variants
from tests.methods.data import build, values_of

IDS = sorted(METHODS.entries())
with (Path(__file__).parents[2] / "results/published/methods.csv").open(
    newline="", encoding="utf-8"
) as lines:
    PRINTED = {row["id"]: row for row in csv.DictReader(lines)}


def test_the_sixteen_of_the_publication_are_there():
    assert set(PRINTED) <= set(IDS)


@pytest.mark.parametrize("name", IDS)
def test_the_contract_is_kept(name):
    entry = METHODS.get(name)
    assert not entry.problem
    results = check_method(entry)
    assert {result.name: result.detail for result in results if not result.passed} == {}
    held = {result.name for result in results}
    assert {"seeds together equal each alone", "an interrupted fit resumes with the same bits"} <= held


@pytest.mark.parametrize("name", PRINTED)
def test_it_is_registered_as_printed(name):
    row, info = PRINTED[name], METHODS.get(name).info
    assert (info.title, info.venue, str(info.year)) == (row["display_name"], row["venue"], row["year"])
    assert (info.group, info.modalities) == (row["group"], row["modalities"])


@pytest.mark.parametrize("name", IDS)
def test_its_card_says_what_it_minimises_and_where_it_departs(name):
    found = card(METHODS.get(name))
    assert "ublic code" in found["description"]
    assert "Where this differs" in found["description"] or "No public code" in found["description"]
    for profile in ("paper", "quick"):
        assert all(value["source"] for value in found["recipe"][profile].values())


@pytest.mark.parametrize("name", IDS)
def test_its_recipe_fits_in_every_profile_dataset_and_variant(name):
    entry = METHODS.get(name)
    file = recipe_file(entry)
    assert file is not None, f"{name} has no recipe"
    datasets = set(DATASETS.entries())
    sections = {layer_dataset(layer) for layer in read_layers(file)} - {""}
    assert sections <= datasets, f"{file} has values for unknown datasets"
    for dataset, variant, profile in product(datasets, variants(entry), ("paper", "quick", "tiny")):
        recipe = resolve(entry, dataset, profile, (f"variant={variant}",))
        entry.load().from_values({n: v.value for n, v in recipe.items() if n not in RESERVED})


@pytest.mark.parametrize("name", IDS)
def test_its_recipe_alone_gives_the_values(name):
    config = METHODS.get(name).load().Config
    assert issubclass(config, Config)
    with pytest.raises(TypeError, match="missing"):
        config()


@pytest.mark.parametrize("name", IDS)
def test_a_value_its_type_does_not_allow_is_refused_with_what_is_valid(name):
    """A text that no choice holds, for every hyper-parameter that is not a free text."""
    allowed = {field: words(hint) for field, hint in hints(METHODS.get(name).load().Config).items()}
    assert set(allowed) == set(values_of(name))
    tried = {field: valid for field, valid in allowed.items() if valid not in ("a text", "anything")}
    assert len(tried) >= len(allowed) - 3
    for field, valid in tried.items():
        with pytest.raises(RecipeError) as refused:
            build(name, **{field: "no such choice"})
        assert str(refused.value) == f"{name}: {field} must be {valid}; got 'no such choice'"
