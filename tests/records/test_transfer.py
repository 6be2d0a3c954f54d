"""Export and import: what goes out comes in again, and nothing else does."""

import hashlib
import io
import json
import os
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import BenchmarkError
from benchmark.records import checks as valid
from benchmark.records import transfer
from benchmark.records.checks import check_run
from benchmark.records.record import RunRecord
from benchmark.records.store import Store
from benchmark.records.transfer import choose, export_runs
from tests.stored import WAYS, as_old, make_run, save


def import_runs(store, file, *arguments, key_of=lambda record: record.key):
    """Import as the command does; the keys of these runs are made up and believed."""
    return transfer.import_runs(store, file, key_of, *arguments)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "here")


@pytest.fixture
def there(tmp_path):
    return Store(tmp_path / "there")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "runs.zip"


def everything(store):
    """Every file of a store but the locks, with its content."""
    if not store.root.exists():
        return {}
    files = (f for f in store.root.rglob("*") if f.is_file() and ".locks" not in f.parts)
    return {str(f.relative_to(store.root)): f.read_bytes() for f in files}


def refused(store, file, **options):
    """The one line with which an import is refused; nothing may have changed."""
    before = everything(store)
    with pytest.raises(BenchmarkError) as caught:
        import_runs(store, file, **options)
    assert everything(store) == before
    folders = [f.name for f in store.root.iterdir()] if store.root.exists() else []
    assert not [name for name in folders if name.startswith((".import", ".new"))]
    line = str(caught.value)
    assert "\n" not in line
    assert str(file) in line
    return line


def pack(file, runs, manifest=None, extra=(), compression=zipfile.ZIP_DEFLATED):
    """A zip of ``{name: (record bytes, arrays bytes)}`` with a manifest that fits, unless one is given."""
    hashes = {
        name: {
            "files": {
                part: {"sha256": hashlib.sha256(content).hexdigest()}
                for part, content in zip(("record.json", "arrays.npz"), contents, strict=True)
            }
        }
        for name, contents in runs.items()
    }
    with zipfile.ZipFile(file, "w", compression) as archive:
        text = json.dumps({"format": transfer.FORMAT, "runs": hashes}) if manifest is None else manifest
        archive.writestr("manifest.json", text)
        for name, contents in runs.items():
            for part, content in zip(("record.json", "arrays.npz"), contents, strict=True):
                archive.writestr(f"{name}/{part}", content)
        for entry, content in extra:
            archive.writestr(entry, content)


def contents(name="a", arrays=None, text=None, **changes):
    """Name and files of a run, as they lie in a folder."""
    record, own = make_run(name, **changes)
    stream = io.BytesIO()
    np.savez_compressed(stream, **(own if arrays is None else {**own, **arrays}))
    folder = hashlib.sha256(name.encode()).hexdigest()[:16]
    return {folder: ((text or json.dumps(record)).encode(), stream.getvalue())}


def test_what_is_exported_is_imported_exactly(store, there, file):
    runs = [save(there, name) for name in ("a", "b", "c")]
    names = export_runs(runs, file)
    assert names == sorted(run.folder.name for run in runs)
    found = import_runs(store, file)
    assert found.added == tuple(names)
    assert everything(store) == everything(there)
    assert import_runs(store, file).present == tuple(names)
    assert store.find(runs[0].record.key).record == runs[0].record
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert [e.filename for e in archive.infolist()][-1] == "manifest.json"
    for name, about in manifest["runs"].items():
        for part, facts in about["files"].items():
            content = (there.root / name / part).read_bytes()
            assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_the_same_runs_give_the_same_bytes(there, file, tmp_path):
    runs = [save(there, name) for name in ("a", "b")]
    export_runs(runs, file)
    export_runs(reversed(runs), tmp_path / "again.zip")
    assert file.read_bytes() == (tmp_path / "again.zip").read_bytes()


def test_export_overwrites_nothing_and_leaves_nothing_half_written(there, file, tmp_path):
    run = save(there)
    file.write_text("mine")
    with pytest.raises(BenchmarkError, match="exists"):
        export_runs([run], file)
    (run.folder / "arrays.npz").write_bytes(b"PK")
    with pytest.raises(BenchmarkError, match=rf"run {run.folder.name}: arrays\.npz is not the file"):
        export_runs([run], file, replace=True)
    assert file.read_text() == "mine"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["runs.zip", "there"]
    with pytest.raises(BenchmarkError, match="cannot be written"):
        export_runs([run], tmp_path / "nowhere" / "runs.zip")


def test_runs_are_chosen_by_name_or_by_method_and_dataset(there):
    a, b = save(there, "a", method="drcl"), save(there, "b", dataset="balls")
    warned = []
    assert choose(there, [a.record.key[:9], a.folder.name], "", "", warned.append)[0].folder == a.folder
    assert [r.folder for r in choose(there, [], "drcl", "", warned.append)] == [a.folder]
    assert [r.folder for r in choose(there, [], "", "balls", warned.append)] == [b.folder]
    assert len(choose(there, [], "", "", warned.append)) == 2
    assert warned == []
    (b.folder / "record.json").write_text("")
    assert len(choose(there, [], "", "", warned.append)) == 1
    assert str(b.folder) in warned[0]
    with pytest.raises(BenchmarkError, match="no stored run of --method x --dataset y"):
        choose(there, [], "x", "y", warned.append)
    with pytest.raises(BenchmarkError, match="not both"):
        choose(there, [a.folder.name], "drcl", "", warned.append)


# --- runs that are stored already


def test_another_machines_time_and_paths_are_no_difference(store, there, file):
    ours = save(store)
    other = {"started": "2026", "timings": {"total": 9.0}, "device__type": "cuda"}
    export_runs([save(there, **other, dataset__files=["/elsewhere"])], file)
    assert import_runs(store, file).present == (ours.folder.name,)
    assert store.find(ours.record.key).record.started == ours.record.started


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"shift": 0.01}, "results.map@all.image->text"),
        ({"precision": "tf32"}, "precision"),
        ({"method__version": 2}, "method.version"),
        ({"recipe__ridge__value": 3.0}, "recipe.ridge"),
        ({"options": {"label_noise": {"ratio": 0.2}}}, "label_noise"),
    ],
)
def test_other_content_under_a_key_is_refused_by_name(store, there, file, changes, field):
    old = save(store)
    added = save(there, "b")
    new = save(there, **changes)
    export_runs([new, added], file)
    line = refused(store, file)
    assert f"run {old.folder.name} is stored here with another {field};" in line
    kept = import_runs(store, file, "keep")
    assert (kept.kept, kept.added) == ((old.folder.name,), (added.folder.name,))
    assert store.find(old.record.key).record == old.record
    replaced = import_runs(store, file, "replace")
    assert (replaced.replaced, replaced.present) == ((old.folder.name,), (added.folder.name,))
    assert store.find(old.record.key).record == new.record


def test_another_array_is_a_difference_and_another_packing_is_none(store, there, file):
    document, arrays = make_run()
    for each, more in ((store, {"method/prior": np.ones(3)}), (there, {"method/prior": np.zeros(3)})):
        each.prepare()
        each.save(RunRecord.from_json(document), arrays | more)
    export_runs([there.find(document["key"])], file)
    assert "another array method/prior;" in refused(store, file)
    folder = there.folder(document["key"])
    np.savez(folder / "arrays.npz", **arrays, **{"method/prior": np.ones(3)})
    as_old(folder)
    export_runs([there.find(document["key"])], file, replace=True)
    assert import_runs(store, file).present == (folder.name,)


def test_a_damaged_run_is_replaced(store, there, file):
    run = save(store)
    export_runs([save(there)], file)
    (run.folder / "record.json").write_text("{")
    assert import_runs(store, file).replaced == (run.folder.name,)
    assert store.find(run.record.key).record == run.record


class Interruption:
    """Counts calls of what reaches the disk and interrupts at one of them; what follows goes through."""

    def __init__(self, moment):
        self.left = moment

    def counted(self, function):
        def step(*arguments, **options):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return step


def test_an_interruption_at_any_step_leaves_whole_runs_only(store, there, file, monkeypatch):
    export_runs([save(there, name) for name in "ab"], file)
    whole, states, finished = everything(there), [], False
    while not finished:
        interruption = Interruption(len(states) + 1)
        with monkeypatch.context() as patched:
            for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "mkdir"), (Store, "clear_partial")):
                patched.setattr(owner, name, interruption.counted(getattr(owner, name)))
            try:
                import_runs(store, file)
            except KeyboardInterrupt:
                pass
            else:
                finished = True
        runs = store.all()[0] if store.root.exists() else []
        states.append(len(runs))
        found = {name: content for name, content in everything(store).items() if name[0] != "."}
        assert found.items() <= whole.items()
        assert len(found) == 2 * len(runs)
        assert not list(store.root.glob(".import*"))
        if not finished:
            for run in runs:
                store.remove(run.record.key)
    assert states == sorted(states)
    assert set(states) == {0, 1, 2}
    assert everything(store) == whole


# --- files that must not come in


def test_a_file_that_is_no_zip_or_not_whole_is_refused(store, there, file):
    assert "no such file" in refused(store, file)
    export_runs([save(there, name, queries=200) for name in ("a", "b")], file)
    whole = file.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert "whole" in refused(store, file)  # the end of arrays.npz may look like that of a zip
    file.write_bytes(b"hello")
    assert "not a whole zip file" in refused(store, file)
    for place in (len(whole) // 4, len(whole) // 2):  # inside a stored array, and inside another
        file.write_bytes(
            whole[:place] + bytes(byte ^ 255 for byte in whole[place : place + 8]) + whole[place + 8 :]
        )
        refused(store, file)
    assert not store.root.exists() or not [f for f in store.root.iterdir() if f.name[0] != "."]


@pytest.mark.parametrize(
    "name",
    [
        "../0123456789abcdef/record.json",
        "/0123456789abcdef/record.json",
        "0123456789abcdef/../../evil",
        "0123456789abcdef\\record.json",
        "0123456789ABCDEF/record.json",
        "0123456789abcdef/record.json/",
        "0123456789abcdef/sub/record.json",
        "0123456789abcdef/",
        "0123456789abcdef/other.json",
        "0123456789abcdef/record.json\n",
        "C:evil",
        "readme.txt",
    ],
)
def test_only_files_of_runs_may_be_inside(store, file, tmp_path, name):
    pack(file, contents(), extra=[(name, b"x")])
    assert "is not a file of a run" in refused(store, file)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["runs.zip"]


def test_links_are_refused(store, file):
    link = zipfile.ZipInfo("0123456789abcdef/record.json")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    pack(file, contents(), extra=[(link, "/etc/passwd")])
    assert "is a link" in refused(store, file)


def test_entries_that_come_twice_or_are_encrypted_are_refused(store, file):
    runs = contents()
    (name,) = runs
    with pytest.warns(UserWarning, match="Duplicate"):
        pack(file, runs, extra=[(f"{name}/record.json", b"{}")])
    assert "is there twice" in refused(store, file)
    pack(file, runs)
    raw = bytearray(file.read_bytes())
    start = raw.index(b"PK\x01\x02")
    raw[start + 8] |= 1
    file.write_bytes(raw)
    assert "encrypted" in refused(store, file)
    pack(file, runs, compression=zipfile.ZIP_LZMA)
    assert "packed in another way" in refused(store, file)


def test_bombs_are_refused_before_they_go_off(store, file, monkeypatch):
    (name,) = contents()
    pack(file, {name: (b"0" * (transfer.RECORD_BYTES + 1), b"")})
    assert file.stat().st_size < 100_000
    assert f"unpacks to {transfer.RECORD_BYTES + 1} bytes" in refused(store, file)
    monkeypatch.setattr(transfer, "TOTAL_BYTES", 1000)
    pack(file, contents())
    assert "bytes, more than 1000" in refused(store, file)


def test_a_bomb_that_lies_about_its_size_is_refused(store, file):
    runs = contents(text="0" * 1_000_000)
    pack(file, runs)
    raw = file.read_bytes()
    assert raw.count(struct.pack("<I", 1_000_000)) == 2  # local header and directory
    file.write_bytes(raw.replace(struct.pack("<I", 1_000_000), struct.pack("<I", 100)))
    refused(store, file)


def test_arrays_that_unpack_to_too_much_are_refused(store, file, monkeypatch):
    pack(file, contents(arrays={"zeros": np.zeros(1_000_000)}))
    assert file.stat().st_size < 50_000
    monkeypatch.setattr(valid.check_arrays, "__defaults__", (1_000_000,))
    assert "arrays.npz holds more than 1000000 bytes" in refused(store, file)


def test_what_the_disk_cannot_hold_is_refused(store, file, monkeypatch):
    pack(file, contents())
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    assert "has 10 left" in refused(store, file)


@pytest.mark.parametrize(
    ("manifest", "line"),
    [
        ("{", "manifest.json cannot be read"),
        ("[]", "manifest.json cannot be read"),
        ('{"format": "other", "runs": {}}', "format 'other'"),
        (json.dumps({"format": transfer.FORMAT, "runs": {}}), "but not in both"),
        (json.dumps({"format": transfer.FORMAT, "runs": {"x": {"files": {}}}}), "cannot be read"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(store, file, manifest, line):
    pack(file, contents(), manifest)
    assert line in refused(store, file)


def test_another_hash_is_refused(store, file):
    (name, (text, arrays)) = next(iter(contents().items()))
    digest = {part: {"sha256": "0" * 64} for part in ("record.json", "arrays.npz")}
    manifest = json.dumps({"format": transfer.FORMAT, "runs": {name: {"files": digest}}})
    pack(file, {name: (text, arrays)}, manifest)
    assert "another sha256" in refused(store, file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}/record.json", text)
    assert "no manifest.json" in refused(store, file)


WRONG = {
    "record.json: 'profile' is not one of": {"profile": None},
    "its key starts with cccc": {"key": "c" * 64},
    "'results.map@all.image->text' is not the mean of its arrays": {
        "results__map@all": {"image->text": [0.9, 0.9], "text->image": [0.1, 0.1]},
        "averages__map@all": [0.5, 0.5],
    },
    "is not (2, 9) numbers": {"sizes": {direction: {"queries": 9, "database": 7} for direction in WAYS}},
}


@pytest.mark.parametrize("line", WRONG)
def test_a_record_that_is_not_sound_is_refused_by_field(store, file, line):
    pack(file, contents(**WRONG[line]) | contents("b"))
    assert line in refused(store, file)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": NaN}', "\x00", "[" * 200_000, '{"schema": 1}', '{"seeds": [1e999]}']
)
def test_a_record_that_cannot_be_read_is_refused(store, file, text):
    pack(file, contents(text=text or " "))
    assert "record.json" in refused(store, file)


def npz(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def header(text):
    text = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


PICKLED = io.BytesIO()
np.savez(PICKLED, x=np.array([{}], dtype=object))
BAD_ARRAYS = {
    "Python objects": PICKLED.getvalue(),
    "is not as long": npz(
        **{"x.npy": header("{'descr': '<f8', 'fortran_order': False, 'shape': (9,)}") + b"0"}
    ),
    "not as long ": npz(**{"x.npy": header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}")}),
    "has no header": npz(**{"x.npy": header("os.system('true')")}),
    "cannot be read ": npz(**{"x.npy": b"hello"}),
    "is no array": npz(**{"x.txt": header("{'descr': '<f8', 'fortran_order': False, 'shape': (0,)}")}),
    "arrays.npz": npz(),
    "cannot be read (": b"not a zip",
}


@pytest.mark.parametrize("line", BAD_ARRAYS)
def test_arrays_that_numpy_must_not_or_cannot_read_are_refused(store, file, line):
    (name, (text, _)) = next(iter(contents().items()))
    pack(file, {name: (text, BAD_ARRAYS[line])})
    assert line.strip() in refused(store, file)


def test_checking_does_not_change_a_run(there):
    run = save(there)
    before = everything(there)
    assert check_run(run.folder) == run.record
    assert everything(there) == before


@pytest.mark.parametrize("part", ["record.json", "arrays.npz"])
@pytest.mark.parametrize("differing", ["refuse", "keep", "replace"])
def test_a_run_that_cannot_be_read_now_is_kept(store, there, file, part, differing):
    run = save(store)
    export_runs([save(there, shift=0.01)], file)
    (run.folder / part).rename(store.root / "aside")
    (run.folder / part).symlink_to(part)  # too many levels of symbolic links, also for root
    with pytest.raises(BenchmarkError, match=f"{run.folder.name}: cannot be read now"):
        import_runs(store, file, differing)
    (store.root / "aside").rename(run.folder / part)
    assert store.find(run.record.key).record == run.record
