"""Recipes: the order of the layers, what --set accepts, and that every recipe of ours fits its method."""

import dataclasses
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.core.registry import METHODS, Entry
from benchmark.errors import RecipeError, UnknownNameError
from benchmark.runs.recipe import (
    ROWS,
    coerce,
    parse_override,
    read_layers,
    recipe_file,
    resolve,
    variants,
)
from tests.world import RECIPE


@dataclasses.dataclass(frozen=True)
class Config:
    """Of a method that lists its defaults in code only."""

    rate: float = 0.5
    layers: tuple[int, ...] = (8, 4)
    table: dict[str, float] = dataclasses.field(default_factory=lambda: {"default": 1.0})
    nothing: str | None = None


class Plugin(Entry):
    def load(self):
        return SimpleNamespace(Config=Config)


@pytest.fixture
def entry(tmp_path):
    (tmp_path / "toy.toml").write_text(RECIPE, encoding="utf-8")
    return Plugin("toy", "test", None, tmp_path / "toy.py")


@pytest.fixture
def plugin(tmp_path):
    return Plugin("bare", "test", None, tmp_path / "bare.py")


def values(recipe):
    return {name: value.value for name, value in recipe.items()}


def test_layers_overlay_in_order(entry):
    expected = {"ridge": 3.0, "steps": 2, "mode": "ok", "lr": {"image": 5e-3, "text": 5e-3}}
    recipe = resolve(entry, "blobs", "quick")
    rows = recipe.pop(ROWS)
    assert values(recipe) == expected
    assert {name: value.origin for name, value in recipe.items()} == {
        "ridge": "paper.blobs",
        "steps": "quick",
        "mode": "paper",
        "lr": "quick.blobs",
    }
    assert recipe["ridge"].source == "section 1, blobs"
    assert rows.value == {"train": 1000, "val": 500}
    assert rows.origin == "profile quick"


def test_paper_profile_and_other_datasets_see_their_own_layers_only(entry):
    paper = resolve(entry, "blobs", "paper")
    assert paper["steps"].value == 40
    assert paper["lr"].value == {"image": 1e-3, "text": 2e-3}
    assert paper[ROWS].value == {"train": 0, "val": 0}
    assert resolve(entry, "elsewhere", "quick")["ridge"].value == 2.0


def test_set_comes_last_and_says_so(entry):
    recipe = resolve(entry, "blobs", "quick", ["ridge=1", "lr.image=1e-4", "mode=slow", "subsample.train=50"])
    assert recipe["ridge"].value == 1.0
    assert type(recipe["ridge"].value) is float  # 1 and 1.0 are the same run
    assert recipe["lr"].value == {"image": 1e-4, "text": 5e-3}
    assert recipe["mode"].value == "slow"
    assert recipe[ROWS].value == {"train": 50, "val": 500}
    assert {recipe[name].origin for name in ("ridge", "lr", "mode", ROWS)} == {"--set"}


def test_a_table_per_modality_takes_a_new_modality(entry):
    changed = resolve(entry, "blobs", "quick", ["lr.audio=1"])["lr"].value
    assert changed == {"image": 5e-3, "text": 5e-3, "audio": 1.0}
    assert resolve(entry, "blobs", "quick", ["lr={ audio = 2 }"])["lr"].value == {"audio": 2.0}


VARIANTS = """
[variant.published]
ridge = { value = 7, source = "public code" }
steps = { value = 3, source = "public code" }
[variant.published.blobs]
steps = { value = 5, source = "public code, blobs" }
[variant.other]
mode = { value = "ok", source = "ours" }
"""


@pytest.fixture
def varied(entry):
    entry.path.with_suffix(".toml").write_text(RECIPE + VARIANTS, encoding="utf-8")
    return entry


def test_a_variant_lies_over_the_profile_and_under_set(varied):
    recipe = resolve(varied, "blobs", "quick", ["steps=6", "variant=published"])
    assert values(recipe)["ridge"] == 7.0
    assert type(recipe["ridge"].value) is float
    assert recipe["ridge"].origin == "variant.published"
    assert recipe["steps"].value == 6
    assert recipe["variant"].value == "published"
    assert resolve(varied, "blobs", "quick", ["variant=published"])["steps"].value == 5
    assert resolve(varied, "elsewhere", "quick", ["variant=published"])["steps"].value == 3
    assert resolve(varied, "elsewhere", "paper", ["variant=published"])["ridge"].value == 7.0


def test_the_recommended_variant_is_the_recipe_without_one(varied):
    assert resolve(varied, "blobs", "quick", ["variant=recommended"]) == resolve(varied, "blobs", "quick")
    chosen = ["variant=published", "variant=recommended"]  # the last one counts
    assert resolve(varied, "blobs", "quick", chosen) == resolve(varied, "blobs", "quick")
    assert variants(varied) == ("recommended", "published", "other")


def test_a_method_without_a_recipe_has_one_variant(plugin):
    assert variants(plugin) == ("recommended",)
    with pytest.raises(UnknownNameError, match="Valid: recommended"):
        resolve(plugin, "blobs", "paper", ["variant=published"])


@pytest.mark.parametrize("change", ["variant=publishd", "variant=1", "variant.published=1"])
def test_an_unknown_variant_is_answered_with_the_valid_ones(varied, change):
    with pytest.raises(UnknownNameError, match="Valid: other, published, recommended") as caught:
        resolve(varied, "blobs", "quick", [change])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('[variant]\nridge = { value = 1, source = "s" }', "must be in a named section"),
        ('[variant.recommended]\nridge = { value = 1, source = "s" }', "cannot be called 'recommended'"),
        ('[paper]\nvariant = { value = "a", source = "s" }', "reserved name"),
        ("[variant.a]\nridge = 1", "must be { value"),
    ],
)
def test_a_bad_variant_is_refused_with_its_place(entry, text, part):
    entry.path.with_suffix(".toml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=part):
        read_layers(entry.path.with_suffix(".toml"))


@pytest.mark.parametrize(
    ("change", "error", "part"),
    [
        ("rigde=1", UnknownNameError, "did you mean 'ridge'"),
        ("ridge", RecipeError, "expected name=value"),
        ("=1", RecipeError, "expected name=value"),
        ("ridge=big", RecipeError, "expected a number, got a word 'big'"),
        ("ridge=nan", RecipeError, "not a finite number"),
        ("lr={ image = inf }", RecipeError, "not a finite number"),
        ("ridge=true", RecipeError, "expected a number"),
        ("steps=2.5", RecipeError, "expected a whole number"),
        ("mode=3", RecipeError, "expected a word"),
        ("ridge.image=1", RecipeError, "not a table"),
        ("lr=1e-3", RecipeError, "lr.image="),
        ("lr.image=fast", RecipeError, "expected a number"),
        ("subsample.test=5", UnknownNameError, "Valid: train, val"),
        ("ridge=" + "9" * 400, RecipeError, "larger than 64 bits"),
        ("ridge=" + "9" * 5000, RecipeError, "larger than 64 bits"),
        ("ridge=" + "[" * 3000 + "]" * 3000, RecipeError, "more than 32 tables or lists deep"),
        ("ridge=" + "{a=" * 3000 + "1" + "}" * 3000, RecipeError, "more than 32 tables or lists deep"),
        ("ridge=1979-05-27", RecipeError, "a date or time"),
    ],
)
def test_set_refuses_in_one_line(entry, change, error, part):
    with pytest.raises(error) as caught:
        resolve(entry, "blobs", "quick", [change])
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_set_reaches_hyperparameters_the_recipe_does_not_list(entry):
    assert "rate" not in resolve(entry, "blobs", "quick")
    assert resolve(entry, "blobs", "quick", ["rate=2"])["rate"].value == 2.0


def test_without_a_recipe_the_defaults_of_the_method_count(plugin):
    recipe = resolve(plugin, "blobs", "paper", ["layers=[2]", "nothing=something"])
    assert recipe["rate"].value == 0.5
    assert recipe["rate"].origin == recipe["rate"].source == "method default"
    assert recipe["layers"].value == [2]
    assert recipe["nothing"].value == "something"


def test_a_recipe_in_the_recipes_folder_is_found_first(entry, tmp_path):
    assert recipe_file(entry) == tmp_path / "toy.toml"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "toy.toml").write_text("[paper]\n", encoding="utf-8")
    assert recipe_file(entry) == tmp_path / "recipes" / "toy.toml"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[paper", "not a valid TOML file"),
        ("[papers]\n", "unknown section [papers]"),
        ("[paper]\nridge = 1\n", "[paper] ridge must be { value"),
        ("[paper]\nridge = { value = 1 }\n", "must be { value"),
        ('[paper.blobs]\nridge = { value = 1, source = "s", sauce = 2 }\n', "[paper.blobs] ridge"),
        ('[paper]\nridge = { value = [1, inf], source = "s" }\n', "ridge is not a finite number"),
        ('[quick]\nsubsample = { value = 5, source = "s" }\n', "must be a table"),
        ('[quick]\nsubsample = { value = { test = 5 }, source = "s" }\n', "must be a table"),
        ("[paper]\nridge = " + "[" * 3000 + "]" * 3000, "more than 32 tables or lists deep"),
        ("[paper]\nridge = " + "9" * 5000, "larger than 64 bits"),
    ],
)
def test_a_bad_recipe_is_refused_with_its_place(entry, tmp_path, text, part):
    (tmp_path / "toy.toml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        resolve(entry, "blobs", "quick")
    assert part in str(caught.value)
    assert "toy.toml" in str(caught.value) or "quick" in str(caught.value)


@given(
    st.one_of(st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
)
def test_override_reads_back_every_number(value):
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    name, keys, read = parse_override(f" a.b = {text}")
    assert (name, keys, read) == ("a", ("b",), value)
    assert type(read) is type(value)


@given(st.text())
def test_override_never_yields_a_second_value(text):
    try:
        name, keys, value = parse_override(f"a={text}")
    except RecipeError:
        assert "inf" in text or "nan" in text
    else:
        assert (name, keys) == ("a", ())
        assert value is not None


def test_coerce_keeps_whole_numbers_whole():
    assert coerce(3, 5) == 3
    assert type(coerce(3, 5.0)) is float
    with pytest.raises(TypeError):
        coerce(True, 1)
    with pytest.raises(TypeError):
        coerce(1, True)


def test_a_value_set_to_what_it_is_keeps_its_source():
    entry = METHODS.get("sdml")
    plain, same = (resolve(entry, "xmedia", "quick", changes) for changes in ((), ("prior=orthogonal",)))
    assert same == plain
    assert resolve(entry, "xmedia", "quick", ("prior=selected",))["prior"].origin == "--set"
