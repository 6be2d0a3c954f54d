"""Disks that are full or cannot be written, streams that are closed, memory that runs out: one line each."""

import errno
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmark.disk import whole
from benchmark.errors import memory_line
from benchmark.records.record import RunRecord
from benchmark.records.store import Store
from tests.stored import make_run, save

RUN = ("run", "--method", "toy", "--dataset", "blobs", "--seeds", "1,2")


@contextmanager
def mounted(folder, options):
    """A small file system of its own, or a skipped test where nobody may mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    call = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(call, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount on this machine")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(folder):
    """The same folder, read-only; root may write whatever its permissions are."""
    for call in (
        ["mount", "--bind", str(folder), str(folder)],
        ["mount", "-o", "remount,bind,ro", str(folder)],
    ):
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no folder can be made read-only here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def hidden(root):
    """What is left of unfinished writing."""
    return [f.name for f in root.rglob("*") if f.name.startswith((".new", ".import")) or f.suffix == ".part"]


# --- disks


@pytest.mark.parametrize("room", [28, 36, 44, 60])
def test_a_full_disk_is_one_line_and_the_run_can_be_repeated(world, capsys, room):
    """Whichever of the files a run writes finds no room."""
    with mounted(world.results, "size=400k"):
        Store().prepare()
        filler = world.results / "filler"
        filler.write_bytes(b"0" * (400 - room) * 1024)
        code, _, err = world.call(capsys, *RUN, "--quiet", "--force")
        assert code == 2, "there is room after all"
        lines = [line for line in err.splitlines() if not line.startswith("WARNING")]
        assert len(lines) == 1
        assert lines[0].startswith(f"error: {world.results}")
        assert "No space left on device" in lines[0]
        assert world.stored == hidden(world.results) == []
        filler.unlink()
        assert world.call(capsys, *RUN)[0] == 0
        assert len(world.stored) == 1
        run = Store().all()[0][0]
        assert run.arrays()


@pytest.mark.parametrize("name", ["record.json", "arrays.npz"])
def test_no_room_for_a_run_leaves_nothing(tmp_path, monkeypatch, name):
    store = Store(tmp_path)
    old = save(store, seeds=(1, 2))
    document, arrays = make_run(started="2026")

    def full(file):
        if file.name.endswith(name):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("benchmark.records.store.flush", full)
    with pytest.raises(OSError, match=str(old.folder)):
        store.save(RunRecord.from_json(document), arrays)
    assert hidden(tmp_path) == []
    monkeypatch.undo()
    assert store.find(old.record.key).record == old.record


def test_a_file_is_named_by_its_name_and_not_by_a_temporary_one(tmp_path):
    with pytest.raises(OSError, match="report") as caught, whole(tmp_path / "none" / "report.md"):
        pass
    assert caught.value.filename == str(tmp_path / "none" / "report.md")
    with pytest.raises(OSError, match="report") as caught, whole(tmp_path / "report.md"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "report.md")
    with pytest.raises(OSError, match="other"), whole(tmp_path / "report.md"):
        (tmp_path / "other").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_can_be_read_and_nothing_else(world, capsys):
    assert world.call(capsys, *RUN)[0] == 0
    (name,) = world.stored
    good = world.folder / "runs.zip"
    assert world.call(capsys, "results", "export", good)[0] == 0
    with read_only(world.results):
        for words in (RUN, ("results",), ("results", "show", name), ("results", "timings")):
            assert world.call(capsys, *words)[0] == 0
        for words in (
            (*RUN, "--force"),
            ("results", "rm", name),
            ("results", "import", good),
            ("results", "export", world.results / "x.zip"),
            ("report", "methods", "--dataset", "blobs", "--methods", "toy", "--seeds", "1,2", "--stored",
             "--output", world.results / "reports"),
        ):  # fmt: skip
            code, _, err = world.call(capsys, *words)
            assert code == 2, words
            assert err.count("error: ") == 1
            line = err.splitlines()[-1]
            assert line.startswith("error: ")
            assert str(world.results) in line
            assert "Read-only file system" in line
    assert world.stored == [name]


@pytest.mark.parametrize("words", [("results", "gc"), ("results", "rm", "{name}")])
def test_what_may_not_be_removed_is_one_line(world, capsys, monkeypatch, words):
    assert world.call(capsys, *RUN)[0] == 0
    (name,) = world.stored
    Store().partial(name)

    def refused(self, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "rename", refused)
    monkeypatch.setattr("shutil.rmtree", lambda path, *_, **__: refused(path))
    code, _, err = world.call(capsys, *(word.format(name=name) for word in words))
    assert code == 2
    assert err.startswith(f"error: {world.results}")
    assert err.endswith("Permission denied\n")


# --- streams


def shell(world, line):
    """A command line with redirections; exit code, standard output and error as far as they are left."""
    command = f"{sys.executable} {world.folder / 'drive.py'} {line}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=world.folder,
        env={**os.environ, **world.variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "words", ["results", "results --json", "list methods", "show toy", "--help", " ".join(RUN)]
)
def test_a_full_output_is_one_line(world, words):
    code, _, err = shell(world, f"{words} > /dev/full")
    assert code == 2
    assert err.splitlines()[-1] == "error: standard output: No space left on device"
    assert "Traceback" not in err


def test_a_closed_output_is_told_before_anything_is_computed(world):
    code, _, err = shell(world, f"{' '.join(RUN)} >&-")
    assert (code, err) == (2, "error: standard output: closed; the result has nowhere to go\n")
    assert world.fits == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "2>&- <&-"])
def test_a_run_does_without_standard_error(world, closed):
    code, out, _ = shell(world, f"{' '.join(RUN)} {closed}")
    assert code == 0
    assert "Toy on Blobs" in out
    assert len(world.stored) == 1
    code, out, _ = shell(world, f"results show none {closed}")
    assert (code, out) == (2, "")


def test_an_error_in_json_finds_its_way_past_a_full_output(world):
    code, _, err = shell(world, "results show none --json > /dev/full")
    assert code == 2
    assert err.startswith("error: no stored run starts with 'none'")


# --- memory


SAID = {
    "numpy": MemoryError("Unable to allocate 3.00 GiB for an array with shape (9,) and data type float32"),
    "bare": MemoryError(),
    "torch": RuntimeError("[enforce fail at alloc_cpu.cpp:115] data. DefaultCPUAllocator: not enough memory"),
    "older torch": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    "c++": RuntimeError("std::bad_alloc"),
    "cuda": RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"),
    "linker": ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    "threads": RuntimeError("can't start new thread"),
}


@pytest.mark.parametrize("error", SAID.values(), ids=SAID)
@pytest.mark.parametrize("place", ["benchmark.runs.compute.fit_and_score", "benchmark.runs.runner.load"])
def test_memory_that_runs_out_is_one_line(world, capsys, monkeypatch, error, place):
    def fail(*_):
        raise error

    monkeypatch.setattr(place, fail)
    code, out, err = world.call(capsys, *RUN, "--quiet")
    lines = [line for line in err.splitlines() if not line.startswith("WARNING")]
    assert (code, out, len(lines)) == (2, "", 1)
    assert lines[0].startswith("error: out of memory")
    in_training = "compute" in place and not isinstance(error, ImportError)
    assert ("try --replicas alone" in lines[0]) == in_training
    assert world.stored == hidden(world.results) == []


def test_a_bug_is_not_taken_for_a_lack_of_memory(world, monkeypatch):
    assert memory_line(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) == ""
    assert memory_line(ValueError("out of memory")) == ""

    def fail(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("benchmark.runs.compute.fit_and_score", fail)
    from benchmark.cli.main import main

    with pytest.raises(RuntimeError, match="mat1"):
        main([*RUN, "--quiet"])


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_a_process_that_may_have_no_more_memory_says_so(world):
    """Where torch cannot even be loaded, or has no room to train."""
    command = f"ulimit -v 400000; exec {sys.executable} {world.folder / 'drive.py'} {' '.join(RUN)} --quiet"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=world.folder,
        env={**os.environ, **world.variables, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        pytest.skip("this torch does with little memory")
    if done.returncode < 0 or done.returncode > 128:
        pytest.skip("a library ends the process itself where it gets no memory")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "error: out of memory" in done.stderr
