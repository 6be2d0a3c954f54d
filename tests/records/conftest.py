"""What tests of stored runs share: an empty store, and another process that holds a lock of it."""

import subprocess
import sys

import pytest

from benchmark.records.store import Store

LOCKED = """if True:
    import sys, time
    from pathlib import Path
    from benchmark.records.store import Store

    with Store(Path(sys.argv[1])).lock(sys.argv[2]):
        print("held", flush=True)
        time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "runs")
    made.prepare()
    return made


@pytest.fixture
def holder(store):
    """Start another process that holds a lock, until the test ends at the latest."""
    started = []

    def hold(key, seconds=60):
        command = [sys.executable, "-c", LOCKED, str(store.root), key, str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()
