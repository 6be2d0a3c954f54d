"""A run is what it says: its key is made of its content, and nothing in it was edited."""

import io
import json
import struct
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.cli.main import main
from benchmark.errors import BenchmarkError
from benchmark.records.checks import check_run
from benchmark.records.record import RunRecord
from benchmark.records.store import DamagedRecordError, Store
from benchmark.records.transfer import FORMAT, export_runs, import_runs
from benchmark.runs.key import record_key
from benchmark.runs.runner import execute
from benchmark.runs.spec import RunSpec
from tests.stored import as_old, make_run, rewrite, save

RUNS = Path(__file__).parents[2] / "reports" / "emoji" / "image-text" / "runs.zip"


@pytest.fixture
def run(world):
    return execute(RunSpec("toy", "blobs", seeds=(1,)), Store()).run


# --- the key


ASKED = {
    "plain": {},
    "own items left out": {"leave_own_out": True},
    "noise": {"label_noise": 0.4, "label_noise_mode": "asym", "label_noise_seed": 3},
    "pairwise": {"pairwise": True, "leave_own_out": True},
    "one pair": {"pairwise": True, "modalities": ("image", "text")},
    "as it is reckoned": {"scaling": "standardize", "precision": "fp64"},
    "values": {"overrides": ("ridge=4", "lr.image=1e-2", "subsample.train=900")},
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_a_key_follows_from_the_record(world, asked):
    record = execute(RunSpec("toy", "blobs", seeds=(2, 1), **asked), Store()).run.record
    assert record_key(record) == record.key


def test_keys_of_the_committed_runs_follow_from_their_records(tmp_path):
    store = Store(tmp_path)
    assert import_runs(store, RUNS, record_key).added
    for run in store.all()[0]:
        assert record_key(run.record) == run.record.key


FORGED = {
    "profile": {"profile": "paper"},
    "dataset": {"dataset__id": "xmedia"},
    "fingerprint": {"dataset__fingerprint": "0" * 64, "comparability__fingerprint": "0" * 64},
    "method": {"method__id": "drcl"},
    "version": {"method__version": 2},
    "code": {"method__code": "0" * 64},
    "group": {"method__group": "paired-oriented"},
    "recipe": {"recipe__ridge__value": 9.0},
    "scaling": {"scaling": "standardize", "options": {"scaling": "standardize"}},
    "precision": {"precision": "fp64"},
    "option": {"options": {"leave_own_out": True}},
    "option of tomorrow": {"options": {"upside_down": True}},
    "metric": {"comparability__metric_version": 99},
    "protocol": {"protocol": "pairwise"},
}


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED)
def test_a_run_that_passes_as_another_is_not_imported(world, run, changes, capsys):
    """As whoever means it would do it: every checksum fits."""
    rewrite(run.folder, **changes)
    file = world.folder / "runs.zip"
    export_runs([Store().starting_with(run.folder.name)], file)
    code, out, err = world.call(capsys, "results", "import", file, "--results", world.folder / "new")
    assert (code, out) == (2, "")
    assert "is not that of the run it describes" in err or "and in 'options'" in err
    assert err.count("\n") == 1
    assert run.folder.name in err
    assert Store(world.folder / "new").all() == ([], [])


def test_files_that_values_name_are_recorded_by_content(world, tmp_path):
    file = tmp_path / "prior.mat"
    file.write_text("content")
    run = execute(RunSpec("toy", "blobs", overrides=(f"mode=file:{file}",)), Store()).run
    file.unlink()
    assert set(run.record.named_files) == {"mode"}
    assert record_key(run.record) == run.record.key
    changed = replace(run.record, named_files={"mode": "0" * 64})
    assert record_key(changed) != run.record.key
    with pytest.raises(BenchmarkError, match=r"'recipe\.mode' names a file and not what was in it"):
        record_key(replace(run.record, named_files=None))


# --- checksums


def test_an_edited_number_is_refused_and_not_shown(world, run, capsys):
    file = run.folder / "record.json"
    document = json.loads(file.read_text())
    for scores in document["results"].values():
        for values in scores.values():
            values[0] = 0.9
    document["averages"] = {name: [0.9] for name in document["averages"]}
    file.write_text(json.dumps(document))
    other = execute(RunSpec("toy", "blobs", seeds=(2,)), Store()).run
    code, out, err = world.call(capsys, "results")
    assert code == 0
    assert other.folder.name in out
    assert run.folder.name not in out
    assert "the content does not fit its checksum" in err
    assert world.call(capsys, "results", "show", run.folder.name)[0] == 2
    assert world.call(capsys, "results", "export", world.folder / "x.zip", run.folder.name)[0] == 2


def test_a_record_without_its_checksum_is_refused_and_an_old_one_read(run):
    file = run.folder / "record.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({n: v for n, v in document.items() if n != "checksum"}))
    with pytest.raises(DamagedRecordError, match="no 'checksum'"):
        Store().find(run.record.key)
    as_old(run.folder)
    found = Store().find(run.record.key)
    assert found.record == replace(run.record, arrays_sha256=None)
    assert check_run(run.folder) == found.record


def test_the_layout_of_the_file_does_not_matter(run):
    file = run.folder / "record.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(document.items()))))
    assert Store().find(run.record.key).record == run.record


def test_arrays_of_another_run_are_refused(tmp_path):
    store = Store(tmp_path)
    run, other = save(store, "a"), save(store, "b")
    (run.folder / "arrays.npz").write_bytes((other.folder / "arrays.npz").read_bytes())
    for read in (run.arrays, lambda: check_run(run.folder)):
        with pytest.raises(BenchmarkError, match="is not the file that was stored with the record"):
            read()


# --- what arrays claim to be


def npz(folder, **members):
    with zipfile.ZipFile(folder / "arrays.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def array(values):
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def header(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


NAME = "ap/map@all/image->text"


def test_an_array_of_another_shape_than_the_record_says_is_not_made(tmp_path):
    run = save(Store(tmp_path))
    huge = header((2, 40_000_000)) + bytes(320_000_000)
    npz(run.folder, **{f"{NAME}.npy": huge})
    as_old(run.folder)
    del huge
    run = Store(tmp_path).find(run.record.key)
    for read in (lambda: run.arrays(NAME), lambda: check_run(run.folder)):
        tracemalloc.start()
        with pytest.raises(BenchmarkError, match=r"is not \(2, 5\) numbers"):
            read()
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
        tracemalloc.stop()


@pytest.mark.parametrize("shape", ["(2, 500_000_000)", "(-2, 5)", "'x'", "(2, 5", "(2.5,)", "(" * 90])
def test_a_header_that_lies_is_one_line(tmp_path, shape):
    run = save(Store(tmp_path))
    npz(run.folder, **{"method/prior.npy": header(shape)})
    as_old(run.folder)
    run = Store(tmp_path).find(run.record.key)
    for read in (run.arrays, lambda: run.arrays("method/prior"), lambda: check_run(run.folder)):
        with pytest.raises(BenchmarkError, match=r"arrays\.npz") as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("row", [-2, 7, 10**9])
def test_first_ranks_are_rows_of_the_database(tmp_path, row):
    store = Store(tmp_path)
    document, arrays = make_run(top=3)
    first = np.zeros((2, 5, 3), np.int32)
    first[1, 2, 1] = row
    store.prepare()
    run = store.save(RunRecord.from_json(document), arrays | {"top/image->text": first})
    for read in (run.arrays, lambda: check_run(run.folder)):
        with pytest.raises(BenchmarkError, match="names rows that the database does not have"):
            read()


def test_no_more_of_a_manifest_is_unpacked_than_it_is_said_to_hold(tmp_path):
    """Its size is a claim like any other; what lies behind is 200 MB."""
    file = tmp_path / "runs.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps({"format": FORMAT, "runs": {}}) + " " * 200_000_000)
    content = bytearray(file.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", 1000)
    file.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(BenchmarkError, match="not a whole zip file"):
        import_runs(Store(tmp_path / "store"), file, record_key)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


# --- one run, computed on two machines


ELSEWHERE = {
    "threads": {"device__threads": 4},
    "device": {"device__name": "H100", "device__type": "cuda"},
    "versions": {"versions__torch": "2.9"},
    "company": {"notes": {"replicas": {"main": "together"}}},
    "company in a pair": {"notes": {"image+text/replicas": {"main": "together"}}},
}


@pytest.mark.parametrize("made", ELSEWHERE.values(), ids=ELSEWHERE)
def test_other_numbers_of_another_machine_are_the_same_run(tmp_path, capsys, made):
    here, there, file = Store(tmp_path / "here"), Store(tmp_path / "there"), tmp_path / "runs.zip"
    ours = save(here)
    export_runs([save(there, shift=0.002, **made)], file)
    told = []
    found = import_runs(here, file, lambda record: record.key, "refuse", told.append)
    assert (found.machine, found.kept, found.present) == ((ours.folder.name,), (), ())
    assert here.find(ours.record.key).record == ours.record
    (line,) = told
    assert f"run {ours.folder.name} is the same run, of another machine, and was kept" in line
    assert "differ by up to 0.002 (" in line
    replaced = import_runs(here, file, lambda record: record.key, "replace", told.append)
    assert replaced.replaced == found.machine


@pytest.mark.parametrize(
    "made",
    [
        {"shift": 0.002},
        {"shift": 0.002, "versions__commit": "d" * 40},
        {"shift": 0.002, "device__threads": 4, "rows": {"train": {"image": 9, "text": 10}}},
        {"device__threads": 4, "chance": {"image->text": 0.2, "text->image": 0.1}},
    ],
    ids=["same machine", "another commit", "other rows", "other chance"],
)
def test_what_no_machine_explains_is_a_conflict(tmp_path, made):
    here, there, file = Store(tmp_path / "here"), Store(tmp_path / "there"), tmp_path / "runs.zip"
    save(here)
    export_runs([save(there, **made)], file)
    with pytest.raises(BenchmarkError, match="is stored here with another"):
        import_runs(here, file, lambda record: record.key)


def test_a_stored_run_shows_how_it_was_computed(tmp_path, capsys):
    run = save(Store(tmp_path), device__threads=3, notes={"replicas": {"main": "together"}})
    assert main(["results", "show", run.folder.name, "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "threads: 3" in out
    assert "replicas: together" in out
