"""Processes that are killed, at any moment and at every step on the disk, and several on one grid."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmark.cli.main import main
from benchmark.records.store import Store
from tests.faults.grounds import contents, grid
from tests.faults.trials import Job, Verdict, ended, forked, place
from tests.stored import save


def undisturbed(ground: str) -> dict:
    """What the grid leaves if nothing disturbs it; computed once per process."""
    if ground not in _UNDISTURBED:
        with place() as folder:
            assert ended(forked(lambda: main(list(grid(Path(ground)))))) == 0
            _UNDISTURBED[ground] = contents(folder / "results")
    return _UNDISTURBED[ground]


_UNDISTURBED: dict[str, dict] = {}


def finished(ground: str, root: Path) -> Verdict:
    """Whether a store holds what it should."""
    try:
        same = contents(root) == undisturbed(ground)
    except AssertionError as error:
        return "wrong", str(error)[:200]
    left = [f.name for f in root.iterdir() if f.name.startswith(".new-")]
    if not same or left:
        return "wrong", f"other bits than undisturbed, or leftovers {left}"
    return "accepted", ""


def killed(number: int, seed: int, ground: str, fresh: bool) -> list[Verdict]:
    """Kill the grid's command three times at most, each time at a random moment; then it completes."""
    rng = np.random.default_rng([seed, number, fresh])
    command = list(grid(Path(ground)))
    with place() as folder:
        for _ in range(rng.integers(1, 4)):
            if fresh:
                program = [sys.executable, "-m", "benchmark", *command]
                process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(rng.uniform(0, 8))
                process.kill()
                process.wait()
            else:
                child = forked(lambda: main(command))
                time.sleep(rng.uniform(0, 1.2))
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        code = ended(forked(lambda: main(command)))
        if code != 0:
            return [("hang" if code is None else "wrong", f"afterwards the command ends with {code}")]
        return [finished(ground, folder / "results")]


def together(number: int, ground: str, processes: int) -> list[Verdict]:
    """Several processes on one grid: none fails, each run is saved by one of them."""
    with place() as folder:
        log, kept = folder / "saves", Store.save

        def noted(store, record, *arguments, **options):
            with log.open("a") as stream:
                stream.write(f"{record.key}\n")
            return kept(store, record, *arguments, **options)

        def work() -> int:
            Store.save = noted
            return main(list(grid(Path(ground))))

        codes = [ended(child) for child in [forked(work) for _ in range(processes)]]
        if codes != [0] * processes:
            return [("hang" if None in codes else "wrong", f"exit codes {codes}")]
        saved = log.read_text().split()
        if len(saved) != len(set(saved)):
            return [("wrong", f"computed twice: {saved}")]
        return [finished(ground, folder / "results")]


STEPS = [(os, name) for name in ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir")]
STEPS += [(Path, name) for name in ("rename", "replace", "mkdir", "unlink")] + [(shutil, "rmtree")]


def crash_at(moment: int, work: Callable[[], int], steps=STEPS) -> int:
    """Do some work in a child that ends without a word just before so many steps on the disk."""

    def counted() -> int:
        left = [moment]

        def count(function):
            def step(*arguments, **options):
                left[0] -= 1
                if not left[0]:
                    os._exit(9)
                return function(*arguments, **options)

            return step

        for place_, name in steps:
            setattr(place_, name, count(getattr(place_, name)))
        return work()

    return ended(forked(counted))


def stored(root: Path) -> dict[str, tuple]:
    """Seeds and arrays of every run, by key; a damaged one raises."""
    return {key: (facts["seeds"], len(arrays)) for key, (facts, arrays) in contents(root).items()}


def crashed(operation: str, ground: str) -> list[Verdict]:
    """Crash an operation at each of its steps: nothing is lost, and the same operation then completes."""
    verdicts = []
    for moment in range(1, 200):
        with place() as folder:
            store = Store(folder / "results")
            a = save(store, "a").record.key
            b = save(store, "b").record.key
            work = _work(operation, store, a, Path(ground))
            before = stored(store.root)
            with place() as other:
                shutil.copytree(store.root, other / "results", dirs_exist_ok=True)
                there = Store(other / "results")
                assert ended(forked(_work(operation, there, a, Path(ground)))) == 0
                after = stored(there.root)
            os.environ["BENCHMARK_RESULTS"] = str(store.root)
            code = crash_at(moment, work)
            verdicts.append(_kept(store, moment, before, after, (a, b)))
            again = ended(forked(_work(operation, store, a, Path(ground))))
            if again == 2 and operation == "rm" and a not in stored(store.root):
                again = 0  # it is gone already, and rm says so
            if again != 0 or stored(store.root) != after:
                verdicts[-1] = "wrong", f"step {moment}: then it ends with {again}, or otherwise"
            if code == 0:
                return verdicts[:-1]
    return verdicts


def _kept(store, moment, before, after, keys) -> Verdict:
    """Every run is as before or as after, and none is lost on the way."""
    for key in {*before, *after, *keys}:
        try:
            run = store.find(key)
            found = run and (run.record.to_json()["seeds"], len(run.arrays()))
        except Exception as error:  # noqa: BLE001 - damaged, unreadable or a bug: lost
            return "wrong", f"step {moment}: {error}"
        if found not in (before.get(key), after.get(key)):
            return "wrong", f"step {moment}: run {key[:16]} is neither as before nor as after"
    return "accepted", ""


def _work(operation: str, store: Store, key: str, ground: Path) -> Callable[[], int]:
    """What an operation does in the child; what it finds is prepared first."""
    at = ["--results", str(store.root)]
    if operation == "import":
        return lambda: main(["results", "import", f"{ground}/zip/runs.zip", "--replace", *at])
    if operation == "rm":
        return lambda: main(["results", "rm", key[:16], *at])
    if operation == "gc":
        if not (store.root / ".shared").exists():  # of what is cleared away, one of each
            _litter(store, key)
        return lambda: main(["results", "gc", "--older-than", "0", *at])
    name, seeds = ("c", (1, 2)) if operation == "save" else ("a", (3, 4))
    return lambda: 0 if save(store, name, seeds=seeds) else 1


def _litter(store: Store, key: str) -> None:
    for name in (Path(".partial", key[:16]), Path(".shared", "0123456789abcdef"), ".import-x", ".locks"):
        (store.root / name).mkdir(parents=True, exist_ok=True)
        (store.root / name / f"{'9' * 16}.lock").write_text("")
    save_c = save(store, "c").folder  # it lost its name to a save that was interrupted
    save_c.rename(store.root / f".new-{save_c.name}-gone-999999999-01234567-replaced")


def jobs(seed: int, ground: Path, minutes: float):
    """Trials of all three kinds; how many kills depends on the time there is."""
    for operation in ("save", "forced save", "import", "rm", "gc"):
        yield Job(f"crash at a step: {operation}", 0, crashed, (operation, str(ground)), 400)
    for number in range(max(1, int(minutes))):
        for processes in (2, 4):
            yield Job(f"{processes} processes", number, together, (number, str(ground), processes), 120)
    for number in range(max(3, int(6 * minutes))):
        yield Job("kill -9", number, killed, (number, seed, str(ground), False), 120)
    for number in range(int(minutes / 2)):
        yield Job("kill -9, from the start", number, killed, (number, seed, str(ground), True), 120)
