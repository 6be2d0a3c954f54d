"""Run options: each is declared once, and everything that depends on it is derived from the declaration."""

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
import typer

from benchmark.cli.options import takes
from benchmark.core.dataset import DataRequest
from benchmark.core.option import declared, nested, option
from benchmark.errors import BenchmarkError
from benchmark.records.store import Store
from benchmark.runs import plan
from benchmark.runs.fingerprints import DataIdentity
from benchmark.runs.plan import make_plan
from benchmark.runs.runner import execute, preview
from benchmark.runs.spec import RunSpec, changed, command, recorded


@pytest.fixture
def known(world, monkeypatch):
    """What is in a key besides options stays the same."""
    monkeypatch.setattr(plan, "recall", lambda *_: DataIdentity("f" * 64, ("image", "text", "audio")))
    monkeypatch.setattr(plan, "metric_version", lambda: 1)


def app(holder):
    """A program with one command, whose options are those of a dataclass; and what it is handed."""
    made, handed = typer.Typer(rich_markup_mode=None), []

    def do(spec: holder):
        handed.append(spec)

    made.command()(takes(holder)(do))
    return made, handed


def parse(holder, words):
    made, handed = app(holder)
    made(args=words, standalone_mode=False)
    return handed[0]


NOISE = {"label_noise": 0.4, "label_noise_mode": "asym", "label_noise_seed": 3}
KEYS = {
    "plain": ({}, "d216dea4d87bbe92"),
    "seeds": ({"seeds": (5, 2)}, "91254714c7e17efc"),
    "profile": ({"profile": "paper"}, "dddf6b0f57be010b"),
    "precision": ({"precision": "bf16"}, "72eb68ec1537fa13"),
    "scaling": ({"scaling": "standardize"}, "fccd4ec2e587287a"),
    "modalities": ({"modalities": ("text", "image")}, "676670a03641abbd"),
    "overrides": ({"overrides": ("ridge=4", "subsample.train=900")}, "064666c8edae284d"),
    "own items": ({"leave_own_out": True}, "f2a49414e4fad55a"),
    "pairwise": ({"pairwise": True}, "3362d97bb09f8c92"),
    "pairwise of two": ({"pairwise": True, "modalities": ("text", "image")}, "676670a03641abbd"),
    "noise": ({"label_noise": 0.4}, "350fbfa4d5f64bd7"),
    "noise of a kind": (NOISE, "73f78e80de17815b"),
    "noise in all labels": ({"label_noise": 1}, "b2ba36e86f98b7af"),
    "noise without effect": ({**NOISE, "label_noise": 0.0}, "d216dea4d87bbe92"),
    "device": ({"device": "cpu"}, "d216dea4d87bbe92"),
    "replicas": ({"replicas": "alone"}, "d216dea4d87bbe92"),
    "data": ({"request": DataRequest("standin", None, "odd", {"seed": "1"})}, "d216dea4d87bbe92"),
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
        "9bebcb6fd9bf8a98",
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_stay_as_they_were(known, name):
    """Stored runs are found by their key: a key that changes here is every stored run lost."""
    options, key = KEYS[name]
    assert make_plan(RunSpec("toy", "blobs", **options)).key()[:16] == key


def test_every_option_is_declared_and_pinned():
    every = {*declared(RunSpec), *nested(RunSpec)}
    assert every == {each.name for each in fields(RunSpec)}
    assert every - {"method", "dataset"} == {name for options, _ in KEYS.values() for name in options}


SPECS = {name: RunSpec("toy", "blobs", **options) for name, (options, _) in KEYS.items()}
SPECS["data in a folder"] = RunSpec(
    "toy",
    "my data.toml",
    request=DataRequest("official", Path("a b/c"), "2", {"seed": "1", "scale": "a=b"}),
    overrides=("lr.image=1", "name=two words"),
    modalities=("image", "3d"),
)


@pytest.mark.parametrize("name", SPECS)
def test_the_command_of_a_spec_asks_for_that_spec(name):
    words = shlex.split(command(SPECS[name]))
    assert words[:4] == ["python", "-m", "benchmark", "run"]
    assert parse(RunSpec, words[4:]) == SPECS[name]


def test_what_is_at_its_default_is_not_said():
    assert command(RunSpec("toy", "blobs")) == "python -m benchmark run --method toy --dataset blobs"
    assert recorded(RunSpec("toy", "blobs")) == ({}, [])
    assert set(changed(RunSpec("toy", "blobs"))) == {"method", "dataset"}


def test_records_list_changed_options_with_the_words_of_captions():
    spec = RunSpec("toy", "blobs", scaling="standardize", leave_own_out=True, label_noise=0.4, device="cpu")
    options, words = recorded(spec)
    noise = {"ratio": 0.4, "mode": "sym", "seed": 0}
    assert options == {"scaling": "standardize", "leave_own_out": True, "label_noise": noise}
    assert words == [
        "every query without its own item in the database",
        "40% of the training labels drawn anew (sym, seed 0)",
    ]


# --- one more option


def even(value):
    if value % 2:
        raise BenchmarkError(f"fuzz must be even, got {value}")


@dataclass(frozen=True)
class More(RunSpec):
    fuzz: int = option(0, help="Fuzz of everything.", check=even, words="fuzz of {}")


MORE = More("toy", "blobs", seeds=(1,), fuzz=4)


def test_a_new_option_is_in_the_help_and_parsed(capsys):
    app(More)[0](args=["--help"], standalone_mode=False)
    assert "--fuzz" in (out := capsys.readouterr().out)
    assert "Fuzz of everything.  [default: 0]" in out
    words = ["--method", "toy", "--dataset", "blobs", "--seeds", "1", "--fuzz"]
    assert parse(More, [*words, "4"]) == MORE
    assert command(MORE) == shlex.join(["python", "-m", "benchmark", "run", *words, "4"])
    with pytest.raises(BenchmarkError, match="fuzz must be even"):
        parse(More, [*words, "3"])


def test_a_new_option_leaves_keys_as_they_are_until_it_is_used(known):
    plain = RunSpec("toy", "blobs", seeds=(1,))
    assert make_plan(replace(MORE, fuzz=0)).key() == make_plan(plain).key()
    assert len({make_plan(spec).key() for spec in (plain, MORE, replace(MORE, fuzz=2))}) == 3
    assert make_plan(MORE).training_data() != make_plan(plain).training_data()


def test_a_new_option_is_in_preview_and_record(world):
    assert preview(make_plan(MORE), Store())["fuzz"] == 4
    record = execute(MORE, Store()).run.record
    assert (record.options, record.words) == ({"fuzz": 4}, ("fuzz of 4",))
    assert record.comparability["fuzz"] == 4
    plain = execute(replace(MORE, fuzz=0), Store()).run.record
    assert (plain.options, plain.words) == ({}, ())
    assert "fuzz" not in plain.comparability


def test_a_command_may_leave_options_out():
    made, handed = typer.Typer(), []

    @made.command()
    @takes(RunSpec, without={"method", "seeds"}, optional={"dataset"})
    def do(name: str, spec: RunSpec, flag: bool = False):
        handed.append((name, spec, flag))

    made(args=["one", "--precision", "fp64", "--flag"], standalone_mode=False)
    assert handed == [("one", RunSpec("", "", precision="fp64"), True)]
    with pytest.raises(typer.BadParameter.__base__):
        made(args=["one", "--seeds", "1"], standalone_mode=False)


@pytest.mark.parametrize("given", [{"seeds": (1, 10**400)}, {"label_noise_seed": 10**400}])
def test_seeds_have_64_bits(given):
    with pytest.raises(BenchmarkError, match="larger than 64 bits"):
        RunSpec("toy", "blobs", **given)
