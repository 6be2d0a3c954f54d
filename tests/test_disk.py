"""A file is written whole or not at all, by one function that every writer uses."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchmark import disk
from benchmark.disk import published_folder, whole, write_text

ROOT = Path(__file__).parent.parent


def test_a_file_appears_when_it_is_complete(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")
    with whole(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")

    def fail():
        with whole(file) as stream:
            stream.write(b"new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_content_is_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (steps.append("flushed"), fsync(number)))
    monkeypatch.setattr(Path, "replace", lambda part, file: (steps.append("named"), replace(part, file)))
    write_text(tmp_path / "a.txt", "ä\n")
    assert steps == ["flushed", "named"]
    assert (tmp_path / "a.txt").read_bytes() == "ä\n".encode()


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    """Not even in one process, or with one process id on two machines that share the disk."""
    file = tmp_path / ("long" * 60)
    with whole(file) as first, whole(file) as second:
        assert first.name != second.name
        first.write(b"1")
        second.write(b"2")
    assert file.read_bytes() == b"1"  # the one that ended last


def test_a_killed_writer_leaves_no_file_of_that_name(tmp_path):
    code = """
        import os, sys
        from pathlib import Path
        from benchmark.disk import whole
        with whole(Path(sys.argv[1])) as stream:
            stream.write(b"half")
            stream.flush()
            os._exit(9)
    """
    call = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a.bin")]
    assert subprocess.run(call, check=False).returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a.bin.")
    assert left.name.endswith(".part")


def test_no_other_module_renames_a_temporary_file():
    """Runs are folders and renamed as such; a download goes on with its part, so that has a fixed name."""
    own = {"benchmark/disk.py", "datasets/reading/files.py"}
    renames = re.compile(r"\w\.replace\(\w+\)|os\.(?:replace|rename)\(|mkstemp|NamedTemporaryFile")
    found = {
        file.relative_to(ROOT).as_posix()
        for top in ("benchmark", "methods", "datasets")
        for file in (ROOT / top).rglob("*.py")
        if renames.search(file.read_text())
    }
    assert found == own


def test_the_published_tables_are_the_checkouts_or_the_installed_copy(tmp_path, monkeypatch):
    assert published_folder() == ROOT / "results" / "published"
    monkeypatch.setattr(disk, "__file__", str(tmp_path / "benchmark" / "disk.py"))
    assert published_folder() is None
    (tmp_path / "benchmark" / "_published").mkdir(parents=True)
    assert published_folder() == tmp_path / "benchmark" / "_published"
