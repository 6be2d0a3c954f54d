"""The paper profile holds the published settings of every method on every published dataset."""

import pytest

from benchmark.core.registry import METHODS
from benchmark.runs.recipe import resolve

DATASETS = ("wikipedia", "nuswide", "websearch", "xmedia", "xmedianet")
SEARCHED = {"default": 0.0}  # no rate is known: the grid is tried
XMEDIA_RATES = {"image": 8e-4, "text": 3e-4, "audio": 8e-4, "3d": 3e-3, "video": 4e-4}
SDML_RATES = {"image": 1e-4, "default": 2e-4}

TABLE = {
    "drcl": {
        "dim": (2048, 2048, 512, 512, 512),
        "epochs": (200, 100, 100, 300, 100),
        "batch": (1024,) * 5,
        "lr": ({"image": 6e-6, "text": 5e-3}, SEARCHED, SEARCHED, XMEDIA_RATES, XMEDIA_RATES),
        "lr_spl": (5e-4,) * 5,
        "alpha": (0.1,) * 5,
        "beta": (0.1,) * 5,
        "eta": (1.0,) * 5,
        "mix": (0.9,) * 5,
    },
    "sdml": {
        "dim": (512,) * 5,
        "epochs": (200,) * 5,
        "batch": (100, 100, 500, 100, 500),
        "lr": (SDML_RATES,) * 5,
        "alpha": (0.5,) * 5,
    },
    "mars": {
        "dim": (128, 128, 256, 128, 256),
        "epochs": (50, 200, 200, 200, 200),
        "batch": (64, 64, 200, 64, 200),
        "alpha1": (1.0,) * 5,
        "beta1": (0.5,) * 5,
        "alpha2": (1.0,) * 5,
        "beta2": (0.2,) * 5,
    },
    "mcca": {
        "kappa": ([1e-3, 1e-2, 1e-1, 1.0],) * 5,
        "k": ([10, 20, 50, 100, 200],) * 5,
    },
}
MARS_RATES = {
    "wikipedia": {"image": 1e-4, "text": 5e-4},
    "nuswide": {"image": 1e-4, "text": 2e-4},
    "websearch": {"image": 1e-4, "text": 2e-4},
    "xmedia": {"image": 1e-4, "text": 2e-4, "audio": 1e-4, "3d": 2e-4, "video": 2e-4},
    "xmedianet": {"image": 1e-4, "text": 2e-4, "video": 1e-4, "audio": 2e-4, "3d": 2e-4},
}
GUESSED = {  # nothing is published of these
    "drcl": {"nuswide": ("lr",), "websearch": ("lr",), "xmedianet": ("lr",)},
    "sdml": dict.fromkeys(("websearch", "xmedianet"), ("dim", "epochs", "batch", "lr", "alpha")),
    "mars": {"websearch": ("dim", "epochs", "batch", "lr")},
    "mcca": dict.fromkeys(DATASETS, ("kappa", "k")),
}


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("method", TABLE)
def test_published_settings(method, dataset):
    recipe = resolve(METHODS.get(method), dataset, "paper")
    wanted = {name: row[DATASETS.index(dataset)] for name, row in TABLE[method].items()}
    assert {name: recipe[name].value for name in wanted} == wanted
    assert all(value.source.strip() for value in recipe.values())
    for name in GUESSED[method].get(dataset, ()):
        assert "not published" in recipe[name].source


@pytest.mark.parametrize("dataset", DATASETS)
def test_rates_of_mars(dataset):
    rates = resolve(METHODS.get("mars"), dataset, "paper")["lr"].value
    wanted = MARS_RATES[dataset]
    assert {name: rates.get(name, rates["default"]) for name in wanted} == wanted
