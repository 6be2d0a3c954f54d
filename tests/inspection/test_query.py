"""Looking at one query: the stored ranks with names, classes and marks; careless questions get one line."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.core.dataset import DataRequest
from benchmark.evaluation.metrics import expected_random_ap
from benchmark.inspection.query import random_ap
from benchmark.records.store import Store
from benchmark.runs.runner import execute
from benchmark.runs.spec import RunSpec
from benchmark.studies.folds import fold_specs
from tests.cli.test_cli import HEAVY, modules_after
from tests.stored import rewrite
from tests.studies.test_folds import load_test, slow_ap
from tests.world import FOLDS

FRUITS = RunSpec("toy", "fruits", seeds=(1, 2))
# as fruits, but with several labels for an item and without names
MANY = (
    FOLDS.replace('"fruits"', '"many"')
    .replace("class Fruits", "class Many")
    .replace("classes=3,", 'classes=3, label_form="multi",')
    .replace("labels[ids], ids)", "(np.arange(3) != labels[ids, None]).astype(np.uint8), ids)")
    .replace("Split(part, modalities, 3)", 'Split(part, modalities, 3, "multi")')
    .replace(", class_names=tastes, items=items", "")
)
PARTED = ("query", "--from", "image", "--to", "text")


@pytest.fixture
def world_options():
    return {"datasets": {"fruits.py": FOLDS, "many.py": MANY}}


@pytest.fixture
def run(world):
    return execute(FRUITS, Store()).run


def question(run, item, *more, source="text", target="image"):
    return ("query", "--run", run.folder.name[:6], "--from", source, "--to", target, item, *more)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_answer_is_what_the_model_ranks_first(world, capsys, run, seed):
    document = world.json(capsys, *question(run, "row:4", "--seed", seed, "--top", "20"))
    test = load_test("0")
    from toy_methods.toy import Toy

    from benchmark.core.method import FitLog, RunContext
    from benchmark.runs.plan import make_plan
    from benchmark.runs.prepare import prepare
    from benchmark.runs.runner import load

    data, _, plan = load(make_plan(FRUITS), NoReporter)
    train, val, *_ = prepare(data, plan, ("image", "text"))
    fit = RunContext(seeds=(seed,), progress=lambda *_: None, checkpoints=world.folder / "a" / "b" / "c")
    fit.checkpoints.mkdir(parents=True)
    values = {name: value.value for name, value in plan.recipe.items() if name != "subsample"}
    (model,) = Toy.from_values(values).fit(train, val, fit, FitLog())
    x, y = (model.embed(m, torch.as_tensor(test[m].features)).double().numpy() for m in ("text", "image"))
    cosine = y @ x[4] / np.linalg.norm(y, axis=1) / np.linalg.norm(x[4])
    assert [each["row"] for each in document["results"]] == np.argsort(-cosine).tolist()
    np.testing.assert_allclose([e["score"] for e in document["results"]], -np.sort(-cosine), atol=1e-6)
    relevant = test["image"].labels == test["text"].labels[4]
    assert [each["relevant"] for each in document["results"]] == relevant[np.argsort(-cosine)].tolist()
    assert document["ap"] == pytest.approx(slow_ap(cosine, relevant), abs=1e-6)
    assert document["database"] == {"modality": "image", "items": 13, "relevant": int(relevant.sum())}
    own = [each for each in document["results"] if each["own_item"]]
    assert [each["row"] for each in own] == [8]  # text rows are stored the other way round
    assert document["run"]["seed"] == seed


class NoReporter:
    say = warn = staticmethod(lambda text: None)


def test_names_characters_and_rows_find_the_same_item(world, capsys, run):
    by_row = world.json(capsys, *question(run, "row:12", source="image", target="text"))
    assert by_row["query"] == {
        "modality": "image",
        "row": 12,
        "name": "red apple",
        "symbol": chr(0x1F30C),
        "class": "sweet",
    }
    symbol = chr(0x1F30C)
    for direction in ("12", symbol, f"{symbol}\ufe0f", "row:12 "):
        assert world.json(capsys, *question(run, direction, source="image", target="text")) == by_row
    for name in ("green pear", "GREEN  Pear"):
        found = world.json(capsys, *question(run, name))["query"]
        assert (found["row"], found["name"]) == (11, "green pear")


def test_the_table_says_what_is_relevant_in_words_and_names_the_run(world, capsys, run):
    code, out, err = world.call(capsys, *question(run, "green pear", "--top", "5"))
    document = world.json(capsys, *question(run, "green pear", "--top", "5"))
    assert (code, err) == (0, "")
    assert len(document["results"]) == 5
    lines = [line for line in out.splitlines() if re.match(r" *\d+ ", line)]
    assert len(lines) == 5
    for line, each in zip(lines, document["results"], strict=True):
        assert line.split()[0] == str(each["rank"])
        for part in (each["symbol"], each["name"], each["class"], f"{each['score']:.3f}"):
            assert part in line
        assert ("✓ relevant" in line) == each["relevant"]
        assert ("own item" in line) == each["own_item"]
    assert f"AP of this query {document['ap']:.3f} (random ranking {document['chance']:.3f})" in out
    assert f"{document['database']['relevant']} of 13 image items are relevant" in out
    assert "Toy on Fruits: official data, split 0, quick profile, seed 1 of 1,2" in out
    assert run.folder.name in out
    assert "STAND-IN" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_query_without_its_own_item(world, capsys):
    run = execute(RunSpec("toy", "fruits", leave_own_out=True), Store()).run
    with_it = execute(RunSpec("toy", "fruits"), Store()).run
    one, other = (world.json(capsys, *question(each, "3", "--top", "20")) for each in (run, with_it))
    assert one["database"]["items"] == other["database"]["items"] - 1 == 12
    assert one["database"]["relevant"] == other["database"]["relevant"] - 1
    assert not any(each["own_item"] for each in one["results"])
    kept = [each["row"] for each in other["results"] if not each["own_item"]]
    assert [each["row"] for each in one["results"]] == kept
    assert one["chance"] < other["chance"]
    assert "own item is not in the database" in world.call(capsys, *question(run, "3"))[1]


def test_rows_and_classes_where_nothing_has_a_name(world, capsys):
    run = execute(RunSpec("toy", "blobs"), Store()).run
    document = world.json(capsys, *question(run, "17", source="audio"))
    assert document["query"]["name"] == "row 17"
    assert document["query"]["class"].startswith("class ")
    out = world.call(capsys, *question(run, "17", source="audio"))[1]
    assert "STAND-IN DATA" in out
    assert f"row {document['results'][0]['row']} " in out
    err = world.refused(capsys, *question(run, "apple", source="audio"))
    assert "no item names" in err
    assert "0 to 59" in err


def test_several_labels_are_all_shown_and_one_in_common_is_relevant(world, capsys):
    run = execute(RunSpec("toy", "many"), Store()).run
    document = world.json(capsys, *question(run, "0"))
    assert document["query"]["class"].count("class ") == 2
    assert all(each["relevant"] for each in document["results"])  # two of three labels: one is shared
    assert document["ap"] == pytest.approx(1)


def test_the_latest_run_of_a_method_or_a_dataset(world, capsys, run):
    rewrite(run.folder, started="1025-01-01T00:00:00")  # long ago
    later = execute(RunSpec("toy", "fruits", request=DataRequest(split="1")), Store()).run
    blobs = execute(RunSpec("toy", "blobs"), Store()).run
    rewrite(blobs.folder, started="3025-01-01T00:00:00")
    (world.results / "zz").mkdir()
    for names, expected in (
        (("--dataset", "fruits"), later),
        (("--method", "toy", "--dataset", "fruits"), later),
        (("--method", "toy"), blobs),
    ):
        code, out, err = world.call(capsys, *PARTED, *names, "0")
        assert code == 0
        assert f"run {expected.folder.name}" in out
        assert "WARNING" in err
        assert str(world.results / "zz") in err
    assert f"run {blobs.folder.name}" in world.call(capsys, *PARTED, "--run", "latest", "0")[1]


def test_an_item_is_found_on_the_fold_that_tests_it(world, capsys, run):
    by_name = (*PARTED, "--dataset", "fruits")
    assert world.call(capsys, *by_name, "green pear")[0] == 0
    code, _, err = world.call(capsys, *by_name, chr(0x1F300 + 20))
    assert (code, "other splits" in err) == (2, False)
    for spec in fold_specs(replace(FRUITS, request=DataRequest(split="all"))):
        execute(spec, Store())
    execute(replace(FRUITS, request=DataRequest(split="0"), leave_own_out=True), Store())
    assert world.call(capsys, *by_name, "--method", "toy", chr(0x1F300 + 20))[0] == 2  # other terms
    shutil.rmtree(Store().all()[0][-1].folder)
    found = world.json(capsys, *by_name, chr(0x1F300 + 20))
    assert (found["run"]["split"], found["query"]["name"]) == ("1", "red date")
    assert "of the 3 stored splits" in world.refused(capsys, *by_name, "quince")


def test_a_run_on_the_users_own_features_is_found_by_its_description(tmp_path, monkeypatch, capsys):
    from benchmark.cli.main import main

    for name in ("RESULTS", "CACHE"):
        monkeypatch.setenv(f"BENCHMARK_{name}", str(tmp_path / name))
    rng = np.random.default_rng(0)
    labels = {"train": np.arange(30) % 3, "test": np.arange(6) % 3}
    arrays = {f"{s}_{m}_labels": y for s, y in labels.items() for m in "ab"}
    arrays |= {f"{s}_{m}": rng.normal(size=(len(y), 4)) for s, y in labels.items() for m in "ab"}
    np.savez(tmp_path / "own.npz", **arrays)
    own = tmp_path / "own.toml"
    own.write_text('file = "own.npz"\nmodalities = ["a", "b"]\npairs = "rows"\nvalidation_share = 0.2\n')
    assert main(["run", "--method", "mcca", "--dataset", str(own), "--device", "cpu", "--quiet"]) == 0
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["query", "--dataset", "own.toml", "--from", "a", "--to", "b", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["query"]["row"] == 2


def test_the_data_are_found_where_they_were_or_where_they_are_now(world, capsys):
    root = world.data("5")
    run = execute(RunSpec("toy", "blobs", request=DataRequest(data_root=root)), Store()).run
    before = world.json(capsys, *question(run, "7"))
    assert before["run"]["source"] == "official"
    moved = shutil.move(root, world.folder / "elsewhere")
    assert "no blobs.txt" in world.refused(capsys, *question(run, "7"))
    assert world.json(capsys, *question(run, "7", "--data-root", moved)) == before


def test_other_data_than_those_of_the_run_are_refused(world, capsys):
    root = world.data("5")
    run = execute(RunSpec("toy", "blobs", request=DataRequest(data_root=root)), Store()).run
    world.data("6")
    assert "no longer the data of run" in world.refused(capsys, *question(run, "7"))


def test_a_run_without_rankings_is_refused(world, capsys, run):
    rewrite(run.folder, lambda document: document.pop("top"))
    assert "stored without rankings" in world.refused(capsys, *question(run, "7"))


ERRORS = {
    "near": (("green paer",), "nearest: 'green pear'"),
    "far": (("qqqq",), "nothing is near"),
    "empty": ((" ",), "nothing is near"),
    "several": (
        ("red apple",),
        "are called 'red apple': row:0 (sweet), row:12",
    ),
    "row": (("row:13",), "no row 13: the test rows of text of fruits, split 0 are 0 to 12"),
    "number": (("99",), "0 to 12"),
    "top": (("3", "--top", "21"), "the first 1 to 20"),
    "no top": (("3", "--top", "0"), "the first 1 to 20"),
    "seed": (("3", "--seed", "7"), "unknown seed of this run '7'"),
    "from": (("3", "--from", "txt"), "did you mean 'text'"),
    "to": (("3", "--to", "video"), "unknown modality of this run 'video'"),
    "same": (("3", "--to", "text"), "--from and --to are both text"),
    "run": (("3", "--run", "zzzz"), "no stored run starts with 'zzzz'"),
    "hidden": (("3", "--run", ".l"), "no stored run starts with '.l'"),
    "two ways": (("3", "--method", "toy"), "--run names one run already"),
    "no run": (("3", "--run", ""), "which run?"),
    "no such": (("3", "--run", "", "--dataset", "blobs"), "no stored run of --dataset blobs"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_careless_questions_get_one_line_and_exit_code_2(world, capsys, run, name):
    arguments, part = ERRORS[name]
    asked = (*question(run, arguments[0]), *arguments[1:])
    assert part in world.refused(capsys, *asked)
    _, out, _ = world.call(capsys, *asked, "--json")
    assert part in json.loads(out)["error"]


def test_the_beginning_of_an_id_must_fit_one_run(world, capsys, run):
    key = run.record.key
    shutil.copytree(run.folder, world.results / f"{key[:8]}other")
    assert f"2 stored runs start with '{key[:8]}'" in world.refused(capsys, *PARTED, "--run", key[:8], "3")
    assert world.call(capsys, *PARTED, "--run", key, "3")[0] == 0
    assert world.call(capsys, *PARTED, "--run", key[:-1] + "x", "3")[0] == 2


def test_looking_needs_no_torch(world, run):
    code, modules = modules_after(world, *question(run, "green pear"))
    assert code == 0
    assert not set(HEAVY) & set(modules)


def test_a_terminal_without_emoji_still_reads(world, run):
    world.variables["PYTHONIOENCODING"] = "ascii"
    out, err = world.start(*question(run, "green pear")).communicate()
    assert err == ""
    assert "? relevant" in out


@pytest.mark.parametrize(("relevant", "items"), [(0, 5), (1, 1), (1, 7), (3, 3), (4, 59), (50, 500)])
def test_chance_is_that_of_the_measures(relevant, items):
    expected = expected_random_ap(torch.tensor([relevant]), items).item()
    assert random_ap(relevant, items) == pytest.approx(expected, abs=1e-9)
