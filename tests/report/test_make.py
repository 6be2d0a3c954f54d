"""From the command to files: what is missing is computed, what is stored is read, files repeat exactly."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmark.records.store import Store
from benchmark.report.catalog import Item
from benchmark.report.formats import figures
from benchmark.report.kinds import orderings
from benchmark.report.made import Curve, Made, Options, Panel
from benchmark.report.make import make, write
from benchmark.report.significance import against_best, ranking
from benchmark.report.tables import Line, build
from benchmark.runs.spec import RunSpec, command
from benchmark.studies.batch import Attempt, estimate, measured_seconds, timings
from benchmark.studies.file import Study, Variant
from benchmark.studies.study import Row
from tests.report.records import make_record, store_run


def test_a_report_computes_what_is_missing_and_the_second_time_nothing(world, capsys, tmp_path):
    out = tmp_path / "out"
    arguments = ("report", "methods", "--dataset", "blobs", "--output", out)
    code, _, err = world.call(capsys, *arguments)
    assert code == 0, err
    assert "1 of 1 runs are not stored: quick profile, standin data" in err
    assert world.fits == 1
    first = {file.name: file.read_bytes() for file in out.iterdir()}
    assert {"methods.md", "methods.tex", "methods.csv"} <= set(first)
    assert "STAND-IN" in first["methods.md"].decode()
    code, _, err = world.call(capsys, *arguments)
    assert (code, world.fits) == (0, 1)
    assert "not stored" not in err
    assert {file.name: file.read_bytes() for file in out.iterdir()} == first


def test_reports_into_one_folder_at_once(world, capsys, tmp_path):
    out = tmp_path / "out"
    arguments = ("report", "figure2", "--dataset", "blobs", "--methods", "toy", "--output", out)
    code, _, err = world.call(capsys, *arguments)
    assert code == 0, err
    first = {file.name: file.read_bytes() for file in out.iterdir()}
    processes = [world.start(*arguments) for _ in range(4)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, "".join(errors)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == first


def test_stored_only_computes_nothing_and_names_the_command(world, capsys, tmp_path):
    found = world.json(
        capsys,
        "report",
        "methods",
        "--dataset",
        "blobs",
        "--stored",
        "--seeds",
        "1,2",
        "--output",
        tmp_path / "o",
    )
    assert world.fits == 0
    [line] = found["missing"]
    assert line["reason"] == "not computed"
    assert line["command"] == "python -m benchmark run --method toy --dataset blobs --seeds 1,2"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tabel2",), "did you mean"),
        (("methods",), "needs --dataset"),
        (("methods", "--dataset", "blobs", "--methods", "tyo"), "did you mean"),
        (("methods", "--dataset", "nowhere"), "nowhere"),
        (("methods", "--dataset", "blobs", "--margin", "0"), "margin"),
    ],
)
def test_a_wrong_name_is_one_line_and_writes_nothing(world, capsys, tmp_path, arguments, words):
    err = world.refused(capsys, "report", *arguments, "--output", tmp_path / "out", alone=False)
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert world.fits == 0


def test_a_method_that_cannot_serve_the_data_is_a_row_with_its_reason(world, capsys, tmp_path):
    (tmp_path / "toy_methods" / "toy.py").write_text(
        (tmp_path / "toy_methods" / "toy.py")
        .read_text()
        .replace("year=2000,", 'year=2000, modalities="two",')
    )
    found = world.json(capsys, "report", "methods", "--dataset", "blobs", "--output", tmp_path / "out")
    [line] = found["missing"]
    assert "two modalities" in line["reason"]
    assert line["command"].endswith("--method toy --dataset blobs --pairwise")
    assert line["reason"] in (tmp_path / "out" / "methods.md").read_text()


def test_the_command_of_a_run_is_the_run(world, capsys):
    spec = RunSpec("toy", "blobs", modalities=("image", "text"), seeds=(3,), overrides=("ridge=4.5",))
    words = command(spec).split()[3:]
    ran = world.json(capsys, *words)
    named = ("--method", "toy", "--dataset", "blobs", "--seeds", 3, "--modalities", "image,text")
    again = world.json(capsys, "run", *named, "--set", "ridge=4.5")
    assert again["key"] == ran["key"]
    assert world.fits == 1


def two_runs(root):
    """Two runs, one better on every query."""
    better = store_run(root, make_record("drcl", ((0.5, 0.4), (0.5, 0.4))), seed=1)
    worse = store_run(root, make_record("sdml", ((0.4, 0.3), (0.4, 0.3))), seed=1)
    return {run.record.key: run for run in (better, worse)}


def test_significance_is_paired_over_queries(tmp_path):
    runs = two_runs(tmp_path)
    lines = [Line(run.record.method.title, run.record) for run in runs.values()]
    [one] = against_best(build("t", "T", lines), runs).comparisons
    assert (one.a, one.b, one.queries) == ("DRCL", "SDML", 80)
    assert one.difference == pytest.approx(0.1)
    assert one.low <= one.difference <= one.high
    assert one.p_holm < 1e-6
    assert against_best(build("t", "T", lines[:1]), runs) is None


def test_ranks_leave_out_what_is_missing_somewhere():
    maps = {"a": 0.5, "b": 0.4, "c": 0.3, "d": 0.2}
    full = [Line(name, make_record(name, ((m, m),))) for name, m in maps.items()]
    other = [
        replace(line, record=replace(line.record, dataset=replace(line.record.dataset, id="x")))
        for line in full
    ]
    other[3] = Line("d", None, reason="refused")
    found = ranking([build("t", "T", full), build("t", "T", other)])
    assert found.methods == ("a", "b", "c")
    assert found.blocks == 4
    assert ranking([build("t", "T", full[:2])]) is None


def test_figures_are_written_in_every_format_and_repeat_exactly(tmp_path):
    level = np.linspace(0, 1, 11)
    curves = tuple(Curve(f"M{k}", level, np.stack([1 - level / (k + 1)] * 2)) for k in range(12))
    panels = [
        Panel("one", "recall", "precision", curves, level=0.1),
        Panel("two", "x", "y", curves[:1], bars=True),
    ]
    first = figures.draw(panels, tmp_path / "a", "STAND-IN data")
    again = figures.draw(panels, tmp_path / "b", "STAND-IN data")
    assert [file.suffix for file in first] == [".png", ".pdf", ".svg"]
    for one, two in zip(first, again, strict=True):
        assert one.read_bytes() == two.read_bytes()
    ranks = {f"M{k}": k + 1.0 for k in range(5)}
    [png, *_] = figures.critical_difference(ranks, [("M0", "M1")], 1.5, tmp_path / "cd")
    assert png.read_bytes().startswith(b"\x89PNG")


def test_a_precision_recall_figure_takes_its_curves_from_records(tmp_path, monkeypatch):
    runs = two_runs(tmp_path / "runs")
    store = Store(tmp_path / "runs")
    monkeypatch.setattr("benchmark.report.kinds.attempted", lambda *_: (None, {
        run.record.method.id: type("E", (), {"run": run}) for run in runs.values()}))  # fmt: skip
    item = Item("figure2", "curves", "PR", ("wikipedia",), directions=("image->text",))
    made = make(item, Options(RunSpec("", ""), store, tmp_path))
    [panel] = made.panels["figure2"]
    assert [curve.label for curve in panel.curves] == ["DRCL", "SDML"]
    stored = next(iter(runs.values())).arrays("precision/image->text")["precision/image->text"]
    np.testing.assert_array_equal(panel.curves[0].y, stored)
    assert panel.level == 0.1
    assert [file.name for file in write(made, tmp_path / "out")] == [
        "figure2.png",
        "figure2.pdf",
        "figure2.svg",
    ]


def test_the_estimate_comes_from_a_run_like_it(world, capsys):
    from benchmark.runs.plan import make_plan

    store = Store(world.results)
    plan = make_plan(RunSpec("toy", "blobs"))
    assert estimate(plan, measured_seconds(store)) is None
    world.json(capsys, "run", "--method", "toy", "--dataset", "blobs")
    [run] = store.all()[0]
    seconds = run.record.timings["total"]
    three = make_plan(RunSpec("toy", "blobs", seeds=(1, 2, 3)))
    assert estimate(three, measured_seconds(store)) == pytest.approx(3 * seconds)
    (world.folder / "timings.csv").write_text(timings(store).replace(f"{seconds:.1f}", "7.5"))
    assert estimate(three, {}, world.folder) == 22.5


def test_list_of_reports(world, capsys):
    names = [each["name"] for each in world.json(capsys, "report", "list")["reports"]]
    assert names[:2] == ["table2", "table3"]
    assert json.dumps(names)
    assert Made(Item("x", "methods", "X", ())).files == []


def test_a_figure_without_runs_is_not_drawn_and_says_why(world, capsys, tmp_path):
    out = tmp_path / "o"
    found = world.json(capsys, "report", "figure2", "--dataset", "blobs", "--stored", "--output", out)
    assert found["problems"] == ["figure2: no method has a run on blobs"]
    assert found["files"] == []


def test_the_orderings_of_a_study_are_told(tmp_path):
    better, worse = (
        store_run(tmp_path, make_record(n, ((m, m),))) for n, m in (("drcl", 0.5), ("sdml", 0.4))
    )
    rows = [Variant(label, "", "certain", label) for label in ("a", "b")]
    study = Study("s", "S", tuple(rows), orderings=(("a", "b"), ("b", "a")))
    done = [
        Row(row, RunSpec("", ""), Attempt(None, run)) for row, run in zip(rows, (better, worse), strict=True)
    ]
    [line] = orderings(study, RunSpec("", ""), done, Options(RunSpec("", ""), Store(tmp_path), tmp_path))
    assert line == "Of the publication's orderings by average, 1 of 2 hold here; not: b > a (-0.100)."
