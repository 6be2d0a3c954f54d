"""The card of a method: what the decorator, the docstring and the recipe say."""

import pytest

from benchmark.core.registry import METHODS
from benchmark.inspection.card import card
from benchmark.runs.recipe import VARIANT, variants
from tests.world import METHOD, RECIPE

VARIANTS = """
[variant.published]
ridge = { value = 2, source = "public code, main.py" }
steps = { value = 3, source = "public code, train.py" }
[variant.published.blobs]
mode = { value = "direct", source = "public code, blobs.py" }
"""
DOCSTRING = (
    '"""Toy: ridge regression.\n\n    minimise |XW - Y|\n\nDiffers from the public code: a ridge."""\n'
)


@pytest.fixture
def world_options():
    return {"recipe": RECIPE + VARIANTS, "methods": {"toy.py": DOCSTRING + METHOD}}


def changed(document, name="published"):
    return {(c["name"], c["dataset"]): (c["recommended"], c["value"]) for c in document["variants"][name]}


def test_a_card_holds_what_decorator_docstring_and_recipe_say(world, capsys):
    document = world.json(capsys, "show", "toy")
    assert document["citation"] == {"paper": "Ridge regression", "venue": "Nowhere", "year": 2000, "doi": ""}
    assert document["group"] == "paired-free"
    assert document["protocol"]["modalities"] == "many"
    assert "minimise |XW - Y|" in document["description"]
    assert document["description"].endswith("Differs from the public code: a ridge.")
    assert document["recipe"]["paper"]["steps"] == {"value": 40, "source": "section 2", "origin": "paper"}
    assert document["recipe"]["quick"]["steps"]["value"] == 2


def test_variants_list_what_they_change_and_only_that(world, capsys):
    found = changed(world.json(capsys, "show", "toy"))
    assert found == {  # ridge is 2 in both
        ("steps", ""): ({"paper": 40, "quick": 2}, 3),
        ("mode", "blobs"): ({"paper": "ok", "quick": "ok"}, "direct"),
    }


def test_on_a_dataset_its_own_layers_count(world, capsys):
    document = world.json(capsys, "show", "toy", "--dataset", "blobs")
    assert document["dataset"] == "blobs"
    assert document["recipe"]["paper"]["ridge"]["value"] == 3.0
    assert changed(document) == {
        ("ridge", "blobs"): ({"paper": 3.0, "quick": 3.0}, 2.0),
        ("steps", "blobs"): ({"paper": 40, "quick": 2}, 3),
        ("mode", "blobs"): ({"paper": "ok", "quick": "ok"}, "direct"),
    }


def test_the_text_shows_them_too(world, capsys):
    code, out, _ = world.call(capsys, "show", "toy")
    assert code == 0
    text = " ".join(out.split())
    for part in (
        "Ridge regression. Nowhere 2000",
        "paired-free: all modalities at once; uses labels",
        "minimise |XW - Y|",
        "variant published: what --set variant=published changes",
        "40 (paper), 2 (quick)",
        "mode (blobs)",
        "public code, blobs.py",
        "quick profile, where it differs",
    ):
        assert part in text


def test_a_variant_runs_under_a_key_of_its_own(world, capsys):
    run = ("run", "--method", "toy", "--dataset", "blobs", "--quiet")
    plain, chosen = world.json(capsys, *run), world.json(capsys, *run, "--set", "variant=published")
    assert plain["key"] != chosen["key"]
    assert "variant" not in plain["recipe"]
    assert chosen["recipe"]["variant"]["value"] == "published"
    assert chosen["config"]["mode"] == "direct"
    named = world.json(capsys, *run, "--set", "variant=recommended")
    assert (named["key"], named["cached"]) == (plain["key"], True)
    assert "variant=publi" in "".join(world.call(capsys, "results")[1].split())  # folded


@pytest.mark.parametrize(
    ("name", "part"),
    [("blobs", "blobs is a dataset; see `data describe blobs`"), ("tyo", "did you mean 'toy'")],
)
def test_what_is_no_method_gets_one_line(world, capsys, name, part):
    assert part in world.refused(capsys, "show", name)


@pytest.mark.parametrize("name", sorted(METHODS.entries()))
def test_ours_state_objective_citation_and_every_source(name):
    entry = METHODS.get(name)
    document = card(entry)
    assert document["description"]
    assert document["citation"]["paper"]
    for recipe in document["recipe"].values():
        assert all(value["source"] for value in recipe.values())
    assert set(document["variants"]) == set(variants(entry)[1:])
    for changes in document["variants"].values():
        assert changes, "a variant that changes nothing"
        assert VARIANT not in {change["name"] for change in changes}
