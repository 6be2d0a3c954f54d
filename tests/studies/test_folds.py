"""Every fold a run of its own, the query's own item left out, and the numbers of all folds together."""

from dataclasses import replace
from statistics import fmean, stdev

import numpy as np
import pytest
import torch

from benchmark.cli.view import run as show
from benchmark.core.dataset import DataRequest, find_dataset, make_dataset
from benchmark.errors import BenchmarkError, UnsupportedError
from benchmark.evaluation.metrics import expected_random_ap
from benchmark.records.comparable import changes, why_not_comparable
from benchmark.records.store import Store, StoredRun
from benchmark.runs.reporter import Silent
from benchmark.runs.runner import Outcome, execute, execute_plan
from benchmark.runs.spec import RunSpec
from benchmark.studies.folds import execute_folds, pool
from tests.stored import make_record
from tests.world import DATASET, FOLDS

ALL = RunSpec("toy", "fruits", request=DataRequest(split="all"), seeds=(1, 2))
COMMAND = ("run", "--method", "toy", "--dataset", "fruits", "--split", "all", "--seeds", "1,2")
WAYS = ("image->text", "text->image")
# as blobs, but nothing is paired with audio
PARTLY = DATASET.replace('"blobs"', '"partly"').replace("class Blobs", "class Partly").replace(
    "labels, np.arange(rows))", "labels, None if m == 'audio' else np.arange(rows))"
)  # fmt: skip


@pytest.fixture
def world_options():
    return {"datasets": {"fruits.py": FOLDS, "partly.py": PARTLY}}


def load_test(name):
    entry, request = find_dataset("fruits", DataRequest(split=name))
    dataset = make_dataset(entry)
    return dataset.load(dataset.locate(request)).test


def slow_ap(scores, relevant, left_out=None):
    rows = [row for row in np.argsort(-scores) if row != left_out]
    hits = [rank for rank, row in enumerate(rows, 1) if relevant[row]]
    return fmean((found / rank for found, rank in enumerate(hits, 1))) if hits else 0.0


# --- one item left out


@pytest.mark.parametrize("mode", ["ok", "direct"])
def test_own_items_are_left_out_in_every_measure(world, mode):
    spec = RunSpec("toy", "fruits", overrides=(f"mode={mode}",), leave_own_out=True)
    run = execute(spec, Store()).run
    test = load_test("0")
    image, text = test["image"], test["text"]
    x, y = (m.features.astype(np.float64) for m in (image, text))
    for direction, q, d, pair in (("image->text", image, text, (x, y)), ("text->image", text, image, (y, x))):
        own = [int(np.flatnonzero(d.pair_ids == one)[0]) for one in q.pair_ids]
        relevant = q.labels[:, None] == d.labels
        counts = torch.as_tensor(relevant.sum(1) - 1)
        chance = expected_random_ap(counts, len(d) - 1).mean().item()
        assert run.record.chance[direction] == pytest.approx(chance)
        top, ap = (
            run.arrays(f"{name}/{direction}")[f"{name}/{direction}"][0] for name in ("top", "ap/map@all")
        )
        for row in range(len(q)):
            found = top[row][top[row] >= 0]
            assert sorted({*found.tolist(), own[row]}) == list(range(len(d)))
            assert own[row] not in found
            hits = relevant[row][found]
            assert ap[row] == pytest.approx(slow_ap(-np.arange(len(found)), hits), abs=1e-6)
            if mode == "direct":
                scores = pair[0][row] @ pair[1].T + pair[1][:, 0]
                assert ap[row] == pytest.approx(slow_ap(scores, relevant[row], own[row]), abs=1e-6)


def test_leaving_own_items_out_is_another_run_and_says_so(world, capsys):
    plain = execute(RunSpec("toy", "fruits"), Store()).run.record
    record = execute(RunSpec("toy", "fruits", leave_own_out=True), Store()).run.record
    assert plain.key != record.key
    assert record.to_json()["leave_own_out"] is record.comparability["leave_own_out"] is True
    assert record.options == {"leave_own_out": True}
    assert "leave_own_out" not in {**plain.to_json(), **plain.comparability, **plain.options}
    assert record.chance["image->text"] < plain.chance["image->text"]
    assert "run with --leave-own-out" in why_not_comparable(record)
    assert changes(record) == "leave-own-out"
    out = world.call(capsys, "run", "--method", "toy", "--dataset", "fruits", "--leave-own-out")[1]
    assert "answered from the store" in out
    assert "without its own item in the database" in out


def test_without_pairs_there_is_nothing_to_leave_out(world):
    spec = RunSpec("toy", "partly", leave_own_out=True)
    with pytest.raises(UnsupportedError) as caught:
        execute(spec, Store())
    assert "no test rows of image and audio are paired" in str(caught.value)
    assert "--modalities" in str(caught.value)
    assert world.fits == 0
    execute(replace(spec, modalities=("image", "text")), Store())


# --- all folds


def test_every_fold_is_a_run_found_again_and_every_item_counts_once(world):
    outcomes = execute_folds(ALL, Store())
    document = pool(outcomes)
    assert [outcome.run.record.dataset.split for outcome in outcomes] == ["0", "1", "2"]
    assert world.fits == len(world.stored) == 3
    ids = np.concatenate([load_test(name)["image"].pair_ids for name in "012"])
    assert sorted(ids) == list(range(34))
    for metric in ("map@all", "map@50"):
        for direction in WAYS:
            name = f"ap/{metric}/{direction}"
            ap = np.concatenate([o.run.arrays(name)[name] for o in outcomes], axis=1)
            assert ap.shape == (2, 34)
            found = document["results"][metric][direction]
            assert found["per_seed"] == pytest.approx(ap.mean(axis=1, dtype=np.float64).tolist())
            assert found["mean"] == pytest.approx(ap.mean(dtype=np.float64))
            splits = [fmean(o.run.record.results[metric][direction]) for o in outcomes]
            assert found["per_split"] == pytest.approx(splits)
            assert found["split_sd"] == pytest.approx(stdev(splits))
            assert abs(found["mean"] - fmean(splits)) > 1e-6  # folds are not of one size
        average = document["averages"][metric]
        assert average["mean"] == pytest.approx(fmean(document["results"][metric][w]["mean"] for w in WAYS))
    sizes = (13, 12, 9)
    chances = [o.run.record.chance["text->image"] for o in outcomes]
    assert document["chance"]["text->image"] == pytest.approx(np.average(chances, weights=sizes))
    assert document["queries"] == dict.fromkeys(WAYS, 34)
    single = replace(ALL, request=DataRequest(split="1"))
    assert execute(single, Store()).cached
    assert all(outcome.cached for outcome in execute_folds(ALL, Store()))
    assert pool(execute_folds(ALL, Store()))["results"] == document["results"]
    assert world.fits == 3


def test_an_interrupted_sequence_repeats_no_finished_fold(world, monkeypatch, capsys):
    from benchmark.studies import batch

    calls = []

    def interrupted(plan, *arguments, **options):
        calls.append(plan.spec.request.split)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return execute_plan(plan, *arguments, **options)

    monkeypatch.setattr(batch, "execute_plan", interrupted)
    assert world.call(capsys, *COMMAND)[0] == 130
    assert len(world.stored) == 2
    monkeypatch.setattr(batch, "execute_plan", execute_plan)
    document = world.json(capsys, *COMMAND)
    assert [run["cached"] for run in document["runs"]] == [True, True, False]
    assert world.fits == 3


def test_the_command_prints_the_pooled_table_and_every_run(world, capsys):
    code, out, err = world.call(capsys, *COMMAND)
    assert code == 0
    document = world.json(capsys, *COMMAND)
    for summary in (*document["results"]["map@all"].values(), document["averages"]["map@50"]):
        assert f"{summary['mean']:.3f} ±{summary['split_sd']:.3f}" in out
    for value in document["chance"].values():
        assert f"({value:.3f})" in out
    assert "over the queries of 3 splits" in out
    assert "mean over 2 seeds" in out
    assert "split 2, 3 of 3" in err
    assert all(run["key"][:16] in out for run in document["runs"])
    assert sorted(run["key"][:16] for run in document["runs"]) == world.stored
    assert max(map(len, out.splitlines())) <= 80
    listed = world.call(capsys, "results")[1]
    assert "split 2" in listed
    assert "split 0" not in listed  # the default


def test_a_dry_run_lists_the_folds_and_computes_nothing(world, capsys):
    document = world.json(capsys, *COMMAND, "--dry-run")
    assert len(document["runs"]) == 3
    assert world.fits == 0


@pytest.mark.parametrize(
    ("dataset", "part"), [("blobs", "(even, odd) are alternatives"), ("flowers.toml", "one split only")]
)
def test_what_is_no_set_of_folds_is_not_pooled(world, capsys, monkeypatch, dataset, part):
    if dataset.endswith(".toml"):
        from benchmark.core.info import DatasetInfo
        from benchmark.core.registry import DATASETS, Entry

        info = DatasetInfo("features", "Own", (), 0, "")
        entries = {"features": Entry("features", "toy", info, None)}
        monkeypatch.setattr(DATASETS, "entries", lambda: entries)
        monkeypatch.chdir(world.folder)
        (world.folder / dataset).write_text("")
    err = world.refused(capsys, "run", "--method", "toy", "--dataset", dataset, "--split", "all", alone=False)
    assert len(err.splitlines()) == 1
    assert part in err
    assert world.stored == []


def test_warnings_are_given_once(world):
    said = []
    reporter = Silent()
    reporter.warn = said.append
    entries = world.folder / "toy_datasets" / "fruits.py"
    entries.write_text(entries.read_text().replace('"official"', '"standin"'))
    execute_folds(ALL, Store(), reporter)
    assert len([line for line in said if "STAND-IN" in line]) == 1


def fold(split="0", name="a", fingerprint="f", **changes):
    """The run of one fold."""
    facts = {"dataset__fingerprint": fingerprint, "comparability__fingerprint": fingerprint}
    record = make_record(name, dataset__split=split, dataset__splits=["0", "1"], **facts, **changes)
    return Outcome(StoredRun(None, record), cached=True)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"profile": "quick"}, "differ in profile"),
        ({"dataset__source": "standin"}, "differ in source"),
        ({"comparability__metric_version": 2}, "differ in metric_version"),
        ({"comparability__leave_own_out": True}, "differ in leave_own_out"),
        ({"options": {"pairwise": True}}, "differ in pairwise"),
        ({"options": {"precision": "tf32"}}, "differ in precision"),
        ({"recipe__ridge__value": 1.0}, "differ in recipe"),
        ({"method__version": 2}, "differ in method"),
    ],
)
def test_runs_that_differ_in_more_than_the_fold_are_not_pooled(changes, part):
    with pytest.raises(BenchmarkError, match=f"splits 0 and 1 {part};"):
        pool([fold(), fold("1", "b", "g", **changes)])


def test_the_same_data_twice_are_no_folds():
    with pytest.raises(BenchmarkError, match="hold the same data"):
        pool([fold(), fold("1")])


def test_twenty_directions_fit_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    names = ("image", "text", "audio", "3d", "sketch")
    directions = [f"{a}->{b}" for a in names for b in names if a != b]
    summary = {"mean": 0.4567, "per_seed": [0.45, 0.46], "per_split": [0.4, 0.5], "split_sd": 0.0707}
    each = {"averages": {"map@all": [0.4, 0.5]}, "chance": dict.fromkeys(directions, 0.1), "cached": False}
    show.pooled(
        {
            "method": {"title": "DRCL"},
            "dataset": {"title": "T", "source": "official"},
            "profile": "quick",
            "seeds": [1, 2],
            "splits": ["0", "1"],
            "modalities": names,
            "words": ["every query without its own item in the database"],
            "results": {m: dict.fromkeys(directions, summary) for m in ("map@all", "map@50")},
            "averages": dict.fromkeys(("map@all", "map@50"), summary),
            "chance": dict.fromkeys(directions, 0.143),
            "runs": [each | {"split": s, "key": s * 64, "warnings": ["w"]} for s in "01"],
        }
    )
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("0.457 ±0.071") == 42
    assert out.count("(0.143)") == 20
    assert out.count("warning: 2 of 2 runs have warnings; split 0: w") == 1
