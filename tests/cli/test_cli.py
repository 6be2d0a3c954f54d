"""The command line: one document or one line of error, nothing heavy where nothing is computed."""

import json
import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from benchmark.cli import progress as cli_progress
from benchmark.cli.main import main
from benchmark.cli.view import run as show
from benchmark.records.comparable import why_not_comparable
from benchmark.records.store import Store, StoredRun
from benchmark.report.published import compare, published_numbers
from benchmark.runs.reporter import STANDIN_WARNING
from benchmark.runs.runner import Outcome, execute
from benchmark.runs.spec import RunSpec
from tests.stored import make_record

RUN = ("run", "--method", "toy", "--dataset", "blobs", "--seeds", "1,2")
HEAVY = ("torch", "pandas", "scipy", "sklearn", "matplotlib", "toy_methods.toy")


def modules_after(world, *arguments):
    """Exit code and modules loaded once a command is done in a process of its own."""
    code = (
        "import sys; sys.argv[1:] = sys.argv[2:]; import drive\n"
        "sys.stderr.write(f'\\n{drive.code} ' + ' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "-", *arguments],
        cwd=world.folder,
        env={**os.environ, **world.variables},
        capture_output=True,
        text=True,
        check=True,
    )
    exit_code, *modules = done.stderr.rpartition("\n")[2].split()
    return int(exit_code), modules


def test_help_imports_next_to_nothing(world):
    code, modules = modules_after(world, "--help")
    assert code == 0
    assert not {*HEAVY, "numpy", "rich.console"} & set(modules)


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_stored_run_is_answered_without_torch(world, as_json):
    execute(RunSpec("toy", "blobs", seeds=(1, 2)), Store())
    code, modules = modules_after(world, *RUN, *as_json)
    assert code == 0
    assert not set(HEAVY) & set(modules)
    assert world.fits == 1


@pytest.mark.parametrize(
    "arguments", [("list", "methods"), ("list", "datasets"), ("show-config", "toy", "blobs"), ("show", "toy")]
)
def test_listing_does_not_import_torch(world, arguments):
    code, modules = modules_after(world, *arguments)
    assert code == 0
    assert not set(HEAVY) & set(modules)


def test_run_prints_the_table_and_where_it_is_stored(world, capsys):
    code, out, err = world.call(capsys, *RUN)
    assert code == 0
    for part in ("Toy on Blobs", "STAND-IN", "quick profile", "MAP@all", "MAP@50", "Mean over 6 directions"):
        assert part in out
    assert "not comparable: stand-in data, quick profile" in out
    assert str(world.results / world.stored[0]) in out.replace("\n", "")
    assert "profile quick" in err
    assert "epoch 2/2" in err
    assert f"WARNING: {STANDIN_WARNING}" in err
    code, out, err = world.call(capsys, *RUN)
    assert "answered from the store" in out
    assert "fit" not in err


def test_run_with_json_is_the_record_and_nothing_else(world, capsys):
    document = world.json(capsys, *RUN)
    record = Store().all()[0][0].record.to_json()
    assert {name: document[name] for name in record} == record
    assert {"options", "words"} <= set(record)
    assert document["cached"] is False
    assert document["comparison"]["reason"] == "stand-in data, quick profile"
    assert world.json(capsys, *RUN)["cached"] is True


def test_quiet_keeps_the_result_and_the_warnings(world, capsys):
    code, out, err = world.call(capsys, *RUN, "--quiet")
    assert code == 0
    assert "MAP@all" in out
    assert err
    assert all(line.startswith("WARNING") for line in err.splitlines())


def test_dry_run_writes_nothing(world, capsys):
    document = world.json(capsys, *RUN, "--dry-run", "--set", "ridge=9")
    assert document["recipe"]["ridge"]["value"] == 9.0
    assert not world.results.exists()
    code, out, _ = world.call(capsys, *RUN, "--dry-run")
    assert code == 0
    assert "section 1, blobs" in out


ERRORS = {
    "method": (("run", "--method", "tyo", "--dataset", "blobs"), "did you mean 'toy'"),
    "dataset": (("run", "--method", "toy", "--dataset", "blob"), "did you mean 'blobs'"),
    "no dataset": (("run", "--method", "toy"), "--dataset"),
    "option": ((*RUN, "--sets", "1"), "--sets"),
    "command": (("rnu",), "rnu"),
    "seeds": ((*RUN, "--seeds", "abc"), "--seeds 'abc': expected whole numbers such as 1,2,3"),
    "seeds again": ((*RUN, "--seeds", "1,,2"), "expected whole numbers"),
    "seeds twice": ((*RUN, "--seeds", "1,1"), "a seed is given twice"),
    "no seeds": ((*RUN, "--seeds", ""), "--seeds '': expected whole numbers such as 1,2,3"),
    "negative seed": ((*RUN, "--seeds", "-1"), "seeds must be 0 or greater, got -1"),
    "noise": ((*RUN, "--label-noise", "1.5"), "label noise must be a share from 0 to 1, got 1.5"),
    "noise in words": ((*RUN, "--label-noise", "half"), "--label-noise"),
    "kind of noise": ((*RUN, "--label-noise-mode", "asim"), "unknown label noise mode 'asim'"),
    "seed of noise": ((*RUN, "--label-noise-seed", "-1"), "the seed of label noise must be 0 or greater"),
    "device": ((*RUN, "--device", "cuda"), "no CUDA device can be used here"),
    "root": ((*RUN, "--data-root", "no/such/folder"), "--data-root no/such/folder: no such folder"),
    "modality": ((*RUN, "--modalities", "image,txt"), "did you mean 'text'"),
    "profile": ((*RUN, "--profile", "slow"), "unknown profile 'slow'"),
    "source": ((*RUN, "--source", "offical"), "did you mean 'official'"),
    "set": ((*RUN, "--set", "ridge=x"), "expected a number"),
    "data option": ((*RUN, "--data-option", "x"), "expected name=value"),
    "official": ((*RUN, "--source", "official"), "no blobs.txt"),
    "method fails": ((*RUN, "--set", "mode=fail"), "loss became nan"),
    "config": (("show-config", "toy", "blubs"), "did you mean 'blobs'"),
    "check": (("check", "toi"), "did you mean 'toy'"),
    "source to describe": (("data", "describe", "blobs", "--source", "offical"), "did you mean 'official'"),
    "describe": (("data", "describe", "blubs"), "did you mean 'blobs'"),
    "score": (("score", "no/such.npz"), "no/such.npz"),
    "query": (("query", "--run", "abc", "--from", "image", "--to", "text", "x"), "no stored run starts with"),
    "query of nothing": (("query", "--from", "image", "--to", "text", "x"), "which run?"),
    "no modality": (("query", "--run", "abc", "--to", "text", "x"), "--from"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_careless_input_gets_one_line_and_exit_code_2(world, capsys, name):
    arguments, part = ERRORS[name]
    assert part in world.refused(capsys, *arguments, alone=False)
    code, out, _ = world.call(capsys, *arguments, "--json")
    assert code == 2
    assert part in json.loads(out)["error"]
    assert world.stored == []


def test_an_unwritable_results_folder_is_one_line(world, capsys):
    (world.folder / "file").write_text("")
    assert "cannot be written" in world.refused(capsys, *RUN, "--results", world.folder / "file", alone=False)


def test_a_damaged_record_is_one_line_and_force_repairs_it(world, capsys):
    world.call(capsys, *RUN)
    (world.results / world.stored[0] / "record.json").write_text("{")
    assert f"error: {world.results / world.stored[0]}: damaged" in world.refused(capsys, *RUN, alone=False)
    assert world.call(capsys, *RUN, "--force")[0] == 0
    assert world.call(capsys, *RUN)[0] == 0


def test_a_bug_keeps_its_traceback(world, monkeypatch, capsys):
    monkeypatch.setattr("benchmark.runs.runner.load", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        world.call(capsys, *RUN)


def test_an_interrupt_is_one_line_and_exit_code_130(world, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmark.runs.runner.load", interrupt)
    code, out, err = world.call(capsys, *RUN, "--quiet")
    assert (code, out) == (130, "")
    assert err.splitlines()[-1].startswith("error: interrupted")
    code, out, _ = world.call(capsys, *RUN, "--json")
    assert code == 130
    assert "interrupted" in json.loads(out)["error"]


def test_results_keeps_sources_and_profiles_apart(world, capsys):
    assert "nothing stored" in world.call(capsys, "results")[1]
    world.call(capsys, *RUN)
    world.call(capsys, *RUN, "--set", "ridge=5")
    world.call(capsys, *RUN, "--profile", "paper", "--modalities", "image,text")
    (world.results / "zz").mkdir()
    code, out, err = world.call(capsys, "results")
    assert code == 0
    assert out.count("STAND-IN data, quick profile") == 1
    assert out.count("STAND-IN data, paper profile") == 1
    assert "ridge=5" in out
    assert all(name in out for name in world.stored if name != "zz")
    assert str(world.results / "zz") in err
    document = world.json(capsys, "results")
    assert len(document["runs"]) == 3
    assert len(document["damaged"]) == 1
    assert document["runs"][0]["averages"]["map@all"]


def test_show_config_names_value_origin_and_source(world, capsys):
    document = world.json(capsys, "show-config", "toy", "blobs", "--profile", "paper", "--set", "steps=9")
    assert document["values"]["steps"] == {"value": 9, "source": "command line", "origin": "--set"}
    assert document["values"]["ridge"]["origin"] == "paper.blobs"
    code, out, _ = world.call(capsys, "show-config", "toy", "blobs")
    assert code == 0
    assert "quick.blobs" in out
    assert "section 1, blobs" in out


def test_lists_show_what_is_broken_with_its_reason(world, capsys, monkeypatch):
    from benchmark.core.registry import METHODS, Entry

    broken = Entry("gone", "plug (entry point)", None, None, "ImportError: no module named x", external=True)
    entries = {**METHODS.entries(), "gone": broken}
    monkeypatch.setattr(METHODS, "entries", lambda: entries)
    code, out, _ = world.call(capsys, "list", "methods")
    assert code == 0
    assert "toy" in out
    assert "ImportError: no module named x" in out
    document = world.json(capsys, "list", "methods")
    assert [(each["id"], bool(each["problem"])) for each in document] == [("toy", False), ("gone", True)]
    said = world.refused(capsys, "run", "--method", "gone", "--dataset", "blobs", alone=False)
    assert "no module named x" in said


def test_data_commands(world, capsys):
    assert [each["id"] for each in world.json(capsys, "data", "list")] == ["blobs"]
    assert "no blobs.txt" in world.json(capsys, "data", "status")["blobs"]["problem"]
    assert "no blobs.txt" in world.json(capsys, "data", "verify")["blobs"]["missing"]
    (world.folder / "blobs.txt").write_text("5")
    found = world.json(capsys, "data", "status", "blobs", "--data-root", world.folder)["blobs"]
    assert found["source"] == "official"
    assert world.json(capsys, "data", "verify", "--data-root", world.folder)["blobs"]["fingerprint"]
    assert world.call(capsys, "data", "describe", "blobs")[0] == 0
    (world.folder / "blobs.txt").write_text("no number")
    with pytest.raises(ValueError, match="no number"):  # the toy's loader has a bug; it is not hidden
        world.call(capsys, "data", "verify", "--data-root", world.folder)


def test_doctor_finds_what_is_missing(world, capsys, monkeypatch):
    document = world.json(capsys, "doctor")
    assert document["ok"] is True
    assert document["packages"]["torch"]["version"]
    assert document["devices"][0]["device"] == "cpu"
    assert document["data"]["blobs"] == {
        "official": "missing",
        "standin": "yes",
        "why": "blobs: no blobs.txt; put it into --data-root",
    }
    (world.folder / "file").write_text("")
    monkeypatch.setattr(
        "benchmark.inspection.doctor.requires", lambda _: ["torch>=2.6", "numpy>=99", "no-such-package"]
    )
    code, out, _ = world.call(capsys, "doctor", "--results", world.folder / "file")
    assert code == 1
    assert "99 or newer is needed" in out
    assert "not installed" in out
    assert "results folder" in out
    assert "not ready" in out


NAMES = ("image", "text", "audio", "3d", "video")


def published_run(dataset="xmedia", **changes):
    """A record of DRCL on XMedia in the publication's setting, 0.001 above every printed number."""
    printed = published_numbers("xmedia", "drcl")
    directions = [f"{a}->{b}" for a, b in permutations(NAMES, 2)]
    scores = {
        direction: [printed[direction] + 0.001 + d for d in (-0.01, 0.0, 0.01)] for direction in directions
    }
    facts = {
        "method__title": "DRCL",
        "dataset__title": "XMedia",
        "dataset__splits": [],
        "device__type": "cuda",
    }
    facts["chance"] = dict.fromkeys(directions, 0.0613)
    results = {"map@all": scores, "map@50": scores}
    return make_record(method="drcl", dataset=dataset, results=results, **(facts | changes))


def test_twenty_directions_with_published_numbers_fit_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    record = published_run()
    comparison = compare(record)
    show.outcome(Outcome(StoredRun(Path("results/runs/abab"), record), cached=False), comparison)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    for direction, value in comparison.published.items():
        assert f"{value:.3f}" in out, direction
    assert out.count("±0.010") == 20 + 20 + 2
    assert out.count("(0.061)") == 20
    assert out.count("+0.001") == 20 + 1
    assert "STAND-IN" not in out


def test_published_numbers_are_the_printed_ones():
    numbers = published_numbers("wikipedia", "drcl")
    assert numbers == {"image->text": 0.562, "text->image": 0.537, "avg": 0.55}
    assert len(published_numbers("xmedia", "drcl")) == 21
    assert published_numbers("wikipedia-classic", "drcl") == {}


def test_difference_is_ours_minus_published():
    comparison = compare(published_run())
    assert comparison.reason == ""
    assert set(comparison.difference) == {*published_run().directions, "avg"}
    for direction, difference in comparison.difference.items():
        tolerance = 0.001 if direction == "avg" else 1e-9  # the printed average is rounded
        assert difference == pytest.approx(0.001, abs=tolerance)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset__source": "standin"}, "stand-in data"),
        ({"dataset__source": "user"}, "data of your own"),
        ({"profile": "quick"}, "quick profile"),
        ({"options": {"scaling": "standardize"}}, "run with --scaling"),
        ({"dataset__modalities": [*NAMES, "touch"]}, f"only {', '.join(NAMES)}"),
        ({"options": {"pairwise": True, "leave_own_out": True}}, "run with --pairwise --leave-own-out"),
        ({"dataset__split": "odd", "dataset__splits": ["even", "odd"]}, "split odd"),
        ({"dataset__options": {"scale": "2"}}, "data options scale"),
        ({"recipe__ridge__origin": "--set"}, "changed with --set: ridge"),
        ({"dataset": "mine"}, "no numbers for drcl on mine"),
    ],
)
def test_what_is_not_the_publications_setting_is_not_compared(changes, reason):
    comparison = compare(published_run(**changes))
    assert comparison.reason.endswith(reason)
    assert comparison.published == {}


def test_a_variant_and_pairs_as_published_are_compared():
    chosen = {"value": "published", "source": "", "origin": "--set"}
    assert why_not_comparable(published_run(recipe__variant=chosen)) == ""
    assert why_not_comparable(published_run(protocol="pairwise", method__pairwise=True)) == ""
    assert why_not_comparable(published_run(options={"precision": "tf32"})) == ""
    assert why_not_comparable(published_run(recipe__ridge__origin="--set"), ignore=("recipe",)) == ""


def test_every_reason_is_named():
    changes = {"profile": "quick", "options": {"scaling": "standardize"}, "dataset__source": "standin"}
    reasons = "stand-in data, quick profile, run with --scaling"
    assert why_not_comparable(published_run(**changes)) == reasons


def test_plain_progress_speaks_at_the_end_of_a_phase_and_now_and_then(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(cli_progress.time, "monotonic", lambda: now[0])
    lines = cli_progress.Lines()
    for epoch in range(1, 101):
        now[0] += 0.25
        lines.epoch("rsc/image", epoch, 100, {"label": 2.0, "total": 3.0})
    err = capsys.readouterr().err.splitlines()
    assert [line.split("epoch ")[1].split("/")[0] for line in err] == ["40", "80", "100"]
    assert "total 3  label 2" in err[-1]


def test_a_bar_is_drawn_on_a_terminal(capsys):
    from io import StringIO

    from rich.console import Console
    from rich.progress import Progress, TextColumn

    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with Progress(
        TextColumn("{task.description} {task.completed} {task.fields[numbers]}"), console=console
    ) as p:
        bar = cli_progress.Bar(p)
        bar.say("fit: [toy]")
        bar.warn("[stand-in]")
        for epoch in (1, 2, 3):
            bar.epoch("spl", epoch, 3, {"total": 0.5})
        bar.epoch("rsc", 1, 3, {})
        assert [(task.description, task.completed) for task in p.tasks] == [("spl", 3), ("rsc", 1)]
    assert "fit: [toy]" in screen.getvalue()
    assert "[stand-in]" in screen.getvalue()


def test_output_to_a_closed_pipe_ends_without_a_word(world):
    process = world.start("list", "methods", "--json")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait() == 1
    assert err == ""


def test_the_end_of_a_file_is_no_interruption(world, monkeypatch):
    """Typer takes it for Ctrl-D at a prompt; a bug that looks like an interruption is not found."""

    def ends(*_, **__):
        raise EOFError("No data left in file")

    monkeypatch.setattr("benchmark.inspection.doctor.examine", ends)
    with pytest.raises(EOFError, match="No data left"):
        main(["doctor"])
