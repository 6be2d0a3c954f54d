"""Removing runs and clearing up: exactly what may go, and nothing that anybody works on."""

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.errors import BenchmarkError
from benchmark.records.store import Store
from benchmark.records.upkeep import collect, remove_runs, size
from benchmark.training.checkpoint import _file, load_phase, save_phase
from tests.stored import save

NOBODY = "0123456789abcdef"
DAY = 86400


def names(store):
    return sorted(str(f.relative_to(store.root)) for f in store.root.rglob("*"))


def file(path, content="x" * 10, days=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def old(path, days=2):
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def test_runs_are_removed_by_the_beginning_of_their_key(store):
    a, b, c = (save(store, name) for name in "abc")
    file(store.partial(a.record.key) / "phase.npz")
    removed = remove_runs(store, [a.record.key[:8], b.folder.name, a.folder.name])
    assert [run.folder for run in removed] == [a.folder, b.folder]
    assert [run.folder for run in store.all()[0]] == [c.folder]
    assert not any(".new" in name or "phase" in name for name in names(store))


def test_removal_is_all_or_nothing(store, holder):
    a, b = save(store, "a"), save(store, "b")
    for keys, line in (
        ([a.folder.name, NOBODY], "no stored run starts with"),
        ([a.folder.name, ""], "an empty key"),
    ):
        with pytest.raises(BenchmarkError, match=line):
            remove_runs(store, keys)
    holder(b.record.key)
    with pytest.raises(BenchmarkError, match=f"run {b.folder.name} is being worked on"):
        remove_runs(store, [a.folder.name, b.folder.name])
    assert len(store.all()[0]) == 2


def test_a_run_killed_in_removal_is_whole_or_gone(store, monkeypatch):
    run = save(store)
    with monkeypatch.context() as patched:
        patched.setattr(
            "benchmark.records.store.shutil.rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            remove_runs(store, [run.folder.name])
    assert store.find(run.record.key) is None
    assert [each.what for each in collect(store).removed] == ["leftover", "lock of no run"]
    assert names(store) == [".locks"]


def rubbish(store):
    """A store with everything that may go, and everything that must stay; both as sets of names."""
    run = save(store, "a")
    key = run.folder.name
    go = {
        file(store.root / ".partial" / key / "phase.npz").parent,
        file(store.root / f".new-{key}-123-removed" / "record.json").parent,
        old(file(store.root / f".new-{key}-elsewhere-77-0123abcd" / "record.json").parent),
        file(store.root / ".import-x_1" / NOBODY / "record.json").parent.parent,
        file(store.root / ".shared" / NOBODY / "old.npz", days=31),
        file(store.root / ".locks" / f"{NOBODY}.lock", ""),
    }
    stay = {
        file(store.root / ".partial" / ("f" * 16) / "phase.npz"),
        file(store.root / ".shared" / NOBODY / "new.npz", days=29),
        file(store.root / ".locks" / f"{key}.lock", ""),
        file(store.root / ".locks" / f"{'f' * 16}.lock", ""),
        file(store.root / "notes" / "record.json"),
        file(store.temporary(key) / "record.json"),  # of a process that is alive
        file(store.root / f".new-{key}-elsewhere-77-4567abcd" / "record.json"),
        file(store.root / ".new-mine" / "thesis.tex"),
        file(store.root / ".partial" / "mine" / "thesis.tex", days=99),
        file(store.root / ".locks" / "mine.lock"),
        file(store.root / ".shared" / "mine" / "thesis.tex", days=99),
        file(store.root / "fits.log", days=99),
        run.folder / "arrays.npz",
    }
    return go, stay


def test_what_nobody_needs_goes_and_all_else_stays(store):
    go, stay = rubbish(store)
    before, total = names(store), sum(map(size, go))
    dry = collect(store, dry_run=True)
    assert names(store) == before
    assert {each.path for each in dry.removed} == go
    found = collect(store)
    assert set(found.removed) == set(dry.removed)
    assert sum(each.bytes for each in found.removed) == total == 50
    assert not any(path.exists() for path in go)
    assert all(path.exists() for path in stay)
    assert (found.unfinished, found.unfinished_bytes) == (1, 10)
    assert collect(store).removed == ()


def test_nothing_is_made_where_nothing_is(tmp_path):
    for dry_run in (True, False):
        assert collect(Store(tmp_path / "nowhere"), dry_run=dry_run).removed == ()
    assert not (tmp_path / "nowhere").exists()


def test_what_another_process_works_on_is_left_alone(store, holder):
    run = save(store)
    key = run.folder.name
    kept = (
        file(store.root / ".partial" / key / "phase.npz"),
        file(store.root / f".new-{key}-1" / "record.json"),
    )
    importing = file(store.root / ".import-1" / "x")
    (run.folder / "arrays.npz").write_text("")
    holder(key)
    holder("import")
    holder(NOBODY)
    for dry_run in (True, False):
        found = collect(store, damaged=True, dry_run=dry_run)
        assert found.removed == ()
        assert found.busy == (key, "import", NOBODY)
    assert all(path.exists() for path in (*kept, importing, store.root / ".locks" / f"{NOBODY}.lock"))


def test_a_lock_can_be_taken_after_its_file_was_removed(store):
    with store.lock(NOBODY):
        pass
    assert [each.what for each in collect(store).removed] == ["lock of no run"]
    with store.lock(NOBODY), store.try_lock(NOBODY) as free:
        assert not free
    with store.try_lock(NOBODY) as free:
        assert free


def test_damaged_runs_go_only_if_asked(store):
    whole, text, arrays, misplaced = (save(store, name) for name in "abcd")
    (text.folder / "record.json").write_text("{")
    (arrays.folder / "arrays.npz").write_bytes((arrays.folder / "arrays.npz").read_bytes()[:300])
    misplaced.folder.rename(store.root / NOBODY)
    kept = collect(store)
    assert kept.removed == ()
    assert [text.folder.name in line or NOBODY in line for line in kept.damaged] == [True, True]
    wanted = {text.folder, arrays.folder, store.root / NOBODY}
    dry = collect(store, damaged=True, dry_run=True)
    assert wanted <= {each.path for each in dry.removed}
    found = collect(store, damaged=True)
    assert {each.path for each in found.removed if each.what == "damaged run"} == wanted
    assert [run.folder for run in store.all()[0]] == [whole.folder]
    assert not list(store.root.glob(".new*"))


def test_what_cannot_be_read_now_is_no_damage(store, monkeypatch):
    """Whatever the system says but "it is not there" passes: the run may be sound."""
    whole, text, arrays, many = (save(store, name) for name in "abcd")
    for place in (text.folder / "record.json", arrays.folder / "arrays.npz"):
        place.unlink()
        place.symlink_to(place.name)  # too many levels of symbolic links, also for root
    read = Path.read_text
    lost = many.folder.rename(store.temporary(many.record.key, "replaced"))

    def without_descriptors(path, *arguments, **options):
        if path.parent == lost:
            raise OSError(errno.EMFILE, "Too many open files")
        return read(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", without_descriptors)
        for damaged in (False, True):
            found = collect(store, damaged=damaged)
            assert {each.what for each in found.removed} <= {"lock of no run"}
            assert (found.restored, found.damaged) == ((), ())
            places = sorted(map(str, (text.folder, arrays.folder, lost)))
            assert sorted(line.partition(":")[0] for line in found.unreadable) == places
            assert all("cannot be read now" in line for line in found.unreadable)
        assert len(store.all()[1]) == 2
    assert collect(store).restored == (many.folder.name,)
    assert {run.folder for run in store.all()[0]} == {whole.folder, many.folder}


def test_a_run_that_was_about_to_be_replaced_is_put_back(store):
    run = save(store)
    left = run.folder.rename(store.root / f".new-{run.folder.name}-replaced")
    assert collect(store, dry_run=True).restored == (run.folder.name,)
    assert left.exists()
    found = collect(store)
    assert (found.restored, found.removed) == ((run.folder.name,), ())
    assert store.find(run.record.key).record == run.record
    (store.root / left.name).mkdir()
    assert [each.path for each in collect(store).removed] == [left]  # the run is there: this is a leftover


def test_links_are_not_followed(store, tmp_path):
    outside = file(tmp_path / "outside" / "thesis.tex", days=99)
    (store.root / ".shared").mkdir()
    (store.root / ".shared" / NOBODY).symlink_to(outside.parent)
    (store.root / f".new-{NOBODY}-1").symlink_to(outside.parent)
    (store.root / "fedcba9876543210").symlink_to(outside.parent)
    assert collect(store, older_than=0, damaged=True).removed == ()
    assert outside.exists()


def test_reading_a_shared_phase_is_a_use(store):
    folder = store.root / ".shared" / NOBODY
    for name in ("used", "unused"):
        save_phase(folder, name, {"w": torch.ones(1, 2)}, [3], {"loss": [[0.5]]})
        old(_file(folder, name), 40)
    params, epochs, _ = load_phase(folder, "used", torch.device("cpu"))
    np.testing.assert_array_equal(params["w"], np.ones((1, 2)))
    assert epochs == [3]
    used, unused = _file(folder, "used"), _file(folder, "unused")
    assert time.time() - used.stat().st_mtime < DAY  # whether or not the disk keeps access times
    assert load_phase(folder, "never", torch.device("cpu")) is None
    assert [each.path.name for each in collect(store).removed] == [unused.name]
    assert collect(store, older_than=0).removed[0].path.name == used.name
    assert not folder.exists()
