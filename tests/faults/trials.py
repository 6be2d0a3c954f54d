"""What a trial may end in, and worker processes in which it may hang, crash or want all memory."""

import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

BAD = ("wrong", "traceback", "hang", "crash")
VERDICTS = ("refused", "accepted", *BAD, "skipped")
MEMORY = 4 << 30
SECONDS = 10


class Answer(NamedTuple):
    """Exit code and both streams of a command."""

    code: int
    out: str
    err: str


Verdict = tuple[str, str]
"""One of VERDICTS and, where there is something to say, what."""


class Job(NamedTuple):
    """Something for a worker to do: ``function(*arguments)`` returns the verdicts of one or more trials."""

    kind: str
    number: int
    function: Callable[..., list[Verdict]]
    arguments: tuple
    seconds: float = SECONDS

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.number}"


def call(*arguments: object) -> Answer:
    """Run a command in this process; what native libraries print is seen as well."""
    from benchmark.cli.main import main

    kept = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        for number, stream in ((1, out), (2, err)):
            os.dup2(stream.fileno(), number)
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:  # noqa: BLE001 - whatever it is, it is a verdict
            traceback.print_exc()
            code = 1
        finally:
            for number, stream in ((1, sys.stdout), (2, sys.stderr)):
                stream.flush()
                os.dup2(kept[number - 1], number)
                os.close(kept[number - 1])
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
    return Answer(code, *texts)


def judge(answer: Answer, *, as_json: bool = False) -> Verdict:
    """What a finished command deserves."""
    lines = answer.err.strip().splitlines() or [""]
    if "Traceback (most recent call last)" in answer.err:
        places = [line.strip() for line in lines if line.strip().startswith("File ")]
        return "traceback", f"{lines[-1][:200]} ({places[-1] if places else ''})"
    if answer.code < 0 or answer.code > 128:
        return "crash", f"exit {answer.code}: {lines[-1][:200]}"
    document = None
    if as_json:
        try:
            document = json.loads(answer.out, parse_constant=lambda word: int(f"no JSON: {word}"))
        except ValueError as error:
            return "wrong", f"exit {answer.code}, output is not JSON ({error})"
    if answer.code == 0:
        return "accepted", ""
    said = [line for line in lines if line.startswith("error: ")]
    error = document.get("error") if isinstance(document, dict) else said[0] if len(said) == 1 else None
    if answer.code == 2 and error and (as_json or not answer.out):
        return "refused", str(error)
    return "wrong", f"exit {answer.code}, {len(said)} error lines, last: {lines[-1][:200]}"


def forked(work: Callable[[], int]) -> int:
    """Start a child process that does some work in silence and ends with its exit code; its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        return child
    code = 70
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        code = work()
    except BaseException:  # noqa: BLE001 - whatever it is, it is a verdict
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int, seconds: float = 60) -> int | None:
    """The exit code of a child, negative for a signal; ``None`` if it had to be killed for being late."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


@contextlib.contextmanager
def place(**variables: object) -> Iterator[Path]:
    """An empty folder, with results and cache in it unless told otherwise."""
    folder = Path(tempfile.mkdtemp(prefix="trial-"))
    wanted = {"BENCHMARK_RESULTS": folder / "results", "BENCHMARK_CACHE": folder / "cache", **variables}
    os.environ.update({name: str(value) for name, value in wanted.items()})
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def serve(pipe) -> None:
    """Do jobs until the pipe is closed."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import torch

    import benchmark.cli.main
    import benchmark.evaluation.scoring
    import benchmark.runs.runner
    import benchmark.studies.study  # noqa: F401  # all of it before the first limit runs

    torch.set_num_threads(1)
    pipe.send("ready")
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(function(*arguments))
        except BaseException:  # noqa: BLE001 - whatever it is, it is a verdict
            pipe.send([("wrong", f"the trial itself failed: {traceback.format_exc(limit=-3)}")])


class Worker:
    """A process that does jobs, and is replaced after a hang or a crash."""

    def __init__(self) -> None:
        self.process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.recv()

    def do(self, job: Job) -> list[Verdict]:
        """The verdicts of one job."""
        if self.process is None:
            self._start()
        try:
            self.pipe.send((job.function, job.arguments))
            if self.pipe.poll(job.seconds):
                return self.pipe.recv()
            verdict = ("hang", f"no answer in {job.seconds} s")
        except (EOFError, OSError):
            self.process.join(5)
            verdict = ("crash", f"the process ended with {self.process.exitcode}")
        self.close()
        return [verdict]

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None
