"""Run options: each is declared once, and everything that depends on it is derived from the declaration."""

import pytest

from benchmark.core.dataset import DataRequest
from benchmark.runs import plan
from benchmark.runs.fingerprints import Known
from benchmark.runs.plan import make_plan
from benchmark.runs.spec import RunSpec
from tests.world import World


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path, monkeypatch)
    monkeypatch.setattr(plan, "recall", lambda *_: Known("f" * 64, ("image", "text", "audio")))
    monkeypatch.setattr(plan, "metric_version", lambda: 1)
    yield made
    made.close()


NOISE = {"label_noise": 0.4, "label_noise_mode": "asym", "label_noise_seed": 3}
KEYS = {
    "plain": ({}, "d216dea4d87bbe921d7b33a6f96aaa4719c5d13f936630ca949c05d19c3d9876"),
    "seeds": ({"seeds": (5, 2)}, "91254714c7e17efc99890179a1e76c050ffc3c5caf0096e190f2fdbcf755ae3a"),
    "profile": ({"profile": "paper"}, "dddf6b0f57be010b22bc75beec91feead58745b123a94e356730f91b355d046f"),
    "precision": ({"precision": "bf16"}, "72eb68ec1537fa1359a433190ff0b69b4ef360275a629da7b5658693f98ee800"),
    "scaling": (
        {"scaling": "standardize"},
        "fccd4ec2e587287a2c825337aea18f82a4d3d5b5e8e1212debae3b5f9aacf021",
    ),
    "modalities": (
        {"modalities": ("text", "image")},
        "676670a03641abbd1ff2c02e4479b8e442bf29510b39bdfd38aa31ab14b707b0",
    ),
    "overrides": (
        {"overrides": ("ridge=4", "subsample.train=900")},
        "064666c8edae284d3e45282430e2c5a788f5eb791fe59db1be91ac3287d41fec",
    ),
    "own items": (
        {"leave_own_out": True},
        "f2a49414e4fad55a7762245bb78725683e44b844157056892391c64ab195207c",
    ),
    "pairwise": ({"pairwise": True}, "3362d97bb09f8c9223d425a8bfb93022fff0cfab0223b37498469633b29afd52"),
    "pairwise of two": (
        {"pairwise": True, "modalities": ("text", "image")},
        "676670a03641abbd1ff2c02e4479b8e442bf29510b39bdfd38aa31ab14b707b0",
    ),
    "noise": ({"label_noise": 0.4}, "350fbfa4d5f64bd72e588b061fb27604969b369b9f4617965cd0a84e17df701f"),
    "noise of a kind": (NOISE, "73f78e80de17815b4e1edafa54dea6ef7ba4a79efb5ad54c0e1521d58d4ec364"),
    "noise in all labels": (
        {"label_noise": 1},
        "b2ba36e86f98b7af67e2f4baa01e1fa2f281c148b826439dd611d81e9a834d1b",
    ),
    "noise without effect": (
        {**NOISE, "label_noise": 0.0},
        "d216dea4d87bbe921d7b33a6f96aaa4719c5d13f936630ca949c05d19c3d9876",
    ),
    "device": ({"device": "cpu"}, "d216dea4d87bbe921d7b33a6f96aaa4719c5d13f936630ca949c05d19c3d9876"),
    "replicas": ({"replicas": "alone"}, "d216dea4d87bbe921d7b33a6f96aaa4719c5d13f936630ca949c05d19c3d9876"),
    "data": (
        {"request": DataRequest("standin", None, "odd", {"seed": "1"})},
        "d216dea4d87bbe921d7b33a6f96aaa4719c5d13f936630ca949c05d19c3d9876",
    ),
    "everything": (
        {
            **NOISE,
            "seeds": (3,),
            "profile": "paper",
            "device": "cpu",
            "precision": "tf32",
            "scaling": "standardize",
            "overrides": ("ridge=4",),
            "replicas": "together",
            "leave_own_out": True,
            "pairwise": True,
        },
        "9bebcb6fd9bf8a98148b11ad3cfb2d9f9c59a58f259b6d54c0dd0bae2906af47",
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_stay_as_they_were(world, name):
    """Stored runs are found by their key: a key that changes here is every stored run lost."""
    options, key = KEYS[name]
    assert make_plan(RunSpec("toy", "blobs", **options)).key() == key
