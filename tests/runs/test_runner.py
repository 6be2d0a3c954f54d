"""The runner: what a record says, when a run is the same run, and what happens when it does not end well."""

import json
import os
import signal
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.core.dataset import DataRequest, find_dataset, make_dataset
from benchmark.core.option import declared
from benchmark.errors import (
    BenchmarkError,
    MissingDataError,
    RecipeError,
    TrainingError,
    UnknownNameError,
    UnsupportedError,
)
from benchmark.records.record import Value
from benchmark.records.store import Store
from benchmark.runs.plan import canonical, make_plan, metric_version
from benchmark.runs.profile import choose_device, choose_profile, cuda_likely
from benchmark.runs.provenance import plain
from benchmark.runs.reporter import STANDIN_WARNING, Silent
from benchmark.runs.runner import execute, preview
from benchmark.runs.spec import RunSpec
from tests.studies.test_folds import slow_ap
from tests.world import Listening

SPEC = RunSpec("toy", "blobs", seeds=(1, 2))
PAIRS = {f"{a}->{b}" for a in ("image", "text", "audio") for b in ("image", "text", "audio") if a != b}


def test_a_record_says_everything(world):
    reporter = Listening()
    outcome = execute(SPEC, Store(), reporter)
    record = outcome.run.record
    assert not outcome.cached
    assert outcome.run.folder == world.results / record.key[:16]
    assert record.method.id == "toy"
    assert record.comparability == {
        "fingerprint": record.dataset.fingerprint,
        "metric_version": metric_version(),
        "schema": record.schema,
    }
    assert record.dataset.source == "standin"
    assert record.protocol == "paired-free"
    assert record.dataset.more["shapes"]["train"] == {
        "image": [1200, 5],
        "text": [1200, 6],
        "audio": [1200, 7],
    }
    assert (record.profile, record.seeds, record.scaling) == ("quick", (1, 2), "raw")
    assert (record.options, record.words) == ({}, ())
    assert record.recipe["ridge"] == Value(3.0, "section 1, blobs", "paper.blobs")
    assert record.config["unlisted"] == 7
    assert record.history == {"main": {"loss": [[1.0, 1.0], [0.5, 0.5]]}}
    assert reporter.epochs == [("main", 1, 2), ("main", 2, 2)]
    assert record.device["type"] == "cpu"
    assert record.versions["torch"] == torch.__version__
    assert set(record.timings) == {"load", "fit", "embed", "score", "total"}
    assert reporter.warned[0] == STANDIN_WARNING
    assert tuple(reporter.warned[1:]) == record.warnings  # of ties, if any
    assert any("profile quick" in line for line in reporter.said)
    for metric in ("map@all", "map@50"):
        assert set(record.results[metric]) == PAIRS
        per_seed = np.array(list(record.results[metric].values()))
        assert per_seed.shape == (6, 2)
        np.testing.assert_allclose(per_seed.mean(axis=0), record.averages[metric])
        for direction, values in record.results[metric].items():
            ap = outcome.run.arrays(f"ap/{metric}/{direction}")[f"ap/{metric}/{direction}"]
            assert ap.shape == (2, 60)
            np.testing.assert_allclose(ap.mean(axis=1), values, rtol=1e-6)
        top, scores = (
            outcome.run.arrays(f"{n}/{direction}")[f"{n}/{direction}"] for n in ("top", "top_score")
        )
        assert (top.shape, top.dtype, scores.dtype) == ((2, 60, 20), np.int32, np.float32)
        assert (np.diff(scores) <= 0).all()
    assert record.top == 20
    assert outcome.run.arrays("method/maps")["method/maps"].shape == (2, 5, 4)
    assert list((world.results / ".partial").iterdir()) == []


def test_the_numbers_are_those_of_the_model_on_the_whole_test_split(world):
    record = execute(SPEC, Store()).run.record
    entry, request = find_dataset("blobs", DataRequest())
    dataset = make_dataset(entry)
    test = dataset.load(dataset.locate(request)).test
    maps = Store().find(record.key).arrays("method/maps")["method/maps"]
    from toy_methods.toy import Toy

    from benchmark.core.method import FitLog, RunContext
    from benchmark.core.subsample import subsample

    data = dataset.load(dataset.locate(request))
    run = RunContext(seeds=(1, 2), progress=Silent().epoch, checkpoints=world.folder / "a" / "b" / "c")
    run.checkpoints.mkdir(parents=True)
    toy = Toy.from_values({"ridge": 3.0, "steps": 2})
    models = toy.fit(subsample(data.train, 1000), subsample(data.val, 500), run, FitLog())
    np.testing.assert_array_equal(maps[1], models[1].maps["image"].numpy())
    for seed in (0, 1):
        x, y = (
            models[seed].embed(m, torch.as_tensor(test[m].features)).double().numpy()
            for m in ("image", "text")
        )
        x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
        relevant = test["image"].labels[:, None] == test["text"].labels
        expected = np.mean([slow_ap(*each) for each in zip(x @ y.T, relevant, strict=True)])
        assert record.results["map@all"]["image->text"][seed] == pytest.approx(expected, abs=1e-6)
        assert expected > record.chance["image->text"] + 0.2


def test_the_same_run_is_read_not_computed(world):
    first = execute(SPEC, Store())
    second = execute(SPEC, Store())
    assert second.cached
    assert second.run.record == first.run.record
    assert world.fits == 1
    assert not execute(SPEC, Store(), force=True).cached
    assert world.fits == 2
    assert len(world.stored) == 1


def test_the_same_command_gives_the_same_bits(world):
    records = [execute(SPEC, Store(world.folder / name)).run for name in "ab"]
    assert records[0].record.results == records[1].record.results
    first, second = (run.arrays() for run in records)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_training_sees_no_test_row_and_quick_sizes_only(world):
    record = execute(SPEC, Store()).run.record
    assert record.notes["rows"] == {
        "train": dict.fromkeys(("image", "text", "audio"), 1000),
        "val": dict.fromkeys(("image", "text", "audio"), 500),
    }
    assert record.notes["largest"] < 100  # audio test rows lie at 10,000
    assert record.rows["test"]["audio"] == 60
    assert {sizes["queries"] for sizes in record.sizes.values()} == {60}


def test_paper_profile_takes_every_row_and_three_seeds(world):
    record = execute(RunSpec("toy", "blobs", profile="paper"), Store()).run.record
    assert record.seeds == (1, 2, 3)
    assert record.rows["train"]["image"] == 1200
    assert record.recipe["steps"].value == 40


def test_standardize_uses_training_statistics(world):
    record = execute(replace(SPEC, scaling="standardize"), Store()).run.record
    assert 2 < record.notes["largest"] < 10
    assert record.dataset.fingerprint == execute(SPEC, Store()).run.record.dataset.fingerprint


def test_restricted_modalities_are_all_there_is(world):
    record = execute(replace(SPEC, modalities=("audio", "image")), Store()).run.record
    assert record.modalities == ("image", "audio")
    assert record.is_partial
    assert set(record.results["map@all"]) == {"image->audio", "audio->image"}
    assert set(record.notes["rows"]["train"]) == {"image", "audio"}


CHANGES = {
    "seeds": {"seeds": (1,)},
    "profile": {"profile": "paper"},
    "precision": {"precision": "fp64"},
    "scaling": {"scaling": "standardize"},
    "modalities": {"modalities": ("image", "text")},
    "recipe": {"overrides": ("ridge=4",)},
    "rows": {"overrides": ("subsample.train=900",)},
    "split": {"request": DataRequest(split="odd")},
    "own items left out": {"leave_own_out": True},
}
SAME = {
    "device": {"device": "cpu"},
    "replicas": {"replicas": "alone"},
    "order of seeds": {"seeds": (2, 1)},
    "all modalities named": {"modalities": ("text", "audio", "image")},
    "profile named": {"profile": "quick"},
    "source named": {"request": DataRequest(source="standin")},
    "a value set to what it is": {"overrides": ("ridge=3",)},
    "the split that is the default": {"request": DataRequest(split="even")},
}


def test_the_key_changes_with_what_changes_the_result_and_with_nothing_else(world):
    first = execute(SPEC, Store()).run.record.key
    keys = [execute(replace(SPEC, **change), Store()).run.record.key for change in CHANGES.values()]
    assert len({first, *keys}) == len(CHANGES) + 1
    fits = world.fits
    for name, change in SAME.items():
        assert execute(replace(SPEC, **change), Store()).run.record.key == first, name
    assert world.fits == fits


def test_changed_data_are_another_run(world):
    root = world.data("5")
    file, spec = root / "blobs.txt", replace(SPEC, request=DataRequest(data_root=root))
    record = execute(spec, Store()).run.record
    assert record.dataset.source == "official"
    assert record.dataset.files == (str(file),)
    assert make_plan(spec).key() == record.key
    file.write_text("6")
    os.utime(file, ns=(1, 1))
    assert make_plan(spec).key() is None
    assert execute(spec, Store()).run.record.key != record.key


def test_a_fingerprint_that_is_wrongly_remembered_is_found_out(world):
    root = world.data("5")
    file, spec = root / "blobs.txt", replace(SPEC, request=DataRequest(data_root=root))
    stamp = file.stat().st_mtime_ns
    first = execute(spec, Store()).run.record
    file.write_text("6")
    os.utime(file, ns=(stamp, stamp))  # other content, and every sign of the old one
    second = execute(spec, Store(), force=True).run.record
    assert second.key != first.key
    assert make_plan(spec).key() == second.key


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"x": 1}', "[" * 100_000])
def test_without_remembered_fingerprints_the_data_are_read_and_the_run_found(world, content):
    execute(SPEC, Store())
    memory = world.folder / "cache" / "fingerprints.json"
    if content is None:
        memory.unlink()
    else:
        memory.write_text(content)
    assert execute(SPEC, Store()).cached
    assert make_plan(SPEC).known is not None


def test_a_damaged_name_among_the_fingerprints_stops_no_run(world):
    spec = replace(SPEC, modalities=("image", "text"))
    execute(spec, Store())
    memory = world.folder / "cache" / "fingerprints.json"
    memory.write_text(memory.read_text().replace('"image"', '"imbge"'))
    assert execute(spec, Store()).cached


def test_a_cache_that_cannot_be_written_is_no_obstacle(world, monkeypatch):
    (world.folder / "file").write_text("")
    monkeypatch.setenv("BENCHMARK_CACHE", str(world.folder / "file"))
    reporter = Listening()
    execute(SPEC, Store(), reporter)
    assert any("fingerprint not remembered" in line for line in reporter.warned)


def test_failures_are_not_stored_and_the_next_run_completes(world):
    fails = replace(SPEC, overrides=("mode=fail",))
    for _ in range(2):
        with pytest.raises(TrainingError, match="loss became nan"):
            execute(fails, Store())
    assert world.fits == 2
    assert world.stored == []


@pytest.mark.parametrize(
    ("spec", "error", "part"),
    [
        (replace(SPEC, overrides=("mode=broken",)), TrainingError, "NaN"),
        (replace(SPEC, overrides=("mode=short",)), TrainingError, "0 models for 2 seeds"),
        (replace(SPEC, overrides=("ridge=-1",)), RecipeError, "must not be negative"),
        (replace(SPEC, modalities=("image",)), UnsupportedError, "at least two"),
    ],
)
def test_runs_that_cannot_be_are_refused_and_nothing_is_stored(world, spec, error, part):
    with pytest.raises(error, match=part):
        execute(spec, Store())
    assert world.stored == []


@pytest.mark.parametrize(
    ("spec", "error", "part"),
    [
        (replace(SPEC, method="tyo"), UnknownNameError, "did you mean 'toy'"),
        (replace(SPEC, dataset="blob"), UnknownNameError, "did you mean 'blobs'"),
        (replace(SPEC, dataset="mine.toml"), BenchmarkError, "mine.toml: no such file"),
        (replace(SPEC, modalities=("imag",)), UnknownNameError, "did you mean 'image'"),
        (replace(SPEC, device="cuda"), BenchmarkError, "no CUDA device"),
        (replace(SPEC, device="gpu"), BenchmarkError, "expected auto, cpu"),
        (replace(SPEC, overrides=("rigde=1",)), UnknownNameError, "did you mean 'ridge'"),
        (replace(SPEC, request=DataRequest(data_root=Path("no/where"))), BenchmarkError, "no such folder"),
        (replace(SPEC, request=DataRequest(source="official")), MissingDataError, "--data-root"),
        (replace(SPEC, request=DataRequest(split="prime")), BenchmarkError, "no split 'prime'"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_read(world, monkeypatch, spec, error, part):
    monkeypatch.setattr("benchmark.runs.runner.load", lambda *_: pytest.fail("data were read"))
    with pytest.raises(error) as caught:
        execute(spec, Store())
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unwritable_results_folder_is_refused_before_anything_is_read(world, monkeypatch):
    monkeypatch.setattr("benchmark.runs.runner.load", lambda *_: pytest.fail("data were read"))
    (world.folder / "file").write_text("")
    with pytest.raises(BenchmarkError, match="cannot be written"):
        execute(SPEC, Store(world.folder / "file"))


@pytest.mark.parametrize(
    "change",
    [{"precision": "fp8"}, {"scaling": "log"}, {"replicas": "both"}, {"seeds": (1, 1)}, {"seeds": (-1,)}],
)
def test_a_spec_that_makes_no_sense_cannot_be_made(change):
    with pytest.raises(BenchmarkError):
        replace(SPEC, **change)


def test_valid_choices_are_named():
    with pytest.raises(UnknownNameError, match=r"unknown profile 'fast'.* Valid: auto, paper, quick$"):
        replace(SPEC, profile="fast")


def test_the_precisions_are_those_methods_know():
    from benchmark.core.method import PRECISIONS

    assert set(declared(RunSpec)["precision"].choices) == set(PRECISIONS)


def test_the_metric_version_is_that_of_the_metrics():
    from benchmark.evaluation.metrics import METRIC_VERSION

    assert metric_version() == METRIC_VERSION


def test_models_that_score_pairs_are_asked_once_per_direction(world):
    record = execute(replace(SPEC, overrides=("mode=direct",)), Store()).run.record
    entry, request = find_dataset("blobs", DataRequest())
    dataset = make_dataset(entry)
    test = dataset.load(dataset.locate(request)).test
    x, y = (test[m].features.astype(np.float64) for m in ("image", "text"))
    labels = test["image"].labels, test["text"].labels
    for direction, (q, d), (lq, ld) in (
        ("image->text", (x, y), labels),
        ("text->image", (y, x), labels[::-1]),
    ):
        scores = q[:, :5] @ d[:, :5].T + d[:, 0]
        ap = []
        for row, label in zip(scores, lq, strict=True):
            hits = (ld == label)[np.argsort(-row)]
            ap.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean() if hits.any() else 0.0)
        assert record.results["map@all"][direction][0] == pytest.approx(np.mean(ap), abs=1e-6)


def test_a_preview_says_what_would_be_done_and_does_nothing(world):
    before = preview(make_plan(SPEC), Store())
    assert before["stored"] == ""
    assert "known once" in before["key"]
    assert not world.results.exists()
    record = execute(SPEC, Store()).run.record
    after = preview(make_plan(SPEC), Store())
    assert after["key"] == record.key
    assert after["stored"] == str(world.results / record.key[:16])
    assert after["recipe"] == record.to_json()["recipe"]


def test_auto_profile_follows_the_device():
    assert choose_profile("auto", "cuda:1")[0] == "paper"
    assert choose_profile("auto", "cpu")[0] == "quick"
    assert choose_profile("paper", "cpu") == ("paper", "")
    assert choose_device("auto", cuda=True) == "cuda"
    assert choose_device("auto", cuda=False) == "cpu"
    assert choose_device("cpu", cuda=True) == "cpu"


def test_the_guess_about_cuda_agrees_with_torch(monkeypatch):
    cuda_likely.cache_clear()
    assert cuda_likely() == torch.cuda.is_available()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cuda_likely.cache_clear()
    assert not cuda_likely()
    cuda_likely.cache_clear()


def test_a_wrong_guess_about_cuda_is_put_right(world, monkeypatch):
    monkeypatch.setattr("benchmark.runs.profile.cuda_likely", cache(lambda: True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reporter = Listening()
    record = execute(SPEC, Store(), reporter).run.record
    assert (record.profile, record.device["type"]) == ("quick", "cpu")
    assert any("no usable CUDA device" in line for line in reporter.said)
    with pytest.raises(BenchmarkError, match="use cpu"):
        execute(replace(SPEC, device="cuda"), Store(), force=True)


def test_json_holds_whatever_a_method_notes():
    value = {
        "tensor": torch.ones(2),
        "array": np.array([[1.5]]),
        "number": np.float32(2),
        "nan": float("nan"),
        "path": Path("a"),
        3: (1, None, True),
    }
    expected = {"tensor": [1.0, 1.0], "array": [[1.5]], "number": 2.0, "nan": None, "path": "a"}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == expected | {"3": [1, None, True]}


def test_canonical_text_does_not_depend_on_the_order_of_entries():
    assert canonical({"b": 1, "a": (1, 2)}) == canonical({"a": [1, 2], "b": 1}) == '{"a":[1,2],"b":1}'


SLOW = ("run", "--method", "toy", "--dataset", "blobs", "--set", "mode=slow", "--set", "steps=200")


def wait_for(condition, seconds=30):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "nothing happened"
        time.sleep(0.02)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_kill_and_interrupt_in_training_leave_nothing_half_written(world):
    process = world.start(*SLOW)
    wait_for(lambda: world.fits == 1 or process.poll() is not None)
    process.kill()
    process.communicate()
    assert world.stored == []
    # Without what is left behind the next one would train slowly again: it is there to be resumed from.
    assert list((world.results / ".partial").glob("*/seen"))
    spec = RunSpec("toy", "blobs", overrides=("mode=slow", "steps=200"))
    record = execute(spec, Store()).run.record
    assert record.notes["resumed"]
    assert world.stored == [record.key[:16]]
    assert list((world.results / ".partial").iterdir()) == []

    process = world.start(*SLOW, "--seeds", "7", "--quiet")
    wait_for(lambda: world.fits == 3 or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert "interrupted; nothing was stored" in err
    assert "Traceback" not in err
    assert world.stored == [record.key[:16]]


def test_two_processes_do_not_do_the_same_run_twice(world):
    arguments = ("run", "--method", "toy", "--dataset", "blobs", "--set", "mode=slow", "--set", "steps=20")
    both = [world.start(*arguments, "--json") for _ in range(2)]
    documents = []
    for process in both:
        out, err = process.communicate()
        assert process.returncode == 0, err
        documents.append(json.loads(out))
    assert world.fits == 1
    assert sorted(document["cached"] for document in documents) == [False, True]
    assert documents[0]["results"] == documents[1]["results"]
