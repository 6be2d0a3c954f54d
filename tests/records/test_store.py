"""The store: whole records or none, whatever happens, and a clear word about damaged ones."""

import json
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.disk import default_root
from benchmark.errors import BenchmarkError
from benchmark.records.store import DamagedRecordError, Store
from tests.stored import make_record

KEY = "ab" * 32
OTHER = "cd" * 32


def record(key=KEY, **changes):
    return make_record(key=key, **changes)


ARRAYS = {"ap/map@all/image->text": np.linspace(0, 1, 10, dtype=np.float32).reshape(2, 5)}


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "runs")
    made.prepare()
    return made


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
    store.save(record(seeds=[1, 3]), ARRAYS)
    (store.partial(KEY) / "phase").write_text("checkpoint")
    store.save(record(seeds=[1, 2]), ARRAYS)
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
            store.save(make_record(key=KEY, seeds=[1, seed]), {"x": np.full(1000, float(seed))})

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
        assert after_kill in ((None, 3, 2) if replaced else (None, 2))
        assert (again, at_last) == (0, 2)  # the next identical command completes
    states = [step[1] for step in killed]
    assert states[0] == (3 if replaced else None)
    assert 2 in states  # killed after the rename: the record is there and whole
    assert result["names"] == [KEY[:16]]


LOCKED = """
    import sys, time
    from pathlib import Path
    from benchmark.records.store import Store

    with Store(Path(sys.argv[1])).lock(sys.argv[2]):
        print("held", flush=True)
        time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def holder(store, tmp_path):
    script = tmp_path / "locked.py"
    script.write_text(textwrap.dedent(LOCKED))

    def hold(seconds):
        command = [sys.executable, str(script), str(store.root), KEY, str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "held\n"
        return process

    return hold


def test_a_second_process_waits_for_the_same_run_only(store, holder):
    process, waited = holder(0.5), []
    with store.lock(OTHER, lambda: waited.append("other")):
        pass
    assert waited == []
    with store.lock(KEY, lambda: waited.append("same")):
        assert process.wait(timeout=5) == 0
    assert waited == ["same"]


def test_a_killed_holder_frees_the_lock(store, holder):
    process = holder(60)
    process.kill()
    process.wait()
    begin = time.monotonic()
    with store.lock(KEY):
        pass
    assert time.monotonic() - begin < 5
