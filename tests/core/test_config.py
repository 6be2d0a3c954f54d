"""Hyper-parameters say in their types what they may be."""

import math
from dataclasses import field
from typing import Annotated, Any, Literal

import pytest

from benchmark.core.config import (
    Betas,
    Config,
    Count,
    Least,
    Part,
    Positive,
    Rates,
    Share,
    Weight,
    Whole,
    Widths,
    hints,
    words,
)


class Settings(Config):
    hidden: Widths = (4,)
    grid: Annotated[tuple[Weight, ...], Least(2)] = (0.1, 1.0)
    dim: Count = 2
    skip: Whole = 0
    alpha: Weight = 0.5
    tau: Positive = 1.0
    share: Share = 1.0
    part: Part = 0.0
    betas: Betas = (0.5, 0.9)
    lr: Rates = field(default_factory=lambda: {"default": 1e-3})
    norm: Literal["row", "all"] = "row"
    flag: bool = False
    name: str = ""
    extra: Any = None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden": [4, 0]}, "hidden must be a whole number at least 1; got 0"),
        ({"hidden": 4}, "hidden must be a list, each a whole number at least 1; got 4"),
        ({"hidden": "ab"}, "hidden must be a list"),
        ({"dim": 2.0}, "dim must be a whole number"),
        ({"dim": True}, "dim must be a whole number"),
        ({"skip": -1}, "skip must be a whole number at least 0; got -1"),
        ({"alpha": -0.1}, "alpha must be a number at least 0; got -0.1"),
        ({"alpha": math.nan}, "alpha must be a number"),
        ({"tau": 0}, "tau must be a number above 0; got 0"),
        ({"share": 1.5}, "share must be a number from 0 to 1; got 1.5"),
        ({"betas": [0.5]}, r"betas must be a list of 2, each a number from 0 to 1; got \[0.5\]"),
        ({"part": 1}, "part must be a number from 0 to 1, not 1; got 1"),
        ({"grid": [1]}, r"grid must be a list, each a number at least 0 \(of length 2 or more\); got \[1\]"),
        ({"grid": "ab"}, r"grid must be a list, each a number at least 0 \(of length 2 or more\); got 'ab'"),
        ({"grid": [1, -1]}, "grid must be a number at least 0; got -1"),
        ({"lr": {"image": 1.0}}, r"lr must be a table, each a number at least 0 \(default among them\)"),
        ({"lr": {"image": -1.0}}, "lr.image must be a number at least 0; got -1.0"),
        ({"lr": 1e-3}, "lr must be a table, each a number at least 0"),
        ({"norm": "column"}, "norm must be row or all; got 'column'"),
        ({"flag": 1}, "flag must be true or false; got 1"),
        ({"name": 3}, "name must be a text; got 3"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(values, message):
    with pytest.raises(ValueError, match=message):
        Settings(**values)


def test_what_fits_comes_as_its_type_says():
    made = Settings(hidden=[1, 2], alpha=1, betas=[0, 1], lr={"default": 1}, extra=[1])
    assert (made.hidden, made.betas, made.lr, made.extra) == ((1, 2), (0.0, 1.0), {"default": 1.0}, [1])
    assert isinstance(made.alpha, float)
    with pytest.raises(AttributeError):
        made.alpha = 2.0


def test_an_empty_list_fits_and_a_large_number_too():
    assert Settings(hidden=[]).hidden == ()
    assert Settings(dim=10**30).dim == 10**30


def test_valid_values_in_words():
    allowed = {name: words(hint) for name, hint in hints(Settings).items()}
    assert allowed["hidden"] == "a list, each a whole number at least 1"
    assert allowed["norm"] == "row or all"
    assert allowed["extra"] == "anything"
