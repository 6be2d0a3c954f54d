"""The store: whole records or none, whatever happens, and a clear word about damaged ones."""

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.disk import default_root, owner
from benchmark.errors import BenchmarkError
from benchmark.records.store import DamagedRecordError, Store
from tests.stored import make_record, save

KEY = "ab" * 32
OTHER = "cd" * 32


def record(key=KEY, **changes):
    return make_record(key=key, **changes)


ARRAYS = {"ap/map@all/image->text": np.linspace(0, 1, 10, dtype=np.float32).reshape(2, 5)}


def visible(store):
    return sorted(f.name for f in store.root.iterdir() if not f.name.startswith("."))


def test_what_is_saved_is_found_again_exactly(store):
    content = record(chance={"image->text": 0.1 + 0.2, "text->image": 1e-300})
    saved = store.save(content, ARRAYS)
    found = store.find(KEY)
    assert found.record == saved.record == replace(content, arrays_sha256=saved.record.arrays_sha256)
    assert found.folder == store.root / KEY[:16]
    for name, array in found.arrays().items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype
    assert list(found.arrays("ap/map@all/image->text")) == list(ARRAYS)
    assert store.find(OTHER) is None


def test_saving_again_replaces_and_leaves_nothing_behind(store):
    first = store.save(record(seeds=[1, 3]), ARRAYS)
    (store.partial(KEY) / "phase").write_text("checkpoint")
    kept = store.save(record(seeds=[1, 2]), ARRAYS)
    assert kept.record == store.find(KEY).record == first.record  # unless it is told to replace it
    (store.partial(KEY) / "phase").write_text("checkpoint")
    store.save(record(seeds=[1, 2]), ARRAYS, replace=True)
    assert store.find(KEY).record.seeds == (1, 2)
    assert [f.name for f in store.root.iterdir() if f.name != ".partial"] == [KEY[:16]]
    assert list((store.root / ".partial").iterdir()) == []


def test_all_is_in_order_of_time_and_names_the_damaged(store):
    store.save(record(started="2025-03-01"), ARRAYS)
    store.save(record(OTHER, started="2025-02-01"), ARRAYS)
    (store.root / "zz").mkdir()
    (store.root / "a file").write_text("not a run")
    runs, problems = store.all()
    assert [run.record.key for run in runs] == [OTHER, KEY]
    assert len(problems) == 1
    assert str(store.root / "zz") in problems[0]
    assert Store(store.root / "nowhere").all() == ([], [])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("record.json", b'{"schema": 1, "key"'),
        ("record.json", b"[]"),
        ("record.json", b'{"schema": 1}'),
        ("record.json", b"\xff\xfe"),
        ("record.json", None),
        ("arrays.npz", None),
        ("record.json", json.dumps(record(OTHER).to_json()).encode()),
    ],
)
def test_a_damaged_record_is_named_in_one_line(store, file, content):
    folder = store.save(record(), ARRAYS).folder
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(DamagedRecordError) as caught:
        store.find(KEY)
    assert str(folder) in str(caught.value)
    assert "--force" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_damaged_arrays_are_named(store, keep):
    run = store.save(record(), {"x": np.arange(1000.0)})
    file = run.folder / "arrays.npz"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DamagedRecordError, match=r"arrays\.npz"):
        run.arrays()


def test_pickles_are_neither_written_nor_read(store):
    with pytest.raises(TypeError, match="Python objects"):
        store.save(record(), {"x": np.array([{}])})
    assert visible(store) == []
    run = store.save(record(), ARRAYS)
    np.savez(run.folder / "arrays.npz", x=np.array([{}]))
    with pytest.raises(DamagedRecordError):
        run.arrays()


def test_a_record_that_is_not_json_is_not_stored(store):
    with pytest.raises(ValueError, match="JSON compliant"):
        store.save(record(notes={"loss": float("nan")}), ARRAYS)
    assert visible(store) == []


def test_a_results_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(BenchmarkError, match="cannot be written") as caught:
            Store(root).prepare()
        assert str(root) in str(caught.value)


def test_the_root_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.delenv("BENCHMARK_RESULTS")
    assert default_root().parts[-2:] == ("results", "runs")


# Saves in forked children. Every step that reaches the disk is counted, and the n-th one kills the child.
KILLED = """
    import json, os, shutil, signal, sys
    from pathlib import Path
    import numpy as np
    from benchmark.records.store import Store
    from tests.stored import make_record

    KEY, replaced = sys.argv[2], sys.argv[3] == "True"
    store = Store(Path(sys.argv[1]))
    store.prepare()

    def save(seed):
        found = store.find(KEY)
        if found is None or found.record.seeds != (1, seed):
            (store.partial(KEY) / "phase").write_text("checkpoint")
            store.save(make_record(key=KEY, seeds=[1, seed]), {"x": np.full(1000, float(seed))}, replace=True)

    def state():
        found = store.find(KEY)
        if found is None:
            return None
        seed = found.record.seeds[1]
        assert (found.arrays("x")["x"] == np.full(1000, float(seed))).all()
        return seed

    def attempt(moment):
        steps = 0
        def counted(function):
            def step(*arguments, **options):
                nonlocal steps
                steps += 1
                if steps == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)
            return step
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.fsync, Path.rename, Path.mkdir = counted(os.fsync), counted(Path.rename), counted(Path.mkdir)
        shutil.rmtree = counted(shutil.rmtree)
        with store.lock(KEY):
            save(2)
        os._exit(0)

    story, code, moment = [], -9, 0
    while code:
        shutil.rmtree(store.root / KEY[:16], ignore_errors=True)
        if replaced:
            save(3)
        moment += 1
        code = attempt(moment)
        after_kill = state()
        story.append([code, after_kill, attempt(0), state()])
    names = sorted(f.name for f in store.root.iterdir() if not f.name.startswith((".partial", ".locks")))
    print(json.dumps({"story": story, "names": names}))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
@pytest.mark.parametrize("replaced", [False, True])
def test_kill_at_any_step_leaves_a_whole_record_or_none(tmp_path, replaced):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "runs"), KEY, str(replaced)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    *killed, last = result["story"]
    assert len(killed) > 8  # folder, two files, their folder, the rename, the root, what is tidied away
    assert last == [0, 2, 0, 2]
    for code, after_kill, again, at_last in killed:
        assert code == -9
        assert after_kill in ((3, 2) if replaced else (None, 2))
        assert (again, at_last) == (0, 2)  # the next identical command completes
    states = [step[1] for step in killed]
    assert states[0] == (3 if replaced else None)
    assert 2 in states  # killed after the rename: the record is there and whole
    assert result["names"] == [KEY[:16]]


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_a_pipe_in_place_of_a_record_is_not_waited_for(store):
    file = save(store, "a").folder / "record.json"
    file.unlink()
    os.mkfifo(file)
    runs, problems = store.all()
    assert not runs
    assert len(problems) == 1
    assert "not a regular file" in problems[0]


TWICE = """
    import json, os, shutil, sys
    from pathlib import Path
    from benchmark.records.store import Store
    from tests.faults.kills import crash_at
    from tests.stored import save

    store, killed = Store(Path(sys.argv[1])), []
    steps = (Path, "rename"), (os, "fsync"), (shutil, "rmtree")

    def attempt(moment, seeds):
        return crash_at(moment, lambda: 0 if save(store, "a", seeds=seeds) else 1, steps)

    save(store, "a")
    key = save(store, "a").record.key
    first = 0
    while True:
        first += 1
        if not attempt(first, (3, 4)):
            break
        second = 0
        while True:
            second += 1
            code = attempt(second, (5, 6))
            found = store.find(key)
            assert found is not None, (first, second)
            assert len(found.arrays()) == 4, (first, second)
            killed.append([first, second])
            if not code:
                break
            shutil.rmtree(store.folder(key))
            for left in store.root.glob(".new-*"):
                shutil.rmtree(left)
            save(store, "a")
            attempt(first, (3, 4))
    print(json.dumps(killed))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_two_kills_one_after_the_other_lose_nothing(tmp_path):
    """No lock is held, so that only looking for the run, not the lock, can put it back."""
    command = [sys.executable, "-c", textwrap.dedent(TWICE), str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) > 60


def test_a_run_that_is_moved_aside_just_after_it_was_in_the_way_is_replaced(store, monkeypatch):
    rename, met = Path.rename, []

    def in_the_way_once(path, target):
        if path.name.startswith(".new") and not met:
            met.append(path)
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", in_the_way_once)
    run = save(store, "a")
    assert met
    assert store.find(run.record.key).record == run.record


TOGETHER = """
    import sys
    from pathlib import Path
    from benchmark.records.store import Store
    from tests.stored import save

    store, number = Store(Path(sys.argv[1])), int(sys.argv[2])
    for _ in range(25):
        run = save(store, "a", seeds=(number, number + 1))
        assert run.record.seeds == (number, number + 1)
"""


def test_saves_of_one_run_without_a_lock_lose_nothing(store):
    """As on a disk of several machines that has no locks."""
    command = [sys.executable, "-c", textwrap.dedent(TOGETHER), str(store.root)]
    options = {"stderr": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[2]}
    processes = [subprocess.Popen([*command, str(number)], **options) for number in range(4)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, "".join(errors)
    (run,), problems = store.all()
    assert problems == []
    assert len(run.arrays()) == 4
    save(store, "a")
    assert [f.name for f in store.root.iterdir() if f.name[:5] == ".new-"] == []


def test_what_another_writer_has_begun_is_left_to_it(store):
    run = save(store, "a")
    alive, dead, elsewhere = (store.root / f".new-{run.folder.name}-{end}-01234567" for end in owners())
    for place in (alive, dead, elsewhere):
        place.mkdir()
    save(store, "a")
    assert [place.exists() for place in (alive, dead, elsewhere)] == [True, False, True]
    then = time.time() - 2 * 86400
    os.utime(elsewhere, (then, then))
    save(store, "a")
    assert not elsewhere.exists()


def owners():
    """Host and process of somebody who is alive here, who is dead, and who is on another machine."""
    host = owner().split("-")[0]
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    return f"{host}-{os.getpid()}", f"{host}-{dead.pid}", f"other-{dead.pid}"


def test_a_new_run_that_gets_no_name_leaves_the_old_one(store, monkeypatch):
    old = save(store, "a")
    rename = Path.rename

    def refuse(path, target):
        if target == old.folder and not path.name.endswith("replaced"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="No space"):
        save(store, "a", seeds=(7, 8))
    assert store.find(old.record.key).record == old.record
    assert [f.name for f in store.root.iterdir() if f.name[:5] == ".new-"] == []


def test_a_run_that_is_removed_stays_removed(store):
    run = save(store, "a")
    shutil.copytree(run.folder, store.temporary(run.record.key, "replaced"))
    with store.lock(run.record.key):
        store.remove(run.record.key)
    assert store.find(run.record.key) is None


def test_who_gets_the_lock_finds_what_a_dead_holder_had_moved_aside(store):
    run = save(store, "a")
    run.folder.rename(store.temporary(run.record.key, "replaced"))
    with store.lock(run.record.key):
        assert store.find(run.record.key).record == run.record
    run.folder.rename(store.temporary(run.record.key, "replaced"))
    assert [each.record for each in store.all()[0]] == [run.record]


def test_a_second_process_waits_for_the_same_run_only(store, holder):
    process, waited = holder(KEY, 0.5), []
    with store.lock(OTHER, lambda: waited.append("other")):
        pass
    assert waited == []
    with store.lock(KEY, lambda: waited.append("same")):
        assert process.wait(timeout=5) == 0
    assert waited == ["same"]


def test_a_killed_holder_frees_the_lock(store, holder):
    process = holder(KEY)
    process.kill()
    process.wait()
    begin = time.monotonic()
    with store.lock(KEY):
        pass
    assert time.monotonic() - begin < 5


def test_the_latest_run_is_the_one_started_last(store):
    with pytest.raises(BenchmarkError, match="no stored run in"):
        store.starting_with("latest")
    store.save(record(started="2025-01-02T00:00:00"), ARRAYS)
    store.save(record(OTHER, started="2025-01-01T00:00:00"), ARRAYS)
    assert store.starting_with("latest").record.key == KEY
    (store.folder(KEY) / "arrays.npz").unlink()
    assert store.starting_with("latest").record.key == OTHER
