"""The commands on stored runs: lists, documents, and one line for whatever is wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.io import loadmat

from benchmark.cli.main import main
from benchmark.records.record import RunRecord
from benchmark.records.store import Store
from tests.stored import make_run, save


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "80")
    return Store()


@pytest.fixture
def call(capsys):
    """Run a command: exit code, standard output, standard error."""

    def run(*arguments):
        capsys.readouterr()
        code = main(["results", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_the_list_stays_and_has_commands_beside_it(store, call, capsys):
    run = save(store)
    code, out, _ = call()
    assert code == 0
    assert run.folder.name in out
    document = json.loads(call("--json")[1])
    assert document["runs"][0]["key"] == run.record.key
    for wrong, line in (
        (("--json", "gc"), "put options after `gc`"),
        (("--results", "x", "rm", "y"), "put options after `rm`"),
        (("prune",), "prune"),
    ):
        code, out, err = call(*wrong)
        assert (code, len((out + err).splitlines())) == (2, 3 if out.startswith("{") else 1)
        assert line in out + err


def test_show_is_one_run_in_words(store, call):
    run = save(store, recipe__ridge__origin="--set")
    code, out, err = call("show", run.folder.name[:6])
    assert (code, err) == (0, "")
    for part in ("Toy on Blobs", "ridge", "section 1", run.record.key, "/data/blobs.mat", "python: 3.11"):
        assert part in out
    assert json.loads(call("show", run.folder.name, "--json")[1])["results"] == run.record.results
    assert json.loads(call("show", "latest", "--json")[1])["key"] == run.record.key
    assert call("show", "ffff")[0] == 2


AP = "ap/map@all/image->text"


@pytest.mark.parametrize("ending", ["npz", "npy", "mat"])
def test_an_array_is_written_whole_or_of_one_seed(store, call, tmp_path, ending):
    run = save(store, seeds=(3, 7))
    stored, file = run.arrays(AP)[AP], tmp_path / f"w.{ending}"
    for options, wanted in (((), stored), (("--seed", 3), stored[0]), (("--seed", 7), stored[1])):
        code, out, err = call("array", run.folder.name[:8], AP, file, *options)
        assert (code, err) == (0, "")
        assert out == f"{file}: {AP} {wanted.shape}, float32\n"
        read = {"npz": np.load, "npy": np.load, "mat": loadmat}[ending](file)
        found = read if ending == "npy" else read["W"]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


def test_without_a_file_the_arrays_are_listed(store, call, tmp_path):
    run = save(store)
    out = call("array", run.folder.name)[1]
    assert [line.split() for line in out.splitlines() if AP in line] == [[AP, "(2,", "5)", "float32"]]
    arrays = json.loads(call("array", run.folder.name, "--json")[1])["arrays"]
    assert [each["name"] for each in arrays] == list(run.arrays())
    one = json.loads(call("array", run.folder.name, AP, "--seed", 2, "--json")[1])
    assert one["arrays"] == [{"name": AP, "shape": [5], "dtype": "float32"}]


def test_what_cannot_be_taken_out_is_one_line(store, call, tmp_path):
    document, arrays = make_run(seeds=(3, 7))
    arrays["label_noise/image/clean"] = np.arange(10)
    store.prepare()
    name = store.save(RunRecord.from_json(document), arrays).folder.name
    for arguments, line in (
        ((name, "ap/map@all/image->txt", "w.npz"), f"did you mean '{AP}'?"),
        ((name, AP, "w.npz", "--seed", 1), "--seed 1: the run has seeds 3, 7"),
        ((name, "label_noise/image/clean", "w.npz", "--seed", 3), "has no axis of seeds"),
        ((name, "--seed", 3), "name the array"),
        ((name, AP, tmp_path / "w.txt"), "written as .npz, .npy or .mat"),
        ((name, AP, tmp_path / "none" / "w.npz"), "cannot be written (No such file"),
        (("f" * 12, AP, "w.npz"), "no stored run"),
    ):
        code, out, err = call("array", *arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert line in err
    (store.root / name / "arrays.npz").write_bytes(b"PK")
    assert "damaged run record" in call("array", name, AP)[2]


def test_runs_travel_from_store_to_store(store, call, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.runs.key.record_key", lambda record: record.key)  # made-up keys
    runs = [save(store, name) for name in "ab"]
    file, other = tmp_path / "runs.zip", tmp_path / "other"
    code, out, _ = call("export", file)
    assert code == 0
    assert out.startswith("2 runs, ")
    assert call("import", file, "--results", other)[1] == f"2 new: {other}\n"
    document = json.loads(call("import", file, "--results", other, "--json")[1])
    assert document["present"] == sorted(run.folder.name for run in runs)
    one = json.loads(call("export", tmp_path / "one.zip", runs[0].folder.name[:7], "--json")[1])
    assert one["runs"] == [runs[0].folder.name]
    save(Store(other), "a", shift=0.01)
    assert (
        call("import", file, "--results", other, "--keep")[1]
        == f"1 here already, 1 differ and kept: {other}\n"
    )
    assert "1 replaced" in call("import", file, "--results", other, "--replace")[1]


def test_whatever_is_wrong_is_one_line(store, call, tmp_path):
    save(store)
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"PK\x05\x06")
    for arguments in (
        ("export", bad),
        ("export", tmp_path / "x.zip", "ffff"),
        ("export", tmp_path / "x.zip", "--method", "nobody"),
        ("import", bad),
        ("import", tmp_path / "nowhere.zip"),
        ("import", bad, "--keep", "--replace"),
        ("rm", "ffff"),
        ("rm",),
        ("gc", "--older-than", "-1"),
        ("show", "ffff"),
    ):
        code, out, err = call(*arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1), arguments
        assert "Traceback" not in err
    assert not (tmp_path / "x.zip").exists()
    assert len(store.all()[0]) == 1


def test_rm_says_what_it_removed(store, call):
    a, b, c = (save(store, name) for name in "abc")
    assert call("rm", a.folder.name[:9], b.folder.name)[1] == "".join(
        f"removed {run.folder.name}: toy on blobs\n" for run in (a, b)
    )
    assert json.loads(call("rm", c.folder.name, "--json")[1]) == {"removed": [c.record.key]}
    assert store.all()[0] == []


def test_gc_says_how_many_bytes(store, call):
    run = save(store)
    phase = store.partial(run.record.key) / "phase.npz"
    phase.write_bytes(b"x" * 1234)
    (store.partial("f" * 16) / "phase.npz").write_bytes(b"x" * 10)
    (store.root / "0123456789abcdef").mkdir()
    code, out, err = call("gc", "--dry-run")
    assert code == 0
    assert f"checkpoints of a finished run, 1,234 bytes: {phase.parent}" in out
    assert "checkpoints of 1 unfinished run, 10 bytes" in out
    assert out.endswith("would be removed: 1,234 bytes\n")
    assert "0123456789abcdef" in err
    assert phase.exists()
    document = json.loads(call("gc", "--damaged", "--json")[1])
    assert document["bytes"] == 1234
    assert not phase.exists()
    assert call("gc")[1].endswith("\nremoved: 0 bytes\n")


def test_nothing_heavy_is_imported(store, tmp_path):
    run = save(store)
    commands = [
        ["show", run.folder.name],
        ["array", run.folder.name],
        ["export", str(tmp_path / "x.zip")],
        ["gc"],
        ["rm", run.folder.name],
    ]
    code = f"""if True:
        import sys
        from benchmark.cli.main import main
        for arguments in {commands}:
            assert main(["results", *arguments]) == 0
        assert not {{"torch", "scipy", "pandas"}} & set(sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
