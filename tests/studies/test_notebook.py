"""Runs from a notebook are those of the command line; what is stored is read as typed records."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import benchmark as bm
from benchmark.core.dataset import DataRequest
from benchmark.core.option import declared
from benchmark.errors import BenchmarkError, RecipeError, UnknownNameError
from benchmark.records.record import RunRecord
from benchmark.records.store import Store
from benchmark.runs.recipe import parse_override
from benchmark.runs.reporter import STANDIN_WARNING, Silent
from benchmark.runs.spec import RunSpec
from benchmark.studies.notebook import make_spec, written
from tests.stored import save
from tests.world import DRIVER, FOLDS, World

OFF = {"profile": "quick", "reporter": Silent()}


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path, monkeypatch, datasets={"fruits.py": FOLDS})
    yield made
    made.close()


def spec(changes=None, **options):
    return make_spec("toy", "blobs", changes or {}, options)


def test_a_run_is_that_of_the_command_line(world, capsys):
    changes = {"ridge": 0.2, "lr": {"image": 1e-5}, "mode": "direct"}
    options = {"seeds": (2, 1), "modalities": ("image", "text"), "split": "odd", "label_noise": 0.2}
    record = bm.run("toy", "blobs", set=changes, **options, **OFF)
    command = ["run", "--method", "toy", "--dataset", "blobs", "--profile", "quick", "--seeds", "1,2"]
    command += ["--modalities", "image,text", "--split", "odd", "--label-noise", "0.2"]
    command += ["--set", "ridge=0.2", "--set", "lr.image=1e-05", "--set", "mode=direct"]
    document = world.json(capsys, *command)
    assert isinstance(record, RunRecord)
    assert document["cached"]
    assert document["key"] == record.key
    assert record.changed == {"ridge": 0.2, "lr": {"image": 1e-5, "text": 5e-3}, "mode": "direct"}
    assert (record.seeds, record.modalities, record.split) == ((1, 2), ("image", "text"), "odd")
    assert world.fits == 1


def test_the_store_is_read_first_unless_forced(world, tmp_path):
    first = bm.run("toy", "blobs", **OFF)
    assert bm.run("toy", "blobs", **OFF) == first
    assert world.fits == 1
    assert bm.run("toy", "blobs", force=True, **OFF).key == first.key
    assert world.fits == 2
    elsewhere = tmp_path / "elsewhere"
    assert bm.run("toy", "blobs", results=str(elsewhere), **OFF).key == first.key
    assert bm.load(first.key[:8], results=elsewhere).folder.parent == elsewhere


@pytest.mark.filterwarnings("ignore:ties")
def test_standin_data_are_warned_of_unless_a_reporter_is_told(world):
    with pytest.warns(UserWarning, match=STANDIN_WARNING):
        bm.run("toy", "blobs", profile="quick")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bm.run("toy", "blobs", **OFF)


def test_every_declared_option_is_a_keyword(tmp_path):
    given = {
        "profile": "paper",
        "seeds": range(1, 3),
        "device": "cpu",
        "precision": "fp64",
        "scaling": "standardize",
        "modalities": ["text"],
        "replicas": "alone",
        "leave_own_out": True,
        "pairwise": True,
        "label_noise": 1,
        "label_noise_mode": "asym",
        "label_noise_seed": np.int64(3),
        "source": "standin",
        "data_root": str(tmp_path),
        "split": 4,
        "data_option": {"scale": 0.5, "form": "multi", "flat": True},
    }
    asked = spec({"alpha": 1}, **given)
    request = DataRequest("standin", tmp_path, "4", {"scale": "0.5", "form": "multi", "flat": "true"})
    assert asked.request == request
    assert (asked.seeds, asked.modalities, asked.label_noise, asked.label_noise_seed) == (
        (1, 2),
        ("text",),
        1,
        3,
    )
    assert asked.overrides == ("alpha=1",)
    for holder in (asked, asked.request):
        assert not [o.name for o in declared(type(holder)).values() if getattr(holder, o.name) == o.default]


def test_what_is_left_open_is_the_default():
    assert spec(seeds=None, split=None, data_root=None, modalities=()) == RunSpec("toy", "blobs")
    assert (
        spec(seeds=3) == spec(seeds="3") == spec(seeds=np.array([3])) == RunSpec("toy", "blobs", seeds=(3,))
    )
    assert spec(modalities="image, text").modalities == ("image", "text")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "unknown option of run 'seed'; did you mean 'seeds'?"),
        ({"data_options": {}}, "did you mean 'data_option'?"),
        ({"profile": "quik"}, "did you mean 'quick'?"),
        ({"seeds": (1, "a")}, "seeds must be a whole number; got 'a'"),
        ({"seeds": (1, 1)}, "a seed is given twice"),
        ({"pairwise": 1}, "pairwise must be true or false; got 1"),
        ({"label_noise": "much"}, "label_noise must be a number"),
        ({"data_option": 3}, "data_option must be a table"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(options, message):
    with pytest.raises(BenchmarkError) as refused:
        spec(**options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_hyper_parameter_that_does_not_exist_is_refused_with_the_nearest(world):
    with pytest.raises(UnknownNameError, match="did you mean 'ridge'"):
        bm.run("toy", "blobs", set={"rige": 1}, **OFF)
    with pytest.raises(BenchmarkError, match="call it for each of 0, 1, 2"):
        bm.run("toy", "fruits", split="all", **OFF)
    assert not world.stored


TEXT = st.text(max_size=8) | st.sampled_from(
    ["1", "true", " a", "learned:image", "[1]", '"', "a.b=c", "a\nb=1"]
)
PLAIN = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,5}", fullmatch=True)


@given(st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, min_size=1, max_size=3), max_size=3))
def test_changes_are_written_as_they_are_read(changes):
    try:
        texts = list(written(changes))
    except RecipeError:  # TOML has no way to write some texts
        return
    found = {}
    for text in texts:
        name, keys, value = parse_override(text)
        if keys:
            found.setdefault(name, {})[keys[0]] = value
        else:
            found[name] = value
    assert json.dumps(found) == json.dumps(changes)  # 1, 1.0 and true differ


@pytest.mark.parametrize(
    "changes", [{"a": None}, {"a": float("nan")}, {"a=b": 1}, {"": 1}, {"a": object()}, [1]]
)
def test_changes_that_cannot_be_written_are_refused(changes):
    with pytest.raises(RecipeError, match=r"^set"):
        list(written(changes))


def test_results_are_records_newest_first_and_damage_is_warned_of(world):
    store = Store()
    save(store, "old", started="2025-01-01T00:00:00")
    save(store, "new", started="2025-03-01T00:00:00", dataset="fruits")
    save(store, "middle", started="2025-02-01T00:00:00", method="other")
    assert [record.started[5:7] for record in bm.results()] == ["03", "02", "01"]
    assert [record.started[5:7] for record in bm.results(method="toy")] == ["03", "01"]
    assert [record.started[5:7] for record in bm.results(method="toy", dataset="blobs")] == ["01"]
    assert bm.results(results=world.folder / "none") == []
    (bm.load("latest").folder / "record.json").write_text("{")
    with pytest.warns(UserWarning, match="left out: .*damaged run record"):
        assert [record.started[5:7] for record in bm.results()] == ["02", "01"]


def test_a_stored_run_has_its_record_and_its_arrays(world):
    with pytest.raises(BenchmarkError, match="no stored run in"):
        bm.load()
    record = bm.run("toy", "blobs", **OFF)
    run = bm.load("latest")
    assert run.record == record == bm.load(record.key[:6]).record
    (found,) = run.arrays("ap/map@all/image->text").values()
    np.testing.assert_allclose(found.mean(axis=1), record.values("map@all", "image->text"), rtol=1e-6)
    with pytest.raises(BenchmarkError, match="no stored run starts with 'zz'"):
        bm.load("zz")


def test_what_is_stored_is_read_without_torch(world):
    bm.run("toy", "blobs", device="cpu", **OFF)
    code = DRIVER.partition("from benchmark.cli")[0] + (
        "import benchmark as bm\n"
        "record = bm.run('toy', 'blobs', device='cpu', profile='quick')\n"
        "assert record == bm.load().record == bm.results()[0]\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=world.folder, check=False
    )
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
