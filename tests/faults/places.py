"""Full and read-only disks, streams that are closed or full, too little memory, and hostile servers."""

import os
import resource
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from tests.datasets.test_files import BLOB, HOSTILE, Remote, Server
from tests.faults.grounds import ROOT, contents, one
from tests.faults.kills import stored
from tests.faults.trials import Answer, Job, Verdict, call, judge, place

run = partial(subprocess.run, capture_output=True, text=True, check=False)


@contextmanager
def mounted(folder: Path, *options: str):
    """A file system at a folder; yields why it could not be mounted, else nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    done = run([mount, *options, folder]) if mount else None
    if done is None or done.returncode:
        yield f"not mounted: {done.stderr.strip() if done else 'no mount'}"
        return
    try:
        yield ""
    finally:
        run(["umount", "-l", folder])


def _commands(ground: Path, disk: Path) -> tuple[tuple[object, ...], ...]:
    return (
        one(ground),
        (*one(ground), "--force"),
        ("results", "import", ground / "zip" / "runs.zip"),
        ("results", "export", disk / "out.zip", "--replace"),
        ("results", "gc", "--older-than", "0"),
        ("results", "rm", "latest"),
        ("results",),
        ("data", "describe", "wikipedia", "--source", "standin", "--data-option", "scale=0.02"),
        ("results", "array", "latest", "ap/map@all/image->text", disk / "array.npz"),
    )


def full(number: int, seed: int, ground: str) -> list[Verdict]:
    """One command on a disk with some kilobytes left; nothing is lost, and with room it completes."""
    rng = np.random.default_rng([seed, number])
    with place() as folder, mounted(folder / "disk", "-t", "tmpfs", "-o", "size=2m", "trial") as problem:
        if problem:
            return [("skipped", problem)]
        disk = folder / "disk"
        os.environ |= {"BENCHMARK_RESULTS": f"{disk}/results", "BENCHMARK_CACHE": f"{disk}/cache"}
        if rng.integers(2):
            shutil.copytree(Path(ground) / "store" / "results", disk / "results")
        before = contents(disk / "results") if (disk / "results").exists() else {}
        commands = _commands(Path(ground), disk)
        command = commands[number % len(commands)]
        free = int(rng.choice((0, 0, 4096, 8192, 16384, 32768, 65536)))
        with (disk / "filling").open("wb", buffering=0) as filling:
            try:
                while True:
                    filling.write(bytes(4096))
            except OSError:
                filling.truncate(max(0, filling.tell() - free))
        first = call(*command)
        verdict, detail = judge(first)
        detail = f"{' '.join(map(str, command))[:100]}, {free} bytes free: {detail}"
        (disk / "filling").unlink()
        if verdict not in ("accepted", "refused"):
            return [(verdict, detail)]
        if "rm" not in command and not before.items() <= contents(disk / "results").items():
            return [("wrong", f"{detail}; a run was lost")]
        again = judge(call(*command))
        if again[0] != "accepted" and (before or command[0] == "run"):
            return [("wrong", f"{detail}; with room again: {again}")]
        return [(verdict, detail)]


def read_only(number: int, ground: str) -> list[Verdict]:
    """One command on a store that cannot be written."""
    with place() as folder:
        (folder / "results").mkdir()
        shutil.copytree(Path(ground) / "store" / "results", folder / "sound" / "results")
        with mounted(folder / "disk", "--bind", f"{folder}/sound") as problem:
            done = run(["mount", "-o", "remount,ro,bind", folder / "disk"])
            if problem or done.returncode:
                return [("skipped", problem or "not mounted read-only")]
            disk = folder / "disk"
            os.environ |= {"BENCHMARK_RESULTS": f"{disk}/results", "BENCHMARK_CACHE": f"{disk}/cache"}
            command = _commands(Path(ground), disk)[number]
            verdict, detail = judge(call(*command))
            if len(stored(disk / "results")) != 2:
                return [("wrong", f"{command}: the store has changed")]
            return [(verdict, f"{' '.join(map(str, command))[:100]}: {detail}")]


STREAMS = (">&-", "2>&-", "<&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1", "| true")
SAID = ("results", "results --json", "list methods", "results show latest", "results rm zz", "--help", "RUN")


def streams(number: int, ground: str) -> list[Verdict]:
    """A real process whose standard streams are closed, full or left by their reader."""
    with place() as folder:
        shutil.copytree(Path(ground) / "store" / "results", folder / "results")
        streams_, command = STREAMS[number % len(STREAMS)], SAID[number // len(STREAMS)]
        command = " ".join(one(Path(ground))) if command == "RUN" else command
        line = f"{{ {sys.executable} -m benchmark {command}; echo $? >{folder}/code; }} {streams_}"
        if "2>" not in streams_:
            line = f"{{ {line}; }} 2>{folder}/err"
        run(["bash", "-c", line], cwd=ROOT)
        err = (folder / "err").read_text() if (folder / "err").exists() else ""
        code = int((folder / "code").read_text())
        verdict, detail = judge(Answer(code, "", err))
        if code in (1, 2) and verdict == "wrong" and (code == 1 or "2>" in streams_):
            verdict, detail = "refused", ""  # nobody is there to hear it, or nowhere to write it
        if "Exception ignored" in err or (code == 120):
            verdict, detail = "wrong", "Python complains when it ends"
        return [(verdict, f"{command[:60]} {streams_}: {detail}")]


def memory(number: int, seed: int, ground: str) -> list[Verdict]:
    """A command of more than the memory there is; `ulimit -v` is some MB above what is in use."""
    more = int(np.random.default_rng([seed, number]).integers(1, 400)) << 20
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    commands = (
        ("run", "--method", "cmcp", "--dataset", "websearch", "--source", "standin", "--quiet"),
        ("data", "describe", "xmedia", "--source", "standin"),
        (*one(Path(ground)),),
        ("data", "describe", "emoji"),
        ("results", "import", f"{ground}/zip/runs.zip"),
    )
    command = commands[number % len(commands)]
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    with place():
        resource.setrlimit(resource.RLIMIT_AS, (min(used + more, hard), hard))
        try:
            answer = call(*command)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        verdict, detail = judge(answer)
        return [(verdict, f"{' '.join(command)[:80]} with {more >> 20} MB: {detail}")]


WAYS = ("full", "wrong", "pointer", "short", "404", "norange", "endless", "shifted", "stops-at-once")
WAYS += ("breaks-once", "breaks-always", *HOSTILE)


def server(number: int, seed: int) -> list[Verdict]:
    """`data fetch` from a server that misbehaves, from nothing or from what an earlier attempt left."""
    from benchmark.datasets.reading import files
    from benchmark.datasets.wikipedia import Wikipedia

    rng, way = np.random.default_rng([seed, number]), WAYS[number % len(WAYS)]
    files.PATIENCE = files.Patience(connection=2, silence=0.5, answer=1, window=0.5, rate=4096)
    with place() as folder, Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        Wikipedia.remotes = (Remote("x.mat", (running.url(way),), blob=BLOB, limit=10_000_000),)
        if left := int(rng.choice((0, 0, 1000, 600_000, 700_000))):
            part = folder / "data" / "x.mat.part"
            part.parent.mkdir()
            part.write_bytes(rng.bytes(left))
        (folder / "data").mkdir(exist_ok=True)
        verdict, detail = judge(call("data", "fetch", "wikipedia", "--data-root", folder / "data"))
        running.shutdown()
        found = [file for file in folder.rglob("x.mat") if files.git_blob_id(file) != BLOB]
        if found or (verdict == "accepted" and not list(folder.rglob("x.mat"))):
            verdict, detail = "wrong", "what lies there is not the file"
        return [(verdict, f"{way}, {left} bytes left: {detail}")]


def jobs(seed: int, ground: Path, minutes: float):
    """Trials of all kinds; quick ones leave out most of the streams."""
    many, where = minutes >= 2, str(ground)
    for number in range(int(6 * minutes) if many else 3):
        yield Job("disk full", number, full, (number, seed, where), 60)
    for number in range(len(_commands(ground, ground)) if many else 3):
        yield Job("read-only disk", number, read_only, (number, where), 60)
    for number in range(0, len(STREAMS) * len(SAID), 1 if many else 13):
        yield Job("standard streams", number, streams, (number, where), 60)
    for number in range(int(3 * minutes) if many else 2):
        yield Job("little memory", number, memory, (number, seed, where), 60)
    for number in range(2 * len(WAYS) if many else 3):
        yield Job("hostile server", number, server, (number, seed), 40)
