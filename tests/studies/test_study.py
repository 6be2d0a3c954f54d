"""Studies: definitions, execution over the runner, tables, and the prior as a file."""

import json

import numpy as np
import pytest

from benchmark.cli.main import main
from benchmark.core.registry import METHODS
from benchmark.errors import RecipeError, UnknownNameError
from benchmark.report.study import printed
from benchmark.studies.file import study_file, study_files
from benchmark.studies.study import read_study

STUDY = """
title = "Ridges"
orderings = [["weak", "strong"], ["weak", "ridge 2"], ["weak", "elsewhere"]]
[published]
file = "printed.csv"
direction = "direction"
value = "map"
[[run]]
label = "weak"
description = "ridge 0.1"
certainty = "certain"
method = "toy"
set = ["ridge=0.1"]
published = { variant = "1" }
[[run]]
label = "strong"
description = "ridge 1e9"
certainty = "guessed"
method = "toy"
set = ["ridge=1e9"]
[[run]]
label = "absent"
description = "another method"
certainty = "certain"
method = "nowhere"
[[run]]
label = "ridge {each}"
description = "ridge of {each}"
certainty = "certain"
method = "toy"
set = ["ridge={each}"]
each = [1, 2]
"""
XMEDIA = ("image", "text", "audio", "3d", "video")


@pytest.fixture
def world_options():
    return {"methods": {"studies/ridges.toml": STUDY}}


COMMAND = ("study", "ridges", "--dataset", "blobs", "--profile", "quick", "--seeds", "1,2")


def test_the_quick_profile_may_have_settings_of_its_own(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text('quick = ["steps=1"]\n' + STUDY)
    assert [v.changes for v in read_study(file, (), "quick").variants][:1] == [("steps=1", "ridge=0.1")]
    assert read_study(file, ()).variants[0].changes == ("ridge=0.1",)


def test_runs_are_computed_once_and_read_afterwards(world, capsys):
    first = world.json(capsys, *COMMAND)
    assert [row["label"] for row in first["rows"]] == ["weak", "strong", "ridge 1", "ridge 2"]
    assert world.fits == 4
    again = world.json(capsys, *COMMAND)
    assert world.fits == 4
    assert all(row["cached"] for row in again["rows"])
    assert [row["results"] for row in again["rows"]] == [row["results"] for row in first["rows"]]


def test_an_interrupted_study_goes_on_where_it_was(world, capsys):
    run = ("run", "--method", "toy", "--dataset", "blobs", "--profile", "quick", "--seeds", "1,2")
    for ridge in ("0.1", "1"):
        world.json(capsys, *run, "--set", f"ridge={ridge}")
    document = world.json(capsys, *COMMAND)
    assert [row["cached"] for row in document["rows"]] == [True, False, True, False]
    assert world.fits == 4


def test_rows_are_the_records(world, capsys):
    document = world.json(capsys, *COMMAND)
    run = world.json(
        capsys, "run", "--method", "toy", "--dataset", "blobs", "--profile", "quick", "--seeds", "1,2",
        "--set", "ridge=0.1",
    )  # fmt: skip
    weak = document["rows"][0]
    assert weak["key"] == run["key"]
    assert weak["results"] == run["results"]["map@all"]
    assert weak["average"] == run["averages"]["map@all"]
    assert document["chance"] == run["chance"]


def test_orderings_are_differences_of_averages_seed_by_seed(world, capsys):
    document = world.json(capsys, *COMMAND)
    rows = {row["label"]: row["average"] for row in document["rows"]}
    found = {each["worse"]: each for each in document["orderings"]}
    assert set(found) == {"strong", "ridge 2"}  # no row is called elsewhere
    wanted = np.subtract(rows["weak"], rows["strong"])
    np.testing.assert_allclose(found["strong"]["per_seed"], wanted)
    assert found["strong"]["holds"] == (wanted.mean() > 0)
    np.testing.assert_allclose(found["strong"]["deviation"], np.std(wanted, ddof=1))


def test_the_table_fits_and_says_everything(world, capsys):
    code, out, err = world.call(capsys, *COMMAND)
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    for text in ("weak", "ridge 1e9", "guessed", "random", "Avg", "±", "weak > strong", "hold"):
        assert text in out
    assert "method nowhere is not there; without numbers: absent" in out
    assert "published numbers not shown" in out
    assert "STAND-IN" in out


def test_a_row_that_fails_is_named_and_the_others_go_on(world, capsys):
    file = world.folder / "own.toml"
    file.write_text(STUDY.replace('"ridge=1e9"', '"mode=fail"'), encoding="utf-8")
    document = world.json(capsys, "study", file, *COMMAND[2:])
    assert [row["label"] for row in document["rows"]] == ["weak", "ridge 1", "ridge 2"]
    assert any("loss became nan" in line and "strong" in line for line in document["missing"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("study", "rigdes", "--dataset", "blobs"), "did you mean 'ridges'"),
        (("study", "ridges"), "--dataset is missing"),
        (("study", "ridges", "--dataset", "blobs", "--set", "nothing=1"), "unknown hyper-parameter"),
    ],
)
def test_errors_are_one_line(world, capsys, arguments, line):
    err = world.refused(capsys, *arguments)
    assert line in err
    assert len(err.strip().splitlines()) == 1


def test_a_study_without_any_of_its_methods(world, capsys):
    file = world.folder / "own.toml"
    file.write_text(STUDY.replace('method = "toy"', 'method = "gone"'), encoding="utf-8")
    said = world.refused(capsys, "study", file, *COMMAND[2:], alone=False)
    assert "none of its methods is there (gone, nowhere)" in said


def test_list_and_dry_run(world, capsys):
    assert world.json(capsys, "study", "list") == {"studies": [{"name": "ridges", "title": "Ridges"}]}
    document = world.json(capsys, *COMMAND, "--dry-run")
    assert len(document["runs"]) == 4
    assert world.fits == 0


def test_printed_numbers_are_found_by_the_columns(world, tmp_path):
    study = read_study(study_file("ridges"), ())
    (tmp_path / "printed.csv").write_text(
        "dataset,variant,direction,map\nblobs,1,a->b,0.5\nblobs,1,avg,0.6\nblobs,2,avg,0.7\nother,1,avg,0.8\n"
    )
    assert printed(study, study.variants[0], "blobs", tmp_path) == {"a->b": 0.5, "avg": 0.6}
    assert printed(study, study.variants[1], "blobs", tmp_path) == {}


@pytest.mark.parametrize(
    "text",
    [
        "title = 1",
        "title = 'x'\nrun = [{label = 'a'}]",
        "no toml",
        STUDY + STUDY,
        "seeds = [1e400]" + STUDY,
        "published = 3" + STUDY.replace("[published]", "[other]"),
    ],
)
def test_what_is_not_a_study(tmp_path, text):
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(RecipeError):
        read_study(file, ())


def test_our_studies_name_known_hyper_parameters_and_labels():
    known = METHODS.entries()
    files = study_files()
    assert {"ablation", "prior-swap", "prior-source", "sensitivity"} <= set(files)
    for file in files.values():
        study = read_study(file, XMEDIA)
        for variant in study.variants:
            assert variant.description
            assert variant.certainty
            if variant.method in known:
                names = known[variant.method].load().Config.__dataclass_fields__
                assert {change.partition("=")[0] for change in variant.changes} <= set(names)


def test_the_published_ablation_and_prior_swap_are_read_whole():
    ablation = read_study(study_file("ablation"), XMEDIA)
    numbers = [printed(ablation, variant, "xmedia") for variant in ablation.variants]
    assert [len(each) for each in numbers] == [21] * 12
    ours = numbers[-1]["avg"]
    assert len(ablation.orderings) == 11
    assert all(each["avg"] < ours for each in numbers[:-1])  # what the orderings claim
    assert not printed(ablation, ablation.variants[0], "wikipedia")
    swap = read_study(study_file("prior_swap"), XMEDIA)
    for better, worse in swap.orderings:
        rows = {
            v.label: printed(swap, v, "xmedia")["avg"] for v in swap.variants if v.label in (better, worse)
        }
        assert rows[better] > rows[worse]
    with pytest.raises(UnknownNameError, match="did you mean"):
        study_file("ablaton")


def test_published_numbers_stand_beside_official_data_in_the_paper_profile(world, capsys, monkeypatch):
    (world.folder / "printed.csv").write_text("dataset,variant,direction,map\nblobs,1,avg,0.25\n")
    monkeypatch.setattr("benchmark.report.study.published_folder", lambda: world.folder)
    (world.folder / "blobs.txt").write_text("3")
    official = ("study", "ridges", "--dataset", "blobs", "--data-root", world.folder, "--seeds", "1")
    document = world.json(capsys, *official, "--profile", "paper")
    assert [row["published"] for row in document["rows"]] == [{"avg": 0.25}, {}, {}, {}]
    _, out, _ = world.call(capsys, *official, "--profile", "paper")
    assert "0.250" in out
    assert "ours -" in out
    assert max(map(len, out.splitlines())) <= 80
    for changed in (("--profile", "quick"), ("--profile", "paper", "--set", "steps=3")):
        document = world.json(capsys, *official, *changed)
        assert not any(row["published"] for row in document["rows"])
        assert document["rows"][0]["not_comparable"]


TINY = ("--set", "hidden=[8]", "--set", "dim=48", "--set", "epochs=3", "--modalities", "image,text")
RUN = ("run", "--method", "drcl", "--dataset", "emoji", "--profile", "quick", "--seeds", "1,2", *TINY)


def document(capsys, *arguments):
    capsys.readouterr()
    code = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, out + err
    return json.loads(out)


@pytest.fixture
def own_results(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path / "results"))
    return tmp_path


@pytest.mark.parametrize("ending", [".mat", ".npz"])
def test_a_prior_goes_out_and_comes_in(own_results, capsys, ending):
    run = document(capsys, *RUN)
    file = own_results / f"w{ending}"
    assert main(["results", "array", run["key"][:12], "method/prior", str(file), "--seed", "2"]) == 0
    again = document(capsys, *RUN, "--set", f"prior=file:{file}")
    assert again["key"] != run["key"]
    # Seed 2 found the prior it had learned itself; seed 1 now has another one.
    before, after = (each["results"]["map@all"]["image->text"] for each in (run, again))
    assert after[1] == pytest.approx(before[1], abs=1e-6)
    other = own_results / f"v{ending}"
    assert main(["results", "array", run["key"][:12], "method/prior", str(other), "--seed", "1"]) == 0
    file.write_bytes(other.read_bytes())
    changed = document(capsys, *RUN, "--set", f"prior=file:{file}")
    assert not changed["cached"]  # the same path, another content
    assert changed["key"] not in (run["key"], again["key"])


GRID = """
title = "Weights"
[[run]]
label = "{each}"
description = "alpha {each}"
certainty = "certain"
method = "drcl"
set = ["alpha={each}"]
each = [0, 0.1, 10]
[[run]]
label = "same"
description = "what 0.1 is too"
certainty = "certain"
method = "drcl"
"""


def test_equal_rows_of_a_grid_are_one_run(own_results, capsys):
    file = own_results / "grid.toml"
    file.write_text(GRID, encoding="utf-8")
    command = ("study", str(file), "--dataset", "emoji", "--profile", "quick", "--seeds", "1", *TINY)
    first = document(capsys, *command)
    rows = {row["label"]: row for row in first["rows"]}
    assert rows["same"]["key"] == rows["0.1"]["key"]
    assert not any(row["cached"] for row in first["rows"])
    record = document(
        capsys, "run", "--method", "drcl", "--dataset", "emoji", "--profile", "quick", "--seeds", "1", *TINY
    )
    assert record["key"] == rows["same"]["key"]
    assert all(row["cached"] for row in document(capsys, *command)["rows"])
    forced = document(capsys, *command, "--force")
    assert not any(row["cached"] for row in forced["rows"])
    for row in forced["rows"]:
        assert row["average"] == pytest.approx(rows[row["label"]]["average"], abs=1e-3)
